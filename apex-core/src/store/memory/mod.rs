//! Everything in this process's memory: for tests, and for hosts that need nothing to outlive the process. It keeps
//! what it is given until that is deleted; what it keeps of a run's events is bounded by [`RunLimits`].

mod artifact;
mod audit;
mod budget;
mod erase;
mod file;
mod limit;
mod note;
#[cfg(feature = "testkit")]
mod replica;
mod run_log;
mod session;
mod share;
mod thread;
mod ticket;
mod usage;
mod user;

#[cfg(feature = "testkit")]
pub use replica::Replica;

use super::Stores;
use super::transfer::Portable;
use crate::clock::Clock;
use crate::file::FileLimits;
use crate::id::NodeId;
use crate::run::{LocalWakeup, RunLimits, Wakeup};
use std::sync::Arc;

/// What the stores in memory allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Of runs, logs and inboxes.
    pub runs: RunLimits,
    /// Of files.
    pub files: FileLimits,
}

/// Empty stores.
#[must_use]
pub fn open(options: MemoryOptions, clock: Arc<dyn Clock>) -> Stores {
    open_with(options, clock, Arc::new(LocalWakeup::default()))
}

/// Empty stores that wake by `wakeup`.
#[must_use]
pub fn open_with(options: MemoryOptions, clock: Arc<dyn Clock>, wakeup: Arc<dyn Wakeup>) -> Stores {
    Parts::new(options, &clock, &wakeup).into_stores(clock, wakeup)
}

/// Empty stores with a replica that can take their place.
#[cfg(feature = "testkit")]
#[must_use]
pub fn replicated(
    options: MemoryOptions,
    clock: Arc<dyn Clock>,
    wakeup: Arc<dyn Wakeup>,
) -> (Stores, Replica) {
    let parts = Parts::new(options, &clock, &wakeup);
    let replica = Replica::of(&parts, Arc::clone(&clock));
    (parts.into_stores(clock, wakeup), replica)
}

/// The stores by their own types.
struct Parts {
    #[cfg(feature = "testkit")]
    shares: share::Shares,
    #[cfg(feature = "testkit")]
    erased: Arc<erase::Erased>,
    runs: Arc<run_log::MemoryRunLog>,
    threads: Arc<thread::MemoryThreadStore>,
    files: Arc<file::MemoryFileStore>,
    artifacts: Arc<artifact::MemoryArtifactStore>,
    tickets: Arc<ticket::MemoryTicketStore>,
    sessions: Arc<session::MemorySessionStore>,
    users: Arc<user::MemoryUserStore>,
    audit: Arc<audit::MemoryAuditStore>,
    limits: Arc<limit::MemoryLimitStore>,
    usage: Arc<usage::MemoryUsageStore>,
    budgets: Arc<budget::MemoryBudgetStore>,
    notes: Arc<note::MemoryNoteStore>,
}

impl Parts {
    fn new(options: MemoryOptions, clock: &Arc<dyn Clock>, wakeup: &Arc<dyn Wakeup>) -> Self {
        let (shares, erased) = (share::Shares::default(), Arc::new(erase::Erased::default()));
        let runs = Arc::new(run_log::MemoryRunLog::new(
            options.runs,
            Arc::clone(clock),
            Arc::clone(wakeup),
            shares.clone(),
            Arc::clone(&erased),
        ));
        let threads = Arc::new(thread::MemoryThreadStore::new(
            shares.clone(),
            Arc::clone(&erased),
            Arc::clone(&runs),
        ));
        let files =
            file::MemoryFileStore::new(options.files, Arc::clone(clock), Arc::clone(&erased));
        let files = Arc::new(files);
        let artifacts =
            Arc::new(artifact::MemoryArtifactStore::new(Arc::clone(&erased), Arc::clone(&runs)));
        let tickets = Arc::new(ticket::MemoryTicketStore::default());
        let usage = Arc::new(usage::MemoryUsageStore::default());
        let budgets = budget::MemoryBudgetStore::new(Arc::clone(clock), Arc::clone(&erased));
        let budgets = Arc::new(budgets);
        let notes = Arc::new(note::MemoryNoteStore::new(Arc::clone(&erased)));
        let kept: Vec<Arc<dyn erase::Erase>> = vec![
            runs.clone(),
            threads.clone(),
            files.clone(),
            artifacts.clone(),
            tickets.clone(),
            usage.clone(),
            budgets.clone(),
            notes.clone(),
        ];
        Self {
            users: Arc::new(user::MemoryUserStore::new(Arc::clone(&erased), kept)),
            sessions: Arc::new(session::MemorySessionStore::new(Arc::clone(wakeup))),
            audit: Arc::new(audit::MemoryAuditStore::default()),
            limits: Arc::new(limit::MemoryLimitStore::new(Arc::clone(clock))),
            #[cfg(feature = "testkit")]
            shares,
            #[cfg(feature = "testkit")]
            erased,
            runs,
            threads,
            files,
            artifacts,
            tickets,
            usage,
            budgets,
            notes,
        }
    }

    fn into_stores(self, clock: Arc<dyn Clock>, wakeup: Arc<dyn Wakeup>) -> Stores {
        Stores {
            node: NodeId::new(&*clock),
            runs: self.runs,
            wakeup,
            search: self.threads.clone(),
            threads: self.threads,
            files: self.files,
            artifacts: self.artifacts,
            tickets: self.tickets,
            sessions: self.sessions,
            users: self.users,
            audit: self.audit,
            limits: self.limits,
            usage: self.usage,
            budgets: self.budgets,
            memory: self.notes,
            portable: Portable::default(),
        }
    }
}
