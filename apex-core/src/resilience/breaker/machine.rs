//! The breaker as a state machine without IO, clock or randomness: time and jitter are values.

use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// The parts of the window; the oldest part is forgotten at a time.
const PARTS: usize = 10;

/// When a breaker opens and how it comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerOptions {
    /// The time over which calls are judged.
    pub window: Duration,
    /// Fewer calls in the window say nothing.
    pub least_calls: u32,
    /// The share of bad calls (failed or slow) that opens it, above 0 and up to 1.
    pub bad_share: f64,
    /// A call that takes longer is bad even when it succeeds.
    pub slow: Duration,
    /// How long it stays open the first time; it doubles each time that the probes fail.
    pub open: Duration,
    /// How far that grows.
    pub open_most: Duration,
    /// The calls that are let through to see whether the dependency is back; all of them must succeed.
    pub probes: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            least_calls: 20,
            bad_share: 0.5,
            slow: Duration::from_secs(2),
            open: Duration::from_secs(5),
            open_most: Duration::from_secs(60),
            probes: 3,
        }
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Lets them through and watches.
    Closed,
    /// Lets a few through, to see.
    HalfOpen,
    /// Refuses them.
    Open,
    /// Refuses them until an operator says otherwise.
    ForcedOpen,
    /// Lets them through, and watches no more.
    Disabled,
}

/// What a call said about the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered in time, be it with a refusal.
    Good,
    /// It failed, or was slow.
    Bad,
    /// The caller went away before there was an answer.
    None,
}

/// The right to make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    generation: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    options: BreakerOptions,
    phase: Phase,
    /// Counts the changes of phase: what a call says about an earlier phase is not heard.
    generation: u64,
    window: Window,
    /// How often it opened without a whole good window since.
    openings: u32,
    closed_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { under_way: u32, good: u32 },
    ForcedOpen,
    Disabled,
}

