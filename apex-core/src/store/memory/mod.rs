//! Everything in this process's memory: for tests, and for hosts that need nothing to outlive the process. It keeps
//! what it is given until that is deleted; what it keeps of a run's events is bounded by [`RunLimits`].

mod artifact;
mod audit;
mod erase;
mod file;
mod limit;
mod run_log;
mod session;
mod share;
mod thread;
mod ticket;
mod usage;
mod user;

use super::Stores;
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
    let (shares, erased) = (share::Shares::default(), Arc::new(erase::Erased::default()));
    let runs = Arc::new(run_log::MemoryRunLog::new(
        options.runs,
        Arc::clone(&clock),
        Arc::clone(&wakeup),
        shares.clone(),
        Arc::clone(&erased),
    ));
    let threads =
        Arc::new(thread::MemoryThreadStore::new(shares, Arc::clone(&erased), Arc::clone(&runs)));
    let files = file::MemoryFileStore::new(options.files, Arc::clone(&clock), Arc::clone(&erased));
    let files = Arc::new(files);
    let artifacts =
        Arc::new(artifact::MemoryArtifactStore::new(Arc::clone(&erased), Arc::clone(&runs)));
    let tickets = Arc::new(ticket::MemoryTicketStore::default());
    let usage = Arc::new(usage::MemoryUsageStore::default());
    let kept: Vec<Arc<dyn erase::Erase>> = vec![
        runs.clone(),
        threads.clone(),
        files.clone(),
        artifacts.clone(),
        tickets.clone(),
        usage.clone(),
    ];
    Stores {
        node: NodeId::new(&*clock),
        runs,
        sessions: Arc::new(session::MemorySessionStore::new(Arc::clone(&wakeup))),
        wakeup,
        search: threads.clone(),
        threads,
        files,
        artifacts,
        tickets,
        users: Arc::new(user::MemoryUserStore::new(erased, kept)),
        audit: Arc::new(audit::MemoryAuditStore::default()),
        limits: Arc::new(limit::MemoryLimitStore::new(Arc::clone(&clock))),
        usage,
        portable: None,
    }
}
