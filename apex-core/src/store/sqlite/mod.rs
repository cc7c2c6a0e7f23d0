//! Everything in one SQLite file (and, for the content of files and artifacts, a folder beside it): no server, and
//! what was acknowledged survives a crash.
//!
//! One thread writes; what waits is committed together. A few connections read. Several processes on one machine
//! may open the same file, each with a lock by which the others see that it is alive, so that the runs of one that
//! died are taken over at once.

mod artifact;
mod audit;
mod blob;
mod budget;
mod database;
mod erase;
mod error;
mod file;
mod limit;
#[cfg(test)]
#[cfg(feature = "testkit")]
mod loss;
mod mark;
#[cfg(test)]
#[cfg(feature = "testkit")]
mod medium;
mod migration;
mod node;
mod note;
mod portable;
mod reader;
mod row;
mod run_log;
mod run_row;
mod search;
mod session;
mod share;
mod thread;
mod ticket;
mod usage;
mod user;
mod writer;

use super::Stores;
use super::transfer::Portable;
use crate::clock::Clock;
use crate::config::Environment;
use crate::error::Result;
use crate::file::FileLimits;
use crate::id::NodeId;
use crate::run::{LocalWakeup, RunLimits, Wakeup};
use blob::Blobs;
use database::{Database, beside};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a database is and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The database file; made when it is not there, its folder is not.
    pub path: PathBuf,
    /// The folder for the content of files and artifacts; `<path>.files` when absent.
    pub files_folder: Option<PathBuf>,
    /// The environment that the database belongs to: it is marked with it when it is made, and refused where another
    /// mark is found. Production, where nothing is said.
    pub environment: Environment,
    /// What an acknowledged write survives.
    pub synchronous: Synchronous,
    /// What is allowed of runs, logs and inboxes.
    pub runs: RunLimits,
    /// What is allowed of files.
    pub files: FileLimits,
}

impl SqliteOptions {
    /// The defaults for a database at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files_folder: None,
            environment: Environment::default(),
            synchronous: Synchronous::default(),
            runs: RunLimits::default(),
            files: FileLimits::default(),
        }
    }
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A crash of the machine: every commit is synced to the disk.
    #[default]
    Full,
    /// A crash of the process; a crash of the machine may lose the last commits, in order.
    Normal,
}

impl Synchronous {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

/// Opens the stores in a file. It blocks for as long as the disk takes; the stores then work within a tokio
/// runtime. The writer's thread ends when the last of the stores is dropped, after it has answered what waits.
///
/// # Errors
/// `storage_failed` when the path is a folder or lies in none, the file is not a database of ours, is damaged, is
/// of a newer version or cannot be written; `config_invalid` when it belongs to another environment; `unavailable`
/// when another process holds it for too long.
pub fn open(options: &SqliteOptions, clock: Arc<dyn Clock>) -> Result<Stores> {
    open_with(options, clock, Arc::new(LocalWakeup::default()))
}

/// Opens the stores in a file, as [`open`] does, and wakes by `wakeup`.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    options: &SqliteOptions,
    clock: Arc<dyn Clock>,
    wakeup: Arc<dyn Wakeup>,
) -> Result<Stores> {
    let node = NodeId::new(&*clock);
    let folder = options.files_folder.clone().unwrap_or_else(|| beside(&options.path, "files"));
    let blobs = Arc::new(Blobs::new(folder, Arc::clone(&clock)));
    let database = Database::open(options, &blobs, node, &*clock, Arc::clone(&wakeup))?;
    let database = Arc::new(database);
    let rows = portable::SqlitePortable::new(Arc::clone(&database), Arc::clone(&blobs));
    let time = Arc::clone(&clock);
    let stores = Stores {
        node,
        runs: Arc::new(run_log::SqliteRunLog::new(
            Arc::clone(&database),
            Arc::clone(&clock),
            options.runs,
        )),
        wakeup,
        limits: Arc::new(limit::SqliteLimitStore::new(Arc::clone(&database), Arc::clone(&clock))),
        threads: Arc::new(thread::SqliteThreadStore::new(Arc::clone(&database))),
        search: Arc::new(search::SqliteSearchIndex::new(Arc::clone(&database))),
        files: Arc::new(file::SqliteFileStore::new(
            Arc::clone(&database),
            Arc::clone(&blobs),
            clock,
            options.files,
        )),
        artifacts: Arc::new(artifact::SqliteArtifactStore::new(
            Arc::clone(&database),
            Arc::clone(&blobs),
        )),
        tickets: Arc::new(ticket::SqliteTicketStore::new(Arc::clone(&database))),
        sessions: Arc::new(session::SqliteSessionStore::new(Arc::clone(&database))),
        users: Arc::new(user::SqliteUserStore::new(Arc::clone(&database), blobs)),
        audit: Arc::new(audit::SqliteAuditStore::new(Arc::clone(&database))),
        usage: Arc::new(usage::SqliteUsageStore::new(Arc::clone(&database))),
        memory: Arc::new(note::SqliteNoteStore::new(Arc::clone(&database))),
        budgets: Arc::new(budget::SqliteBudgetStore::new(database, time)),
        portable: Portable::default(),
    };
    Ok(stores.kept_in(Arc::new(rows)))
}
