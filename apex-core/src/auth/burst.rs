use super::audit::{AuditAction, AuditEvent};
use crate::clock::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From how many of a kind within a window somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurstPolicy {
    /// The time over which is counted.
    pub window: Duration,
    /// Refusals of any kind.
    pub refusals: u64,
    /// Used refresh tokens that came back: one is a theft or a defective client.
    pub reuse: u64,
    /// Tokens by keys that are not known.
    pub unknown_keys: u64,
    /// How long after an alert the same is not told again.
    pub quiet: Duration,
}

impl Default for BurstPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            refusals: 200,
            reuse: 3,
            unknown_keys: 20,
            quiet: Duration::from_secs(10 * 60),
        }
    }
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Burst {
    /// Refusals.
    Refusals,
    /// Used refresh tokens.
    Reuse,
    /// Tokens by unknown keys.
    UnknownKeys,
}

/// What the host's callback is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoorAlert {
    /// What there is too much of.
    pub burst: Burst,
    /// How many there were within the window, up to now.
    pub count: u64,
    /// The window, in seconds.
    pub window_s: u64,
    /// When.
    pub at: Timestamp,
    /// The event with which it became too much.
    pub last: AuditEvent,
}

/// The host's callback: a pager, a ticket, a chat. Called on the thread of the request, so it only hands on.
pub trait DoorAlertSink: fmt::Debug + Send + Sync {
    /// Takes an alert.
    fn alert(&self, alert: &DoorAlert);
}

/// Counts what is refused, and tells the host when it is too much.
#[derive(Debug)]
pub(super) struct Bursts {
    policy: BurstPolicy,
    sink: Option<Arc<dyn DoorAlertSink>>,
    counts: Mutex<[Count; 3]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    began: Option<Instant>,
    seen: u64,
    told: Option<Instant>,
}

impl Bursts {
    pub(super) fn new(policy: BurstPolicy, sink: Option<Arc<dyn DoorAlertSink>>) -> Self {
        Self { policy, sink, counts: Mutex::default() }
    }

    pub(super) fn note(&self, event: &AuditEvent) {
        let Some(reason) = event.reason.as_deref() else {
            return;
        };
        let mut alerts = Vec::new();
        {
            let mut counts = self.counts.lock();
            let [refusals, reuse, unknown_keys] = &mut *counts;
            let policy = &self.policy;
            for (applies, burst, count, most) in [
                (true, Burst::Refusals, refusals, policy.refusals),
                (event.action == AuditAction::Reuse, Burst::Reuse, reuse, policy.reuse),
                (
                    reason == "token_unknown_key",
                    Burst::UnknownKeys,
                    unknown_keys,
                    policy.unknown_keys,
                ),
            ] {
                if applies && count.one_more(policy, most) {
                    alerts.push((burst, count.seen));
                }
            }
        }
        for (burst, count) in alerts {
            let alert = DoorAlert {
                burst,
                count,
                window_s: self.policy.window.as_secs(),
                at: event.at,
                last: event.clone(),
            };
            tracing::warn!(?burst, count, "a burst at the door");
            if let Some(sink) = &self.sink {
                // The host's code must not be the end of a request.
                let told = catch_unwind(AssertUnwindSafe(|| sink.alert(&alert)));
                if told.is_err() {
                    tracing::error!("the host's callback for alerts of the door panicked");
                }
            }
        }
    }
}

impl Count {
    /// Counts; says whether it is too much and has not been told lately.
    fn one_more(&mut self, policy: &BurstPolicy, most: u64) -> bool {
        if self.began.is_none_or(|began| began.elapsed() >= policy.window) {
            (self.began, self.seen) = (Some(Instant::now()), 0);
        }
        self.seen += 1;
        let quiet = self.told.is_some_and(|told| told.elapsed() < policy.quiet);
        if self.seen < most || quiet {
            return false;
        }
        self.told = Some(Instant::now());
        true
    }
}
