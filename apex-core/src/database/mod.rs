//! Sessions with PostgreSQL that cannot leak: the only way to a connection.
//!
//! Work is handed over as a closure, so nobody holds a session for longer than the work takes. [`Database::read`] is
//! for statements that stand alone, [`Database::snapshot`] for several that must see the same state,
//! [`Database::write`] for a transaction. A transaction is repeated as a whole when the server undid it because it
//! met another one, and when its connection was lost before the commit was sent; so the closure may run several
//! times, and must do nothing that cannot be done again.

// The stores on PostgreSQL use what is not used here.
#![allow(dead_code, unused_imports)]

mod access;
mod admission;
mod config;
mod connection;
mod fault;
mod ledger;
mod listen;
mod pool;
mod session;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;

pub use access::Priority;
pub use config::DatabaseConfig;

pub(crate) use access::Access;
pub(crate) use ledger::TABLE as OPERATION_TABLE;
pub(crate) use listen::{Heard, Listener};
pub(crate) use tokio_postgres::Row;
pub(crate) use tokio_postgres::types::ToSql;
pub(crate) use transaction::{Columns, Parameters, Transaction};

use crate::config::{DatabaseKind, DatabaseUrl};
use crate::error::{Error, Failure, Kind, Outcome, Phase, Repeat, Result};
use admission::Admission;
use connection::{Server, Target};
use futures_util::future::BoxFuture;
use pool::Pool;
use session::Held;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use transaction::Mode;

/// How often a transaction is tried in all.
const TRIES: u32 = 6;

/// The first wait between tries, at most; later ones double.
const BACKOFF: Duration = Duration::from_millis(5);

/// How long the outcome of a commit is looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The database that this task has a session with: asking for a second one could wait for itself.
    static HELD_HERE: usize;
}

/// A server database. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    admission: Admission,
    pool: Arc<Pool>,
    config: DatabaseConfig,
    runtime: Handle,
}

impl Database {
    /// Connects, and sees that the server is one to use and has connections enough. Call it within a Tokio runtime
    /// with time and IO; the connections live on it.
    ///
    /// # Errors
    /// [`Kind::Config`] for an address that is not PostgreSQL's or a server with too few connections; else why there
    /// is no connection: [`Kind::Unavailable`] where the server cannot be reached, [`Kind::Storage`] where it
    /// refuses.
    pub async fn open(url: &DatabaseUrl, config: DatabaseConfig) -> Result<Self> {
        Self::open_in(url, config, None).await
    }

