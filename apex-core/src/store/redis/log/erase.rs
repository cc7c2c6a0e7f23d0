//! A user who is erased takes the logs along.

use super::RedisRunLog;
use crate::auth::{User, UserChange, UserStore};
use crate::error::Result;
use crate::id::{RunId, UserId};
use crate::principal::{Principal, Scope, Scopes};
use crate::run::RunLog as _;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Arc;

/// Entries of an inbox that are looked at together.
const PAGE: usize = 256;

/// Accounts in the database; whoever is erased there is erased from the logs, too.
#[derive(Debug)]
pub(in crate::store::redis) struct Users {
    users: Arc<dyn UserStore>,
    log: Arc<RedisRunLog>,
}

impl Users {
    pub(in crate::store::redis) fn new(users: Arc<dyn UserStore>, log: Arc<RedisRunLog>) -> Self {
        Self { users, log }
    }

    /// The runs that a user's inbox still names: all that have not ended are among them, and the rest lapses.
    async fn runs(&self, user: UserId) -> Result<HashSet<RunId>> {
        let owner = Principal::vouched(user, Scopes::USER.with(Scope::Read));
        let (mut runs, mut after) = (HashSet::new(), 0);
        loop {
            let page = self.log.inbox(&owner, after, PAGE).await?;
            let Some(last) = page.entries.last() else {
                return Ok(runs);
            };
            after = last.seq;
            runs.extend(page.entries.iter().map(|entry| entry.run));
        }
    }
}

#[async_trait]
impl UserStore for Users {
    async fn resolve(&self, subject: &str, new: User) -> Result<User> {
        self.users.resolve(subject, new).await
    }

    async fn link(&self, user: UserId, subject: &str) -> Result<()> {
        self.users.link(user, subject).await
    }

    async fn subjects(&self, user: UserId) -> Result<Vec<String>> {
        self.users.subjects(user).await
    }

    async fn user(&self, user: UserId) -> Result<User> {
        self.users.user(user).await
    }

    async fn change(&self, user: UserId, change: UserChange) -> Result<User> {
        self.users.change(user, change).await
    }

    async fn erase(&self, user: UserId) -> Result<()> {
        // Afterwards nobody knows which they were.
        let runs = self.runs(user).await?;
        self.users.erase(user).await?;
        for run in runs {
            self.log.delete(run).await;
        }
        Ok(())
    }
}
