use super::erase::{Erase, Erased};
use crate::auth::{Standing, User, UserChange, UserStore, subject_taken};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::principal::Scopes;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Accounts in memory.
#[derive(Debug)]
pub(super) struct MemoryUserStore {
    pub(super) users: Mutex<Users>,
    erased: Arc<Erased>,
    /// What else is kept of users.
    kept: Vec<Arc<dyn Erase>>,
}

impl MemoryUserStore {
    pub(super) fn new(erased: Arc<Erased>, kept: Vec<Arc<dyn Erase>>) -> Self {
        Self { users: Mutex::default(), erased, kept }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Users {
    by_id: HashMap<UserId, User>,
    subjects: BTreeMap<String, UserId>,
}

impl Users {
    fn find(&self, user: UserId, operation: &'static str) -> Result<User> {
        let found = self.by_id.get(&user).cloned();
        found.ok_or_else(|| Error::not_found(operation, "user"))
    }
}

#[async_trait]
impl UserStore for MemoryUserStore {
    async fn resolve(&self, subject: &str, new: User) -> Result<User> {
        let mut users = self.users.lock();
        if let Some(user) = users.subjects.get(subject) {
            return users.find(*user, "user.resolve");
        }
        users.subjects.insert(subject.to_owned(), new.user);
        users.by_id.insert(new.user, new.clone());
        Ok(new)
    }

    async fn link(&self, user: UserId, subject: &str) -> Result<()> {
        let mut users = self.users.lock();
        if users.find(user, "user.link")?.standing == Standing::Erased {
            return Err(Error::not_found("user.link", "user"));
        }
        match users.subjects.get(subject) {
            Some(owner) if *owner != user => Err(subject_taken()),
            _ => {
                users.subjects.insert(subject.to_owned(), user);
                Ok(())
            }
        }
    }

    async fn subjects(&self, user: UserId) -> Result<Vec<String>> {
        let users = self.users.lock();
        let of_user = users.subjects.iter().filter(|(_, owner)| **owner == user);
        Ok(of_user.map(|(subject, _)| subject.clone()).collect())
    }

    async fn user(&self, user: UserId) -> Result<User> {
        self.users.lock().find(user, "user.read")
    }

    async fn change(&self, user: UserId, change: UserChange) -> Result<User> {
        let mut users = self.users.lock();
        let changed = change.apply(users.find(user, "user.change")?)?;
        users.by_id.insert(user, changed.clone());
        Ok(changed)
    }

    async fn erase(&self, user: UserId) -> Result<()> {
        let mut users = self.users.lock();
        let known = users.find(user, "user.erase")?;
        let erased = User { scopes: Scopes::NONE, standing: Standing::Erased, ..known };
        users.by_id.insert(user, erased);
        users.subjects.retain(|_, owner| *owner != user);
        self.erased.add(user);
        for kept in &self.kept {
            kept.erase(user);
        }
        Ok(())
    }
}
