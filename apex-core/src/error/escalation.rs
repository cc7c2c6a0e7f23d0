//! When a failure needs a person, and how often that person is told: an outage is one alert, not one a request.

use super::groups::{Sketch, dependency};
use super::{Error, Fingerprint, Group, Kind, Severity, correlation};
use crate::clock::Timestamp;
use crate::id::{CorrelationId, UserId};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// The incidents that are watched; when there are more, the one that was quiet for longest goes.
const MAX_INCIDENTS: usize = 256;

/// When failures escalate. Failures of severity `info` (a caller's own mistakes) never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EscalationPolicy {
    /// The time over which failures and users are counted.
    pub window: Duration,
    /// So many failures of one kind and dependency in the window escalate.
    pub failures: u64,
    /// So many different users touched in the window escalate.
    pub users: u64,
    /// How long after an alert the same incident is not told again; it doubles with each alert.
    pub quiet: Duration,
    /// How far the quiet time grows.
    pub quiet_most: Duration,
}

impl Default for EscalationPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(5 * 60),
            failures: 50,
            users: 10,
            quiet: Duration::from_secs(15 * 60),
            quiet_most: Duration::from_secs(4 * 60 * 60),
        }
    }
}

/// Why an alert was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Critical: data or security may be at risk, so one is enough.
    Severity,
    /// Too many failures in the window.
    Rate,
    /// Too many users touched in the window.
    Users,
}

/// What the host's callback is told.
#[derive(Debug, Clone, Serialize)]
pub struct Alert {
    /// Why now.
    pub reason: Reason,
    /// The kind of the failure.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What was called, or, where that is not said, what was being done: together with the kind it is the incident.
    pub subject: String,
    /// The group of the failure that raised it.
    pub fingerprint: Fingerprint,
    /// What it says, as clients see it.
    pub message: String,
    /// The incident's failures since the last alert, or since it began.
    pub failures: u64,
    /// The users touched in the window, estimated.
    pub users: u64,
    /// When the group was first seen.
    pub first: Timestamp,
    /// Which alert of this incident it is, from 1.
    pub number: u32,
    /// When it was raised.
    pub at: Timestamp,
    /// Leads to the log.
    pub correlation: Option<CorrelationId>,
}

/// What the host's callback is told that no single failure shows: a budget that burns, something that runs out, a
/// certificate that ends, a dependency that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What it is about, as the lines of the health document are named: `completion:serviceLevel`.
    pub subject: String,
    /// How bad it is: an error wakes someone, a warning is put on the list.
    pub severity: Severity,
    /// What is the matter.
    pub message: String,
    /// Which notice about this it is since it was well, from 1.
    pub number: u32,
    /// When it was raised.
    pub at: Timestamp,
}

/// The host's callback: a pager, a ticket, a chat. Called on the thread of the failing request, so it only hands on.
pub trait AlertSink: fmt::Debug + Send + Sync {
    /// Takes an alert: failures that need a person.
    fn alert(&self, alert: &Alert);

    /// Takes a notice: something about this node that needs a person.
    fn notice(&self, notice: &Notice);
}

/// Nobody is told.
impl AlertSink for () {
    fn alert(&self, _: &Alert) {}

    fn notice(&self, _: &Notice) {}
}

/// The incidents under watch.
pub(super) struct Escalation {
    policy: EscalationPolicy,
    incidents: HashMap<(Kind, String), Incident>,
}

struct Incident {
    window: Window,
    /// What the window before held.
    before: (u64, u64),
    unreported: u64,
    alerts: u32,
    quiet_until: Option<Instant>,
    quiet: Duration,
    seen: Instant,
}

struct Window {
    began: Instant,
    failures: u64,
    users: Sketch,
}

impl Escalation {
    pub(super) fn new(policy: EscalationPolicy) -> Self {
        Self { policy, incidents: HashMap::new() }
    }

    /// Counts a failure; the alert, if it raises one.
    pub(super) fn judge(
        &mut self,
        error: &Error,
        user: Option<UserId>,
        group: &Group,
        now: Instant,
    ) -> Option<Alert> {
        let severity = error.kind().row().severity;
        if severity == Severity::Info {
            return None;
        }
        let subject = dependency(error).unwrap_or(error.operation()).to_owned();
        let key = (error.kind(), subject.clone());
        self.make_room(&key);
        let policy = &self.policy;
        let incident = self.incidents.entry(key).or_insert_with(|| Incident::new(policy, now));
        incident.count(policy, user, now);
        let (failures, users) = incident.in_window(policy, now);
        let reason = if severity == Severity::Critical {
            Reason::Severity
        } else if users >= policy.users {
            Reason::Users
        } else if failures >= policy.failures {
            Reason::Rate
        } else {
            return None;
        };
        let number = incident.speak(policy, now)?;
        Some(Alert {
            reason,
            kind: error.kind(),
            severity,
            subject,
            fingerprint: group.fingerprint,
            message: group.message.clone(),
            failures: std::mem::take(&mut incident.unreported),
            users,
            first: group.first,
            number,
            at: group.last,
            correlation: error.correlation().or_else(correlation::current),
        })
    }

    fn make_room(&mut self, key: &(Kind, String)) {
        if self.incidents.len() < MAX_INCIDENTS || self.incidents.contains_key(key) {
            return;
        }
        let quietest = self
            .incidents
            .iter()
            .min_by_key(|(_, incident)| incident.seen)
            .map(|(key, _)| key.clone());
        if let Some(quietest) = quietest {
            self.incidents.remove(&quietest);
        }
    }
}

