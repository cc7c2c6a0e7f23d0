//! How a piece of work gets a session, is tried, repeated and committed, and how the session comes back.

use super::access::{Access, Priority};
use super::admission::Admission;
use super::config::DatabaseConfig;
use super::connection::Server;
use super::pool::Pool;
use super::session::{Held, Taken};
use super::statistics::{DatabaseStatistics, Latencies, WaitingRequests};
use super::transaction::{Mode, Transaction};
use super::{fault, ledger};
use crate::error::{Error, Failure, Kind, Outcome, Phase, Repeat, Result};
use crate::health::Resource;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

/// How often a transaction is tried in all.
pub(super) const TRIES: u32 = 6;

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

/// A database: those who use it, those who wait, and the connections.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) admission: Admission,
    pub(super) pool: Arc<Pool>,
    pub(super) config: DatabaseConfig,
    pub(super) runtime: Handle,
    pub(super) held: Mutex<HashMap<usize, Arc<Held>>>,
    pub(super) latencies: Latencies,
    pub(super) forecast: Arc<Resource>,
    /// Whether writes are put on record.
    pub(super) records: AtomicBool,
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
    pub(super) fn new(
        pool: Arc<Pool>,
        config: DatabaseConfig,
        runtime: Handle,
        forecast: Arc<Resource>,
    ) -> Self {
        Self {
            admission: Admission::new(&config),
            pool,
            config,
            runtime,
            held: Mutex::default(),
            latencies: Latencies::new(),
            forecast,
            records: AtomicBool::new(false),
        }
    }

    /// Does the work in a session, and again where that is safe and may help.
    pub(super) async fn run<'c, T, F>(
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
        let access = match access.record {
            None if mode == Mode::Write && self.records.load(Ordering::Acquire) => {
                Access { record: ledger::new_id(), ..access }
            }
            _ => access,
        };
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
                    None if transaction.is_stale() => Some(Repeat::NewConnection),
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
    pub(super) fn held(&self) -> Vec<Arc<Held>> {
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
    pub(super) fn evict(&self, held: &Arc<Held>, taken: Taken) -> bool {
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

    pub(super) fn statistics(&self) -> DatabaseStatistics {
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
    pub(super) async fn sweep_operations(self: &Arc<Self>) {
        if !self.records.load(Ordering::Acquire) {
            return;
        }
        let access = Access::system("database.sweep").priority(Priority::Low).preemptible();
        let seconds = self.config.record_for.as_secs_f64();
        let swept = self.run(access, Mode::Write, Location::caller(), |transaction| {
            Box::pin(async move { transaction.execute(ledger::SWEEP, &[&seconds]).await.map(drop) })
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
    pub(super) held: Arc<Held>,
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