    /// The same, where every name without a schema means one in `schema`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn open_in(
        url: &DatabaseUrl,
        config: DatabaseConfig,
        schema: Option<&str>,
    ) -> Result<Self> {
        const OPERATION: &str = "database.open";
        if url.kind() != DatabaseKind::Postgres {
            return Err(Error::new(Kind::Config, OPERATION, "the address is not PostgreSQL's"));
        }
        let target = Target::new(url, &config, schema)?;
        let runtime = Handle::current();
        let pool = Pool::new(target, config.connections, config.ping_after, runtime.clone());
        let first = pool.take().await.map_err(|refused| refused.error(OPERATION))?;
        first.give_back();
        let admission = Admission::new(&config);
        Ok(Self(Arc::new(Inner { admission, pool, config, runtime })))
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

    /// Runs statements that only read, all of the same state.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[track_caller]
    pub(crate) fn snapshot<'d, 'c, T, F>(
        &'d self,
        access: Access,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<'d, 'c, T, F>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        self.0.run(access, Mode::Snapshot, Location::caller(), work)
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

    /// Closes every connection. Sessions in use end their work first.
    pub async fn close(&self) {
        self.0.pool.close();
    }
}

/// What came of one try.
enum Tried<T> {
    Done(T),
    /// Not, and whether the same may be tried again.
    Not(Error, Option<Repeat>),
    /// The commit was sent, and the answer to it was lost: the value is right if it took effect.
    Unknown(T, Error, Server),
}

impl Inner {
    async fn run<'c, T, F>(
        &self,
        access: Access,
        mode: Mode,
        site: &'static Location<'static>,
        work: F,
    ) -> Result<T>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        let me = std::ptr::from_ref(self) as usize;
        if HELD_HERE.try_with(|held| *held == me).unwrap_or(false) {
            return Err(Error::internal(
                access.operation,
                "a session was asked for while one is held: pass the one there is",
            ));
        }
        let deadline = Instant::now() + self.config.transaction;
        let mut tries = 1;
        loop {
            let (error, repeat) = match self.attempt(access, mode, site, &work, me).await {
                Tried::Done(value) => return Ok(value),
                Tried::Not(error, repeat) => (error, repeat),
                Tried::Unknown(value, error, server) => match self.look_up(access, &server).await {
                    Some(true) => return Ok(value),
                    Some(false) => {
                        (error.with_outcome(Outcome::NotApplied), Some(Repeat::NewConnection))
                    }
                    None => return Err(error),
                },
            };
            let again = matches!(repeat, Some(Repeat::Transaction | Repeat::NewConnection));
            if !again || tries >= TRIES || Instant::now() >= deadline {
                return Err(error);
            }
            let reason = error.failure().unwrap_or(Failure::Unknown);
            let reason = format!("{reason:?}").to_lowercase();
            metrics::counter!("apex_database_retries_total", "reason" => reason).increment(1);
            let longest = BACKOFF * 2_u32.saturating_pow(tries);
            sleep(longest.mul_f64(fastrand::f64())).await;
            tries += 1;
        }
    }

    async fn attempt<'c, T, F>(
        &self,
        access: Access,
        mode: Mode,
        site: &'static Location<'static>,
        work: &F,
        me: usize,
    ) -> Tried<T>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        let session = match self.acquire(access, site).await {
            Ok(session) => session,
            Err(error) => return Tried::Not(error, None),
        };
        let held = &session.held;
        let transaction = Transaction::new(Arc::clone(held), mode);
        let done = HELD_HERE.scope(me, work(&transaction)).await;
        let failed = transaction.first_failure();
        let value = match done {
            Ok(value) => value,
            Err(error) => {
                let repeat = failed.map(|failure| failure.consequence().repeat);
                self.after(failed, held);
                session.undo(failed).await;
                return Tried::Not(error, repeat);
            }
        };
        if let Some(taken) = held.taken_error() {
            return Tried::Not(taken, None);
        }
        if mode == Mode::Read {
            let given_up = held.given_up.load(Ordering::Acquire);
            session.end(!given_up && failed.is_none_or(|f| !f.consequence().discard_connection));
            return Tried::Done(value);
        }
        // The server answers a commit after a failed statement with a rollback, and without an error.
        if failed.is_some() || held.given_up.load(Ordering::Acquire) {
            session.undo(failed).await;
            let error = Error::internal(
                access.operation,
                "the work went on after a failed or forgotten statement; it was undone",
            );
            return Tried::Not(error, None);
        }
        if !held.open.load(Ordering::Acquire) {
            session.end(true);
            return Tried::Done(value);
        }
        if !held.begin_commit() {
            let error = held.taken_error();
            let gone = || Error::internal(access.operation, "the session ended before its work");
            return Tried::Not(error.unwrap_or_else(gone), None);
        }
        let sent = held.send();
        let committed = held.connection.client.batch_execute("COMMIT").await;
        sent.answered();
        match committed {
            Ok(()) => {
                session.end(true);
                Tried::Done(value)
            }
            Err(error) => {
                let failure = fault::failure(&error);
                let error = fault::statement(&error, Phase::Committing, access.operation);
                let server = held.connection.server.clone();
                self.after(Some(failure), held);
                session.end(!failure.consequence().discard_connection);
                if mode == Mode::Snapshot {
                    return Tried::Done(value);
                }
                match error.outcome() {
                    Outcome::Unknown => Tried::Unknown(value, error, server),
                    _ => Tried::Not(error, Some(failure.consequence().repeat)),
                }
            }
        }
    }

    async fn acquire(
        &self,
        access: Access,
        site: &'static Location<'static>,
    ) -> Result<Session<'_>> {
        let deadline = Instant::now() + self.config.acquire;
        let place = self.admission.enter(&access).await?;
        let lease = match timeout_at(deadline, self.pool.take()).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(refused)) => return Err(refused.error(access.operation)),
            Err(_) => {
                return Err(Error::new(
                    Kind::Unavailable,
                    access.operation,
                    "no connection to the database could be made in time; try again",
                )
                .with_failure(Failure::Timeout)
                .with_retry_after(self.config.connect));
            }
        };
        let held = Arc::new(Held::new(access, site, lease, place));
        Ok(Session { held, database: self, ended: false })
    }

    /// What a failure says about the other connections.
    fn after(&self, failure: Option<Failure>, held: &Held) {
        if failure == Some(Failure::ReadOnly) {
            self.pool.distrust(held.connection.server.host);
        }
    }

    /// Whether the operation took effect; none where that cannot be found out.
    async fn look_up(&self, access: Access, server: &Server) -> Option<bool> {
        let id = access.record?;
        let deadline = Instant::now() + LOOK_UP;
        let mut wait = Duration::from_millis(20);
        let found = loop {
            let asked = async {
                let lease = self.pool.take().await.ok()?;
                let answer = ledger::look_up(&lease.connection, server, id).await.ok()?;
                lease.give_back();
                Some(answer)
            };
            match timeout_at(deadline, asked).await {
                Ok(Some(answer)) => break Some(answer),
                Ok(None) if Instant::now() + wait < deadline => sleep(wait).await,
                _ => break None,
            }
            wait = (wait * 2).min(Duration::from_secs(1));
        };
        let outcome = match found {
            Some(true) => "applied",
            Some(false) => "not_applied",
            None => "unknown",
        };
        metrics::counter!("apex_database_outcomes_looked_up_total", "outcome" => outcome)
            .increment(1);
        found
    }
}

/// A session in the hands of its work. Dropping it undoes what was begun.
struct Session<'d> {
    held: Arc<Held>,
    database: &'d Inner,
    ended: bool,
}

impl Session<'_> {
    fn end(mut self, clean: bool) {
        self.ended = true;
        self.held.end(clean);
    }

    async fn undo(mut self, failed: Option<Failure>) {
        let discard = failed.is_some_and(|failure| failure.consequence().discard_connection);
        let clean = !discard && self.held.roll_back().await;
        self.ended = true;
        self.held.end(clean);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let held = Arc::clone(&self.held);
        // Whoever drops it may be on a thread without a runtime, or unwinding.
        self.database.runtime.spawn(async move { held.clean_up().await });
    }
}
