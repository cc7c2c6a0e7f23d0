use super::error::Fault;
use crate::error::{Error, Kind, Result};
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A few connections that can only read. A read is one snapshot of the database and never waits for the writer.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    path: PathBuf,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, path: PathBuf) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
            path,
        }
    }

    /// Carries out `work` on one of the runtime's threads for blocking work, as soon as a connection is free.
    pub(super) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || Error::new(Kind::Unavailable, operation, "the store has been closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let connection = self.idle.lock().pop().ok_or_else(closed)?;
        let lent =
            Lent { connection: Some(connection), idle: Arc::clone(&self.idle), _permit: permit };
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            lent.read(work).map_err(|fault| fault.into_error(operation, &path))
        })
        .await
        .map_err(|error| {
            Error::internal(operation, "a database read was broken off").with_source(error)
        })?
    }
}

/// A connection that goes back when it is dropped, also by a panic.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let Some(connection) = &self.connection else {
            return Err(Error::internal("sqlite.read", "a connection was lent twice").into());
        };
        // All statements of one read see the same state.
        let transaction = connection.unchecked_transaction()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.idle.lock().push(connection);
        }
    }
}