impl Machine {
    pub(super) fn new(options: BreakerOptions, now: Instant) -> Self {
        let window = Window::new(options.window, now);
        Self { options, phase: Phase::Closed, generation: 0, window, openings: 0, closed_at: None }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::ForcedOpen => BreakerState::ForcedOpen,
            Phase::Disabled => BreakerState::Disabled,
        }
    }

    /// Calls and bad calls in the window.
    pub(super) fn counts(&mut self, now: Instant) -> (u32, u32) {
        self.window.sums(now)
    }

    /// Why a call would be refused now, without asking for one: how long to stay away.
    pub(super) fn refuses(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Closed | Phase::Disabled => None,
            Phase::Open { until } if now >= until => None,
            Phase::Open { until } => Some(until - now),
            Phase::HalfOpen { under_way, good } if under_way + good < self.options.probes => None,
            Phase::HalfOpen { .. } => Some(self.options.slow),
            Phase::ForcedOpen => Some(self.options.open_most),
        }
    }

    /// Asks for a call.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        if let Some(wait) = self.refuses(now) {
            return Err(wait);
        }
        if let Phase::Open { .. } = self.phase {
            self.enter(Phase::HalfOpen { under_way: 0, good: 0 });
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way += 1;
        }
        Ok(Ticket { generation: self.generation })
    }

    /// Hears what became of a call. `least_calls` may be lower than the option's when other nodes have trouble with
    /// the dependency; `jitter` (0 to 1) spreads the nodes' probes.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        least_calls: u32,
        jitter: f64,
        now: Instant,
    ) {
        if ticket.generation != self.generation {
            return;
        }
        match (&mut self.phase, verdict) {
            (Phase::HalfOpen { under_way, .. }, Verdict::None) => {
                *under_way = under_way.saturating_sub(1)
            }
            (Phase::HalfOpen { .. }, Verdict::Bad) => self.open(jitter, now),
            (Phase::HalfOpen { under_way, good }, Verdict::Good) => {
                *under_way = under_way.saturating_sub(1);
                *good += 1;
                if *good >= self.options.probes {
                    self.window = Window::new(self.options.window, now);
                    self.closed_at = Some(now);
                    self.enter(Phase::Closed);
                }
            }
            (Phase::Closed, Verdict::Good | Verdict::Bad) => {
                self.window.add(verdict == Verdict::Bad, now);
                let (calls, bad) = self.window.sums(now);
                let enough = calls >= least_calls.max(1);
                if enough && f64::from(bad) >= f64::from(calls) * self.options.bad_share && bad > 0
                {
                    self.open(jitter, now);
                }
            }
            (Phase::Closed, Verdict::None)
            | (Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled, _) => {}
        }
    }

    /// Whether it was open for its time, so that the next call would probe.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open { until } if now >= until)
    }

    /// Keeps an open breaker open a little longer, because enough other nodes are probing.
    pub(super) fn hold(&mut self, wait: Duration, now: Instant) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now + wait;
        }
    }

    /// An operator's word.
    pub(super) fn force(&mut self, state: BreakerState, now: Instant) {
        let phase = match state {
            BreakerState::ForcedOpen => Phase::ForcedOpen,
            BreakerState::Disabled => Phase::Disabled,
            BreakerState::Open => Phase::Open { until: now + self.options.open },
            BreakerState::HalfOpen => Phase::HalfOpen { under_way: 0, good: 0 },
            BreakerState::Closed => {
                self.window = Window::new(self.options.window, now);
                Phase::Closed
            }
        };
        self.openings = 0;
        self.enter(phase);
    }

    fn open(&mut self, jitter: f64, now: Instant) {
        // A dependency that stayed good for a whole window has recovered; one that failed again soon after closing
        // flaps, and is left alone for longer each time.
        let recovered = self
            .closed_at
            .is_some_and(|at| now.saturating_duration_since(at) >= self.options.window);
        if recovered {
            self.openings = 0;
        }
        let doubled =
            self.options.open.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX));
        self.openings = self.openings.saturating_add(1);
        let wait = doubled.min(self.options.open_most);
        let until = now + wait.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0));
        self.closed_at = None;
        self.enter(Phase::Open { until });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// Calls and bad calls of the last while, in parts that are forgotten one by one.
#[derive(Debug)]
struct Window {
    part: Duration,
    parts: [(u32, u32); PARTS],
    current: usize,
    began: Instant,
    /// The sums of all parts, so that a call costs no loop.
    total: (u32, u32),
}

impl Window {
    fn new(length: Duration, now: Instant) -> Self {
        let part = (length / PARTS as u32).max(Duration::from_millis(1));
        Self { part, parts: [(0, 0); PARTS], current: 0, began: now, total: (0, 0) }
    }

    fn add(&mut self, bad: bool, now: Instant) {
        self.forget(now);
        if let Some((calls, wrong)) = self.parts.get_mut(self.current) {
            *calls += 1;
            *wrong += u32::from(bad);
            self.total.0 += 1;
            self.total.1 += u32::from(bad);
        }
    }

    fn sums(&mut self, now: Instant) -> (u32, u32) {
        self.forget(now);
        self.total
    }

    fn forget(&mut self, now: Instant) {
        let passed =
            now.saturating_duration_since(self.began).as_nanos() / self.part.as_nanos().max(1);
        let Ok(passed) = u32::try_from(passed) else {
            *self = Self::new(self.part * PARTS as u32, now);
            return;
        };
        if passed == 0 {
            return;
        }
        for _ in 0..passed.min(PARTS as u32) {
            self.current = (self.current + 1) % PARTS;
            if let Some(part) = self.parts.get_mut(self.current) {
                self.total.0 -= part.0;
                self.total.1 -= part.1;
                *part = (0, 0);
            }
        }
        self.began += self.part * passed;
    }
}

#[cfg(test)]
mod tests;
