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

pub use access::Priority;
pub use config::DatabaseConfig;
pub use statistics::{AcquireLatency, DatabaseStatistics, WaitingRequests};

pub(crate) use access::Access;
pub(crate) use ledger::TABLE as OPERATION_TABLE;
pub(crate) use listen::{Heard, Listener};
pub(crate) use tokio_postgres::Row;
pub(crate) use tokio_postgres::types::ToSql;
pub(crate) use transaction::{Columns, Parameters, Transaction};

use crate::config::{DatabaseKind, DatabaseUrl};
use crate::error::{Error, Failure, Kind, Outcome, Phase, Repeat, Result};
use crate::health::Resource;
use admission::Admission;
use connection::{Server, Target};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pool::Pool;
use session::{Held, Taken};
use statistics::Latencies;
use std::collections::HashMap;
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

/// How often when connections are lost.
const TRIES_OF_CONNECTIONS: u32 = 3;

/// The first wait between tries, at most; later ones double.
const BACKOFF: Duration = Duration::from_millis(5);

/// How long the outcome of a commit is looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The database that this task has a session with: asking for a second one could wait for itself.
    static HELD_HERE: usize;
}

/// How long sessions in use may take to end when the database is closed.
const CLOSE: Duration = Duration::from_secs(5);

/// How soon running out of sessions must be for a warning.
const WARN_WITHIN: Duration = Duration::from_secs(30 * 60);

/// A server database. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    admission: Admission,
    pool: Arc<Pool>,
    config: DatabaseConfig,
    runtime: Handle,
    held: Mutex<HashMap<usize, Arc<Held>>>,
    latencies: Latencies,
    forecast: Arc<Resource>,
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
        preflight::check(&first.connection, &config).await?;
        first.give_back();
        let forecast =
            Arc::new(Resource::new("database_sessions", config.connections as f64, WARN_WITHIN));
        let inner = Arc::new(Inner {
            admission: Admission::new(&config),
            pool,
            config,
            runtime,
            held: Mutex::default(),
            latencies: Latencies::new(),
            forecast: Arc::clone(&forecast),
        });
        inner.runtime.spawn(keeper::keep(Arc::downgrade(&inner), forecast));
        Ok(Self(inner))
    }

    /// What the sessions are doing.
    #[must_use]
    pub fn statistics(&self) -> DatabaseStatistics {
        self.0.statistics()
    }

    /// The sessions in use as something that runs out, for [`Health`](crate::health::Health).
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
        self: &Arc<Self>,
        access: Access,
        mode: Mode,
        site: &'static Location<'static>,
        work: F,
    ) -> Result<T>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        let me = Arc::as_ptr(self) as usize;
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
            let most = match repeat {
                Some(Repeat::Transaction) => TRIES,
                Some(Repeat::NewConnection) => TRIES_OF_CONNECTIONS,
                _ => 1,
            };
            if tries >= most || Instant::now() >= deadline {
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
        self: &Arc<Self>,
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
                let repeat = match held.taken() {
                    None => failed.and_then(repeat),
                    Some(Taken::Silent) => Some(Repeat::NewConnection),
                    Some(_) => None,
                };
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
                    _ => Tried::Not(error, repeat(failure)),
                }
            }
        }
    }

    async fn acquire(
        self: &Arc<Self>,
        access: Access,
        site: &'static Location<'static>,
    ) -> Result<Session<'_>> {
        let began = Instant::now();
        let deadline = began + self.config.acquire;
        let place = self.admission.enter(&access, deadline, || self.preempt()).await?;
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
        let in_use = {
            let mut all = self.held.lock();
            all.insert(Arc::as_ptr(&held) as usize, Arc::clone(&held));
            all.len()
        };
        let latency = held.since.saturating_duration_since(began);
        self.latencies.add(latency, in_use, held.since);
        metrics::histogram!("apex_database_acquire_seconds", "priority" => access.priority.name())
            .record(latency);
        Ok(Session { held, database: self, ended: false })
    }

    /// The sessions in use.
    fn held(&self) -> Vec<Arc<Held>> {
        self.held.lock().values().cloned().collect()
    }

    /// Gives the place of the youngest session that may be preempted to who waits for one; says whether there was one.
    fn preempt(self: &Arc<Self>) -> bool {
        let mut may: Vec<_> =
            self.held().into_iter().filter(|held| held.access.preemptible).collect();
        may.sort_by_key(|held| std::cmp::Reverse(held.since));
        may.iter().any(|held| self.evict(held, Taken::Preempted))
    }

    /// Takes a session from who holds it, unless it has ended or, for critical work, commits.
    fn evict(&self, held: &Arc<Held>, taken: Taken) -> bool {
        let claimed = held.claim(taken);
        if claimed {
            self.forget(held);
            let held = Arc::clone(held);
            self.runtime.spawn(async move { held.evict().await });
        }
        claimed
    }

    fn forget(&self, held: &Arc<Held>) {
        self.held.lock().remove(&(Arc::as_ptr(held) as usize));
    }

    fn statistics(&self) -> DatabaseStatistics {
        let (open, idle) = self.pool.count();
        let longest = self.held().into_iter().min_by_key(|held| held.since);
        let (acquire, most_in_use) = self.latencies.read();
        let held_ms =
            |held: &Arc<Held>| u64::try_from(held.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        DatabaseStatistics {
            limit: self.config.connections,
            open,
            idle,
            in_use: self.admission.taken(),
            most_in_use,
            waiting: WaitingRequests::of(self.admission.waiting()),
            longest_held_ms: longest.as_ref().map_or(0, held_ms),
            longest_held_by: longest.map(|held| held.site.to_string()),
            acquire,
        }
    }

    /// Forgets operations that were put on record long ago.
    async fn sweep_operations(self: &Arc<Self>) {
        let access = Access::system("database.sweep").priority(Priority::Low).preemptible();
        let seconds = self.config.record_for.as_secs_f64();
        let swept = self.run(access, Mode::Write, Location::caller(), |transaction| {
            Box::pin(async move { transaction.execute(ledger::SWEEP, &[&seconds]).await })
        });
        if let Err(error) = swept.await {
            tracing::debug!(%error, "old operations stay on record");
        }
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

/// What may be repeated here and now. What took too long once is left to the caller.
fn repeat(failure: Failure) -> Option<Repeat> {
    match failure {
        Failure::Timeout => None,
        other => Some(other.consequence().repeat),
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
        self.database.forget(&self.held);
        self.held.end(clean);
    }

    async fn undo(self, failed: Option<Failure>) {
        let discard = failed.is_some_and(|failure| failure.consequence().discard_connection);
        let clean = !discard && self.held.roll_back().await;
        self.end(clean);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.database.forget(&self.held);
        let held = Arc::clone(&self.held);
        // Whoever drops it may be on a thread without a runtime, or unwinding.
        self.database.runtime.spawn(async move { held.clean_up().await });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.close();
    }
}
