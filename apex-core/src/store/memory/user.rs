use crate::auth::{User, UserStore};
use crate::error::{Error, Result};
use crate::id::UserId;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Accounts in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryUserStore {
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    by_id: HashMap<UserId, User>,
    subjects: HashMap<String, UserId>,
}

#[async_trait]
impl UserStore for MemoryUserStore {
    async fn resolve(&self, new: User) -> Result<User> {
        let mut users = self.users.lock();
        if let Some(user) = users.subjects.get(&new.subject) {
            return find(&users, *user, "user.resolve");
        }
        users.subjects.insert(new.subject.clone(), new.user);
        users.by_id.insert(new.user, new.clone());
        Ok(new)
    }

    async fn user(&self, user: UserId) -> Result<User> {
        find(&self.users.lock(), user, "user.read")
    }
}

fn find(users: &Users, user: UserId, operation: &'static str) -> Result<User> {
    users.by_id.get(&user).cloned().ok_or_else(|| Error::not_found(operation, "user"))
}
