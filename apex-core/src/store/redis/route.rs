//! The way to one server that takes writes: a connection that many calls share, replaced when it is of no use.
//!
//! The driver's own connection manager goes on with a connection that is silently dead, and with a server that has
//! become a replica. Here one answer that does not come within the limit, or one refusal to write, is the end of it for
//! calls to come: they go over a new connection at once. Those that are under way still get their answers over the old
//! one, so that a server which was only slow costs a connection and nothing else.

use super::error::Why;
use super::link::{Hear, Link, Settings};
use super::resolve::Resolver;
use crate::error::{Error, Failure, Kind, Outcome, Phase, Result};
use crate::resilience::{Deadline, Effect};
use parking_lot::Mutex;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

/// The waits between tries to connect double from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LAST_WAIT: Duration = Duration::from_millis(400);
/// So many times the calls under way may wait.
const WAITING: usize = 4;

/// The way to a server.
#[derive(Debug)]
pub(super) struct Route {
    resolver: Resolver,
    settings: Arc<Settings>,
    state: Mutex<State>,
    places: Semaphore,
    waiting: AtomicUsize,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked yet, or the last connection was given up.
    Idle,
    /// Somebody connects; the channel closes when that has ended.
    Connecting(watch::Receiver<()>),
    Up(Arc<Link>),
    /// Connecting failed; it is not tried again before `until`.
    Down {
        until: Instant,
        wait: Duration,
        why: Why,
    },
}

impl Route {
    pub(super) fn new(resolver: Resolver, settings: Arc<Settings>) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            places: Semaphore::new(settings.calls),
            settings,
            state: Mutex::new(State::Idle),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Makes a call: a command and its answer. `asking` for a key that is on its way to this node of a cluster.
    ///
    /// # Errors
    /// What the server says; that it cannot be reached, or does not answer; too many calls that wait.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        operation: &'static str,
        effect: Effect,
        asking: bool,
        command: &Cmd,
    ) -> Result<Value, Failed> {
        let _place = self.place(operation).await?;
        let mut repeated = false;
        loop {
            let link = self.link(operation).await?;
            let why = match link.call(command, asking, self.settings.answer).await {
                Ok(value) => return Ok(value),
                Err(why) => why,
            };
            self.judge(&link, &why);
            // Waiting for an answer has used up the time of the call; the rest is known at once.
            let may_repeat = match why.failure {
                Failure::ReadOnly => why.said,
                Failure::Connection => !why.said && effect != Effect::Once,
                _ => false,
            };
            if repeated || !may_repeat {
                return Err(Failed::Why(why));
            }
            repeated = true;
        }
    }

    /// A connection of its own to the same server, which hears what that says unasked.
    pub(super) async fn open(&self, hear: Hear) -> Result<Link, Why> {
        self.resolver.connect(&self.settings, Some(hear)).await
    }

    /// Gives up a connection that is of no use, so that the next call makes a new one.
    fn judge(&self, link: &Arc<Link>, why: &Why) {
        match why.failure {
            Failure::Timeout | Failure::ReadOnly => self.give_up(link),
            Failure::Connection if !why.said => self.give_up(link),
            _ => {}
        }
    }

    fn give_up(&self, link: &Arc<Link>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Up(current) if Arc::ptr_eq(current, link)) {
            *state = State::Idle;
            metrics::counter!("apex_redis_connections_given_up_total").increment(1);
        }
    }

    /// The connection, made now where there is none; only one caller makes it, and it is made to the end also when
    /// that caller goes away.
    async fn link(self: &Arc<Self>, operation: &'static str) -> Result<Arc<Link>, Failed> {
        let deadline = Deadline::after(self.settings.connect.saturating_mul(2));
        loop {
            let mut ended = {
                let mut state = self.state.lock();
                let wait = match &*state {
                    State::Up(link) if !link.is_closed() => return Ok(Arc::clone(link)),
                    State::Down { until, why, .. } if Instant::now() < *until => {
                        let error = why.error(Phase::BeforeCommit, operation);
                        return Err(Failed::Before(error.with_retry_after(LAST_WAIT)));
                    }
                    State::Down { wait, .. } => wait.saturating_mul(2).min(LAST_WAIT),
                    _ => FIRST_WAIT,
                };
                match &*state {
                    // An end that nobody noted: the runtime that it was on has ended.
                    State::Connecting(ended) if ended.has_changed().is_ok() => ended.clone(),
                    _ => {
                        let (end, ended) = watch::channel(());
                        *state = State::Connecting(ended.clone());
                        tokio::spawn(Arc::clone(self).connect(wait, end));
                        ended
                    }
                }
            };
            let changed = async {
                let _ = ended.changed().await;
                Ok(())
            };
            deadline.limit(operation, Outcome::NotApplied, changed).await?;
        }
    }

    async fn connect(self: Arc<Self>, wait: Duration, end: watch::Sender<()>) {
        let made = self.resolver.connect(&self.settings, None).await;
        let state = match made {
            Ok(link) => {
                tracing::debug!(server = link.server, "connected to Redis");
                State::Up(Arc::new(link))
            }
            Err(why) => {
                // Once for an outage, not for every try in it.
                if wait == FIRST_WAIT {
                    tracing::warn!(cause = ?why, "no connection to Redis");
                }
                let jitter = 0.5 + fastrand::f64() / 2.0;
                State::Down { until: Instant::now() + wait.mul_f64(jitter), wait, why }
            }
        };
        *self.state.lock() = state;
        drop(end);
    }

    /// A place among the calls under way; the queue before it is bounded, and so is the wait.
    async fn place(&self, operation: &'static str) -> Result<SemaphorePermit<'_>, Failed> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let full = || {
            Error::new(Kind::PoolExhausted, operation, "too many calls of Redis are under way")
                .with("limit", self.settings.calls)
                .with_retry_after(self.settings.answer)
        };
        let _waiting = Waiting::enter(&self.waiting, self.settings.calls.saturating_mul(WAITING))
            .ok_or_else(full)?;
        match tokio::time::timeout(self.settings.answer, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(full().into()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// It was not sent.
    Before(Error),
    /// It was.
    Why(Why),
}

impl Failed {
    /// The error for a caller.
    pub(super) fn error(self, operation: &'static str, effect: Effect) -> Error {
        match self {
            Self::Before(error) => error,
            Self::Why(why) if effect == Effect::Read => why.error(Phase::BeforeCommit, operation),
            Self::Why(why) => why.error(Phase::Committing, operation),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

/// Counts one who waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let entered = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
