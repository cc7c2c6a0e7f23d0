//! The stores, each behind its own seam, so that tickets can sit in one place and threads in another.

use crate::auth::{AuditStore, AuthStores, SessionStore, TicketStore, UserStore};
use crate::budget::BudgetStore;
use crate::error::{Error, Kind, Result};
use crate::file::{ArtifactStore, FileStore};
use crate::id::{NodeId, RunId, ThreadId};
use crate::limit::LimitStore;
use crate::memory::MemoryStore;
use crate::principal::Principal;
use crate::run::{RunLog, Wakeup};
use crate::thread::{SearchIndex, ThreadStore};
use crate::usage::UsageStore;
use std::sync::Arc;
use transfer::Portable;

pub mod export;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transfer;

/// Where everything is kept. Replace a field to keep that part elsewhere.
#[derive(Debug, Clone)]
pub struct Stores {
    /// This process, as the run log knows it: claim runs in its name, so that others can tell when it has died.
    pub node: NodeId,
    /// Runs, leases, events, checkpoints, inboxes.
    pub runs: Arc<dyn RunLog>,
    /// Hints that a store has something new.
    pub wakeup: Arc<dyn Wakeup>,
    /// Conversations.
    pub threads: Arc<dyn ThreadStore>,
    /// What was said in them, by its words.
    pub search: Arc<dyn SearchIndex>,
    /// What users bring.
    pub files: Arc<dyn FileStore>,
    /// What runs make.
    pub artifacts: Arc<dyn ArtifactStore>,
    /// Tickets.
    pub tickets: Arc<dyn TicketStore>,
    /// Logins.
    pub sessions: Arc<dyn SessionStore>,
    /// Accounts.
    pub users: Arc<dyn UserStore>,
    /// What happened at the door.
    pub audit: Arc<dyn AuditStore>,
    /// Limits that hold over all nodes.
    pub limits: Arc<dyn LimitStore>,
    /// What runs asked of models.
    pub usage: Arc<dyn UsageStore>,
    /// What users have used of their budgets.
    pub budgets: Arc<dyn BudgetStore>,
    /// What agents remember of users.
    pub memory: Arc<dyn MemoryStore>,
    /// Where that is, for [`transfer::copy`].
    pub portable: Portable,
}

impl Stores {
    /// The part of them that lets users in.
    #[must_use]
    pub fn auth(&self) -> AuthStores {
        AuthStores {
            tickets: Arc::clone(&self.tickets),
            sessions: Arc::clone(&self.sessions),
            users: Arc::clone(&self.users),
            audit: Arc::clone(&self.audit),
            limits: Arc::clone(&self.limits),
        }
    }

    /// The same, with the part that lets users in kept where `other` keeps it. Its sessions have to wake by
    /// [`Self::wakeup`].
    #[must_use]
    pub fn with_auth(self, other: &Self) -> Self {
        let AuthStores { tickets, sessions, users, audit, limits } = other.auth();
        let Portable { accounts, logins, .. } = other.portable.clone();
        let portable = Portable { accounts, logins, ..self.portable };
        Self { tickets, sessions, users, audit, limits, portable, ..self }
    }

    /// Deletes a conversation of the user's own, its runs and what they made.
    ///
    /// # Errors
    /// `not_found`; `conflict` while a run of it is open.
    pub async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        // Seen first, so that another user's conversation is not found rather than found empty.
        if self.threads.thread(principal, thread).await?.owner != principal.user() {
            return Err(Error::not_found("stores.forget", "thread"));
        }
        for run in self.runs.forget(principal, thread).await? {
            self.artifacts.delete(principal, run).await?;
        }
        self.threads.delete(principal, thread).await
    }

    /// The same, where all of it is in `rows`.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    fn kept_in(mut self, rows: Arc<dyn transfer::Rows>) -> Self {
        self.portable = Portable::whole(&self, rows);
        self
    }
}

/// The most items that one answer holds, whatever was asked for.
const PAGE_ITEMS: usize = 1_000;

/// About how many bytes of events one page holds.
const PAGE_BYTES: usize = 256 * 1024;

/// The most histories that one claim drops, so that a claim stays short.
const SWEEP: usize = 64;

fn still_open(run: RunId) -> Error {
    Error::new(
        Kind::Conflict,
        "run_log.forget",
        "a run of this conversation has not ended; cancel it first",
    )
    .with("run", run)
}

fn run_taken(run: RunId) -> Error {
    Error::new(
        Kind::Conflict,
        "run_log.start",
        "a run of this id is on record under another request; begin it under a new id",
    )
    .with("run", run)
}
