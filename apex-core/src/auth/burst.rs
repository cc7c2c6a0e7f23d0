use super::audit::{AuditAction, AuditEvent};
use crate::error::{ErrorLog, Notice, Severity};
use parking_lot::Mutex;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Burst {
    Refusals,
    Reuse,
    UnknownKeys,
}

impl Burst {
    /// As notices name it, how bad it is, and in words.
    const fn told(self) -> (&'static str, Severity, &'static str) {
        match self {
            Self::Refusals => ("door:refusals", Severity::Warning, "were refused at the door"),
            Self::Reuse => (
                "door:reuse",
                Severity::Error,
                "refresh tokens came back used: a theft or a defective client",
            ),
            Self::UnknownKeys => (
                "door:unknown_keys",
                Severity::Warning,
                "tokens were signed by keys that are not known",
            ),
        }
    }
}

/// Counts what is refused, and tells the host when it is too much.
#[derive(Debug)]
pub(super) struct Bursts {
    policy: BurstPolicy,
    log: Option<Arc<ErrorLog>>,
    counts: Mutex<[Count; 3]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    began: Option<Instant>,
    seen: u64,
    told: Option<Instant>,
    /// How often it was told without a quiet time in which it was well.
    number: u32,
}

impl Bursts {
    pub(super) fn new(policy: BurstPolicy, log: Option<Arc<ErrorLog>>) -> Self {
        Self { policy, log, counts: Mutex::default() }
    }

    pub(super) fn note(&self, event: &AuditEvent) {
        let Some(reason) = event.reason.as_deref() else {
            return;
        };
        let (policy, mut too_much) = (&self.policy, Vec::new());
        {
            let mut counts = self.counts.lock();
            let [refusals, reuse, unknown_keys] = &mut *counts;
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
                    too_much.push((burst, *count));
                }
            }
        }
        for (burst, Count { seen, number, .. }) in too_much {
            let (subject, severity, what) = burst.told();
            let window = policy.window.as_secs();
            let message = format!("{seen} within {window} s {what}; the last one: {reason}");
            let notice =
                Notice { subject: subject.to_owned(), severity, message, number, at: event.at };
            match &self.log {
                Some(log) => log.notice(&notice),
                None => tracing::warn!(subject, "{}", notice.message),
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
        let told = self.told.map(|told| told.elapsed());
        if self.seen < most || told.is_some_and(|ago| ago < policy.quiet) {
            return false;
        }
        let goes_on = told.is_some_and(|ago| ago < policy.quiet * 2);
        self.number = if goes_on { self.number.saturating_add(1) } else { 1 };
        self.told = Some(Instant::now());
        true
    }
}
