//! Sessions with PostgreSQL that cannot leak: the only way to a connection.
//!
//! Work is handed over as a closure, so nobody holds a session for longer than the work takes: `read` for statements
//! that stand alone, `write` for a transaction. A transaction is repeated as a whole when the server undid it because
//! it met another one, and when its connection was lost before the commit was sent; so the closure may run several
//! times, and must do nothing that cannot be done again. When the answer to a commit is lost, the record that went
//! with it says whether it took effect.

mod access;
mod admission;
mod config;
mod connection;
mod fault;
mod keeper;
mod ledger;
mod listen;
mod pool;
mod preflight;
mod session;
mod statistics;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;
mod work;

pub use access::Priority;
pub use config::DatabaseConfig;
pub use statistics::{AcquireLatency, DatabaseStatistics, WaitingRequests};

pub(crate) use access::Access;
pub(crate) use ledger::TABLE as OPERATION_TABLE;
pub(crate) use listen::{Heard, Listener};
pub(crate) use transaction::{Parameters, Transaction};

use crate::config::{DatabaseKind, DatabaseUrl};
use crate::error::{Error, Kind, Result};
use crate::health::Resource;
use connection::Target;
use futures_util::future::BoxFuture;
use pool::Pool;
use session::Taken;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use transaction::Mode;
use work::Inner;

/// How long sessions in use may take to end when the database is closed.
const CLOSE: Duration = Duration::from_secs(5);

/// How soon running out of sessions must be for a warning.
const WARN_WITHIN: Duration = Duration::from_secs(30 * 60);

/// A server database. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

impl Database {
    /// Connects, and sees that the server is one to use and has connections enough. Call it within a Tokio runtime
    /// with time and IO; the connections live on it.
    ///
    /// # Errors
    /// [`Kind::Config`] for an address that is not PostgreSQL's or a server with too few connections; else why there
    /// is no connection: [`Kind::Unavailable`] where the server cannot be reached, [`Kind::Storage`] where it
    /// refuses.
    pub async fn open(url: &DatabaseUrl, config: DatabaseConfig) -> Result<Self> {
        Self::open_in(url, config, None, "database_sessions").await
    }

    /// The same, where every name without a schema means one in `schema`, and the forecast calls its sessions
    /// `sessions`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn open_in(
        url: &DatabaseUrl,
        config: DatabaseConfig,
        schema: Option<&str>,
        sessions: &str,
    ) -> Result<Self> {
        const OPERATION: &str = "database.open";
        if url.kind() != DatabaseKind::Postgres {
            return Err(Error::new(Kind::Config, OPERATION, "the address is not PostgreSQL's"));
        }
        let target = Target::new(url, &config, schema)?;
        let runtime = Handle::current();
        let pool = Pool::new(target, config.connections, config.ping_after, runtime.clone());
        let first = pool.take().await.map_err(|refused| refused.error(OPERATION))?;
        preflight::check(&first.connection, &config).await?;
        first.give_back();
        let forecast = Arc::new(Resource::new(sessions, config.connections as f64, WARN_WITHIN));
        let inner = Arc::new(Inner::new(pool, config, runtime, Arc::clone(&forecast)));
        inner.runtime.spawn(keeper::keep(Arc::downgrade(&inner), forecast));
        Ok(Self(inner))
    }

    /// Puts every write on record from now on: the [table](OPERATION_TABLE) is there.
    pub(crate) fn keep_records(&self) {
        self.0.records.store(true, Ordering::Release);
    }

    /// Says something, and has every connection to come say it before anything else.
    ///
    /// # Errors
    /// What came of it now; then later connections do not say it.
    pub(crate) async fn greet_with(&self, access: Access, sql: &'static str) -> Result<()> {
        let said = self.write(access, |transaction| Box::pin(transaction.batch(sql))).await;
        said.inspect(|()| self.0.pool.target().greet_with(sql))
    }

    /// What the sessions are doing.
    #[must_use]
    pub fn statistics(&self) -> DatabaseStatistics {
        self.0.statistics()
    }

    /// The sessions in use or waited for as something that runs out, for [`Health`](crate::health::Health).
    #[must_use]
    pub fn forecast(&self) -> Arc<Resource> {
        Arc::clone(&self.0.forecast)
    }

    /// Refuses new work, lets what is under way end for five seconds, takes back the rest and closes every
    /// connection.
    pub async fn close(&self) {
        self.0.admission.close();
        let until = Instant::now() + CLOSE;
        while self.0.admission.taken() > 0 && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        for held in self.0.held() {
            self.0.evict(&held, Taken::Closed);
        }
        self.0.pool.close();
    }

    /// Runs statements that only read, each by itself.
    ///
    /// # Errors
    /// Those of the work; `pool_exhausted` and others of a session that was not to be had.
    #[track_caller]
    pub(crate) fn read<'d, 'c, T, F>(
        &'d self,
        access: Access,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<'d, 'c, T, F>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        self.0.run(access, Mode::Read, Location::caller(), work)
    }

    /// Runs a transaction and commits it when the work ends well. An error says by its outcome whether it took
    /// effect.
    ///
    /// # Errors
    /// As [`Self::read`]; and those of the commit.
    #[track_caller]
    pub(crate) fn write<'d, 'c, T, F>(
        &'d self,
        access: Access,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<'d, 'c, T, F>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        self.0.run(access, Mode::Write, Location::caller(), work)
    }

    /// Listens to channels on a connection of its own until the listener is dropped. `heard` is called for each
    /// notification, and with [`Heard::Gap`] after each time that some may have been missed, the first included.
    pub(crate) fn listen(
        &self,
        channels: &[&'static str],
        heard: impl Fn(Heard<'_>) + Send + Sync + 'static,
    ) -> Listener {
        Listener::start(Arc::clone(&self.0.pool), &self.0.runtime, channels, heard)
    }
}
