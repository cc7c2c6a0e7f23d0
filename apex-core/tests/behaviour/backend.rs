use apex_core::clock::Clock;
use apex_core::error::Result;
use apex_core::store::sqlite::{SqliteOptions, Synchronous};
use apex_core::store::{Stores, memory, sqlite};
use apex_core::testkit::{Backend, Limits};
use async_trait::async_trait;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// A runtime as a host would have it.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

#[derive(Debug)]
pub(crate) struct Memory;

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let options = memory::MemoryOptions { runs: limits.runs, files: limits.files };
        Ok(memory::open(options, clock))
    }
}

/// Each time in a folder of its own, which goes with the process.
#[derive(Debug, Default)]
pub(crate) struct Sqlite {
    folders: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl Backend for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            // What the disk has to survive is tested apart; here it would only make the suite slow.
            synchronous: Synchronous::Normal,
            runs: limits.runs,
            files: limits.files,
            ..SqliteOptions::new(folder.path().join("apex.db"))
        };
        self.folders.lock().unwrap().push(folder);
        sqlite::open(&options, clock)
    }
}