impl Incident {
    fn new(policy: &EscalationPolicy, now: Instant) -> Self {
        Self {
            window: Window { began: now, failures: 0, users: Sketch::default() },
            before: (0, 0),
            unreported: 0,
            alerts: 0,
            quiet_until: None,
            quiet: policy.quiet,
            seen: now,
        }
    }

    fn count(&mut self, policy: &EscalationPolicy, user: Option<UserId>, now: Instant) {
        let over =
            self.quiet_until.is_some_and(|until| now >= until) && now - self.seen >= policy.quiet;
        if over {
            // Nothing failed for a while: what comes now is a new incident.
            *self = Self::new(policy, now);
        }
        self.seen = now;
        let age = now - self.window.began;
        if age >= policy.window {
            let last = (self.window.failures, self.window.users.estimate());
            self.before = if age < policy.window * 2 { last } else { (0, 0) };
            self.window = Window { began: now, failures: 0, users: Sketch::default() };
        }
        self.window.failures += 1;
        self.unreported += 1;
        if let Some(user) = user {
            self.window.users.add(user);
        }
    }

    /// Failures and users in a sliding window: this one and the share of the one before that still counts.
    fn in_window(&self, policy: &EscalationPolicy, now: Instant) -> (u64, u64) {
        let age = (now - self.window.began).as_secs_f64() / policy.window.as_secs_f64();
        let left = (1.0 - age).clamp(0.0, 1.0);
        let part = |count: u64| (count as f64 * left) as u64;
        let failures = self.window.failures + part(self.before.0);
        (failures, self.window.users.estimate().max(part(self.before.1)))
    }

    /// The number of the alert that may be raised now, if one may.
    fn speak(&mut self, policy: &EscalationPolicy, now: Instant) -> Option<u32> {
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        if self.quiet_until.is_some() {
            self.quiet = (self.quiet * 2).min(policy.quiet_most);
        }
        self.quiet_until = Some(now + self.quiet);
        self.alerts += 1;
        Some(self.alerts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::error::ErrorLog;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use tokio::time::advance;

    #[derive(Debug, Default)]
    struct Pager(Mutex<Vec<(Reason, String, u64, u32)>>);

    impl AlertSink for Pager {
        fn alert(&self, alert: &Alert) {
            self.0.lock().push((alert.reason, alert.subject.clone(), alert.failures, alert.number));
        }

        fn notice(&self, notice: &Notice) {
            panic!("a failure raised {notice:?}");
        }
    }

    fn log() -> (ErrorLog, Arc<Pager>) {
        let pager = Arc::new(Pager::default());
        let sink: Arc<dyn AlertSink> = Arc::<Pager>::clone(&pager);
        (ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), sink), pager)
    }

    fn down(operation: &'static str) -> Error {
        Error::new(Kind::Unavailable, operation, "down").with("dependency", "postgres")
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_many_requests_is_one_alert_and_reminders_back_off() {
        let (log, pager) = log();
        for second in 0..10 * 60 {
            for operation in ["db.read", "db.write", "db.list"] {
                log.record(&down(operation), Some(UserId::derived(&[&[second as u8 % 3]])));
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(*pager.0.lock(), [(Reason::Rate, "postgres".to_owned(), 50, 1)]);
        for _ in 0..24 * 60 {
            log.record(&down("db.read"), None);
            for _ in 0..60 {
                log.record(&down("db.write"), None);
            }
            advance(Duration::from_secs(60)).await;
        }
        let alerts = pager.0.lock().len();
        assert!((6..=10).contains(&alerts), "a day of outage: {alerts} alerts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_blip_is_no_alert_users_are_and_a_critical_one_is_at_once() {
        let (log, pager) = log();
        for _ in 0..49 {
            log.record(&down("db.read"), None);
        }
        advance(Duration::from_secs(11 * 60)).await;
        for _ in 0..49 {
            log.record(&down("db.read"), None);
        }
        assert!(pager.0.lock().is_empty());
        for number in 0..12_u8 {
            let error = Error::new(Kind::Storage, "file.put", "full");
            log.record(&error, Some(UserId::derived(&[&[number]])));
        }
        log.record(&Error::internal("engine.step", "defect"), None);
        for _ in 0..1_000 {
            log.record(&Error::new(Kind::BadRequest, "http", "no"), Some(UserId::derived(&[b"x"])));
        }
        let reasons: Vec<Reason> = pager.0.lock().iter().map(|alert| alert.0).collect();
        assert_eq!(reasons, [Reason::Users, Reason::Severity]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_outage_is_told_again() {
        let (log, pager) = log();
        for _ in 0..2 {
            for _ in 0..60 {
                log.record(&down("db.read"), None);
            }
            advance(Duration::from_secs(60 * 60)).await;
        }
        let numbers: Vec<u32> = pager.0.lock().iter().map(|alert| alert.3).collect();
        assert_eq!(numbers, [1, 1]);
    }

    #[derive(Debug)]
    struct Broken;

    impl AlertSink for Broken {
        fn alert(&self, _: &Alert) {
            panic!("no pager");
        }

        fn notice(&self, _: &Notice) {
            panic!("no pager");
        }
    }

    #[test]
    fn a_callback_that_panics_harms_nobody() {
        let log =
            ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), Arc::new(Broken));
        log.record(&Error::internal("x", "defect"), None);
        assert_eq!(log.groups().len(), 1);
        let (subject, message) = ("disk:utilization".to_owned(), "full".to_owned());
        log.notice(&Notice {
            subject,
            severity: Severity::Error,
            message,
            number: 1,
            at: SystemClock.now(),
        });
    }
}
