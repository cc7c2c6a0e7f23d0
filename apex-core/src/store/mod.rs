//! The stores, each behind its own seam, so that tickets can sit in one place and threads in another.

use crate::auth::{SessionStore, TicketStore, UserStore};
use crate::file::{ArtifactStore, FileStore};
use crate::run::{RunLog, Wakeup};
use crate::thread::ThreadStore;
use std::sync::Arc;

/// Where everything is kept. Replace a field to keep that part elsewhere.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Runs, leases, events, checkpoints, inboxes.
    pub runs: Arc<dyn RunLog>,
    /// Hints that a store has something new.
    pub wakeup: Arc<dyn Wakeup>,
    /// Conversations.
    pub threads: Arc<dyn ThreadStore>,
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
}
