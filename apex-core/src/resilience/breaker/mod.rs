//! The circuit breaker: it stops calling what does not answer, and finds out gently when it answers again.
//!
//! Each node decides for itself. What nodes tell each other by a [`BreakerExchange`] only makes a node quicker to
//! open and later to probe, so that neither a lying node nor a lost exchange can cut off a dependency that answers.
//! `failsafe` is no longer developed, and a layer of `tower` would hide the state that operators need to read; so
//! this is our own.

mod exchange;
mod machine;

pub use exchange::{BreakerExchange, BreakerHint, HINT_LIFE};
pub use machine::{BreakerOptions, BreakerState};

use super::random::Random;
use crate::error::{Error, Kind, Result};
use exchange::Peers;
use machine::{Machine, Ticket, Verdict};
use parking_lot::Mutex;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Enough calls to open when other nodes have trouble with the same dependency.
const LEAST_CALLS_WITH_PEERS: u32 = 3;

/// A breaker before one dependency.
#[derive(Debug)]
pub struct Breaker {
    dependency: String,
    options: BreakerOptions,
    machine: Mutex<Machine>,
    peers: Mutex<Peers>,
    random: Random,
}

/// What an operator sees of a breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// Before what it stands.
    pub dependency: String,
    /// What it does with calls.
    pub state: BreakerState,
    /// The calls in the window.
    pub calls: u32,
    /// How many of them failed or were slow.
    pub bad: u32,
    /// How long callers should stay away, in milliseconds, while it refuses them.
    pub retry_after_ms: Option<u64>,
    /// The other nodes that have trouble with the dependency.
    pub peers: usize,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(dependency: impl Into<String>, options: BreakerOptions) -> Self {
        Self::with_random(dependency.into(), options, Random::from_system())
    }

    /// A closed breaker whose jitter is the same each time.
    #[must_use]
    pub fn seeded(dependency: impl Into<String>, options: BreakerOptions, seed: u64) -> Self {
        Self::with_random(dependency.into(), options, Random::seeded(seed))
    }

    fn with_random(dependency: String, options: BreakerOptions, random: Random) -> Self {
        let machine = Machine::new(options.clone(), Instant::now());
        Self { dependency, options, machine: Mutex::new(machine), peers: Mutex::default(), random }
    }

    /// Before what it stands.
    #[must_use]
    pub fn dependency(&self) -> &str {
        &self.dependency
    }

    /// What it does with calls now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.machine.lock().state()
    }

    /// Everything about it.
    #[must_use]
    pub fn status(&self) -> BreakerStatus {
        let now = Instant::now();
        let peers = self.peers.lock().open(now);
        let mut machine = self.machine.lock();
        let (calls, bad) = machine.counts(now);
        let retry_after_ms =
            machine.refuses(now).map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        BreakerStatus {
            dependency: self.dependency.clone(),
            state: machine.state(),
            calls,
            bad,
            retry_after_ms,
            peers,
        }
    }

    /// An operator's word: forces it open, turns it off, or puts it back to closed.
    pub fn force(&self, state: BreakerState) {
        let before = {
            let mut machine = self.machine.lock();
            let before = machine.state();
            machine.force(state, Instant::now());
            before
        };
        self.tell(before, state);
    }

    /// Fails at once when a call would be refused now.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], with the time after which to come back.
    pub fn check(&self) -> Result<()> {
        match self.machine.lock().refuses(Instant::now()) {
            None => Ok(()),
            Some(wait) => Err(self.refusal(wait)),
        }
    }

    /// The right to make one call, whose result must be told to the permit. A permit that is dropped untold says
    /// nothing about the dependency.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], with the time after which to come back.
    pub fn admit(&self) -> Result<Permit<'_>> {
        let now = Instant::now();
        let (before, after, admitted) = {
            let mut machine = self.machine.lock();
            let before = machine.state();
            if machine.is_due(now)
                && let Some(wait) =
                    self.peers.lock().wait_for_turn(now, self.options.open, &self.random)
            {
                machine.hold(wait, now);
            }
            let admitted = machine.admit(now);
            (before, machine.state(), admitted)
        };
        self.tell(before, after);
        match admitted {
            Ok(ticket) => Ok(Permit {
                breaker: self,
                ticket: Some(ticket),
                began: now,
                slow: self.options.slow,
            }),
            Err(wait) => Err(self.refusal(wait)),
        }
    }

    fn record(&self, ticket: Ticket, verdict: Verdict) {
        let now = Instant::now();
        // A good call needs neither, and is the usual one.
        let (least, jitter) = match verdict {
            Verdict::Bad if self.peers.lock().open(now) > 0 => {
                (self.options.least_calls.min(LEAST_CALLS_WITH_PEERS), self.random.share())
            }
            Verdict::Bad => (self.options.least_calls, self.random.share()),
            Verdict::Good | Verdict::None => (self.options.least_calls, 0.0),
        };
        let (before, after) = {
            let mut machine = self.machine.lock();
            let before = machine.state();
            machine.record(ticket, verdict, least, jitter, now);
            (before, machine.state())
        };
        self.tell(before, after);
    }

    fn refusal(&self, wait: Duration) -> Error {
        Error::new(Kind::Unavailable, "breaker.admit", "calls are held back until it answers again")
            .with("dependency", &self.dependency)
            .with_retry_after(wait)
    }

    fn tell(&self, before: BreakerState, after: BreakerState) {
        if before == after {
            return;
        }
        let level = match after {
            BreakerState::Closed | BreakerState::Disabled => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open | BreakerState::ForcedOpen => 2.0,
        };
        metrics::gauge!("apex_breaker_state", "dependency" => self.dependency.clone()).set(level);
        metrics::counter!("apex_breaker_transitions_total", "dependency" => self.dependency.clone()).increment(1);
        tracing::warn!(dependency = self.dependency, ?before, ?after, "breaker changed");
    }
}

/// The right to make one call.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    ticket: Option<Ticket>,
    began: Instant,
    slow: Duration,
}

impl Permit<'_> {
    /// The call may take that long before it counts as slow.
    #[must_use]
    pub fn expecting(mut self, slow: Duration) -> Self {
        self.slow = slow;
        self
    }

    /// Says how the call went.
    pub fn done<T>(mut self, result: &Result<T>) {
        let slow = self.began.elapsed() > self.slow;
        let bad = match result {
            Ok(_) => slow,
            Err(error) => slow || counts(error),
        };
        if let Some(ticket) = self.ticket.take() {
            self.breaker.record(ticket, if bad { Verdict::Bad } else { Verdict::Good });
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.record(ticket, Verdict::None);
        }
    }
}

/// Whether an error says that the dependency is not well. A refusal of this call's content does not.
fn counts(error: &Error) -> bool {
    match error.failure() {
        Some(failure) => failure.consequence().counts_for_breaker,
        None => {
            matches!(error.kind(), Kind::Unavailable | Kind::DeadlineExceeded | Kind::PoolExhausted)
        }
    }
}
