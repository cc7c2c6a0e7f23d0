use super::escalation::{Alert, AlertSink, Escalation, EscalationPolicy, Notice};
use super::{Error, Failure, Kind, Severity, correlation};
use crate::clock::{Clock, Timestamp};
use crate::id::{CorrelationId, UserId};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::time::Instant;

/// The groups that are kept; when there are more, the one that was quiet for longest goes.
const MAX_GROUPS: usize = 512;

/// The alerts and notices that are remembered.
const MAX_TOLD: usize = 64;

/// What makes two failures the same one: kind, class of the driver's code, operation and dependency; not the ids and
/// sizes that differ from request to request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of an error; the same in every process of one version.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let mut hasher = DefaultHasher::new();
        (error.code(), error.failure(), error.operation(), dependency(error)).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The same failure in many requests.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// What they have in common, as one number.
    pub fingerprint: Fingerprint,
    /// The kind.
    pub kind: Kind,
    /// The class of the driver's code, if a driver reported it.
    pub failure: Option<Failure>,
    /// What was being done.
    pub operation: &'static str,
    /// What was called, where an error says so by the context `dependency`.
    pub dependency: Option<String>,
    /// What the latest one says, as clients see it.
    pub message: String,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The latest time.
    pub last: Timestamp,
    /// How many users it touched: an estimate, within 10%, for which no user's id is kept.
    pub users: u64,
    /// Leads to the log of the latest one.
    pub correlation: Option<CorrelationId>,
}

/// Counts failures by what they have in common, and tells the host when one needs a person.
///
/// One for a process: whoever answers a request with an error records it here, once.
pub struct ErrorLog {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn AlertSink>,
    state: Mutex<State>,
}

struct State {
    groups: HashMap<Fingerprint, Kept>,
    escalation: Escalation,
    told: VecDeque<Told>,
}

/// What the host was told.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Told {
    /// Failures that need a person.
    Alert(Alert),
    /// Something about this node that needs a person.
    Notice(Notice),
}

struct Kept {
    group: Group,
    users: Sketch,
    touched: Instant,
}

impl fmt::Debug for ErrorLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorLog")
            .field("groups", &self.state.lock().groups.len())
            .finish_non_exhaustive()
    }
}

impl ErrorLog {
    /// A log that escalates by `policy` to `sink`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, policy: EscalationPolicy, sink: Arc<dyn AlertSink>) -> Self {
        let state = State {
            groups: HashMap::new(),
            escalation: Escalation::new(policy),
            told: VecDeque::new(),
        };
        Self { clock, sink, state: Mutex::new(state) }
    }

    /// Records a failure and whom it touched. Logs it with its correlation id, counts it, and calls the sink on this
    /// thread when the policy says so.
    pub fn record(&self, error: &Error, user: Option<UserId>) -> Fingerprint {
        let fingerprint = Fingerprint::of(error);
        log(error, fingerprint);
        let alert = {
            let mut state = self.state.lock();
            let State { groups, escalation, .. } = &mut *state;
            make_room(groups, fingerprint);
            let now = Instant::now();
            let kept = groups
                .entry(fingerprint)
                .or_insert_with(|| Kept::new(error, fingerprint, self.clock.now(), now));
            kept.add(error, user, self.clock.now(), now);
            escalation.judge(error, user, &kept.group, now)
        };
        if let Some(alert) = alert {
            metrics::counter!("apex_alerts_total", "code" => alert.kind.row().code).increment(1);
            self.remember(Told::Alert(alert.clone()));
            self.tell(|sink| sink.alert(&alert));
        }
        fingerprint
    }

    /// Logs a notice, counts it and hands it to the sink.
    pub fn notice(&self, notice: &Notice) {
        let Notice { subject, message, number, .. } = notice;
        match notice.severity {
            Severity::Info | Severity::Warning => tracing::warn!(subject, number, "{message}"),
            Severity::Error | Severity::Critical => tracing::error!(subject, number, "{message}"),
        }
        metrics::counter!("apex_notices_total", "subject" => subject.clone()).increment(1);
        self.remember(Told::Notice(notice.clone()));
        self.tell(|sink| sink.notice(notice));
    }

    /// What the host was told last, the oldest first.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.state.lock().told.iter().cloned().collect()
    }

    fn remember(&self, told: Told) {
        let mut state = self.state.lock();
        if state.told.len() == MAX_TOLD {
            state.told.pop_front();
        }
        state.told.push_back(told);
    }

    /// A host's callback that panics must not take down what it is called from.
    fn tell(&self, call: impl FnOnce(&dyn AlertSink)) {
        let call = std::panic::AssertUnwindSafe(|| call(self.sink.as_ref()));
        if std::panic::catch_unwind(call).is_err() {
            tracing::error!("the host's alert callback panicked");
        }
    }

    /// Every group, the most frequent first.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> =
            self.state.lock().groups.values().map(|kept| kept.group.clone()).collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.fingerprint));
        groups
    }
}

impl Kept {
    fn new(error: &Error, fingerprint: Fingerprint, at: Timestamp, now: Instant) -> Self {
        let group = Group {
            fingerprint,
            kind: error.kind(),
            failure: error.failure(),
            operation: error.operation(),
            dependency: dependency(error).map(str::to_owned),
            message: String::new(),
            count: 0,
            first: at,
            last: at,
            users: 0,
            correlation: None,
        };
        Self { group, users: Sketch::default(), touched: now }
    }

    fn add(&mut self, error: &Error, user: Option<UserId>, at: Timestamp, now: Instant) {
        self.touched = now;
        self.group.count = self.group.count.saturating_add(1);
        // A clock that went back must not make the last time earlier than the first.
        self.group.last = self.group.last.max(at);
        self.group.message = error.report().message;
        let correlation = error.correlation().or_else(correlation::current);
        self.group.correlation = correlation.or(self.group.correlation);
        if let Some(user) = user {
            self.users.add(user);
            self.group.users = self.users.estimate();
        }
    }
}

/// What was called, by the context that the resilience policy and the stores add.
pub(super) fn dependency(error: &Error) -> Option<&str> {
    error.context().find(|(key, _)| *key == "dependency").map(|(_, value)| value)
}

fn make_room(groups: &mut HashMap<Fingerprint, Kept>, newcomer: Fingerprint) {
    if groups.len() < MAX_GROUPS || groups.contains_key(&newcomer) {
        return;
    }
    let quietest =
        groups.iter().min_by_key(|(_, kept)| kept.touched).map(|(fingerprint, _)| *fingerprint);
    if let Some(quietest) = quietest {
        groups.remove(&quietest);
    }
}

fn log(error: &Error, fingerprint: Fingerprint) {
    let row = error.kind().row();
    metrics::counter!("apex_errors_total", "code" => row.code, "operation" => error.operation())
        .increment(1);
    let correlation = error.correlation().or_else(correlation::current);
    let correlation = correlation.map(tracing::field::display);
    match row.severity {
        Severity::Info => {
            tracing::info!(%fingerprint, correlation, code = row.code, ?error, "request failed")
        }
        Severity::Warning => {
            tracing::warn!(%fingerprint, correlation, code = row.code, ?error, "request failed")
        }
        Severity::Error | Severity::Critical => {
            tracing::error!(%fingerprint, correlation, code = row.code, ?error, "request failed");
        }
    }
}

/// Estimates how many different users there were, from 512 counters of leading zeros (HyperLogLog, Flajolet et al.
/// 2007): no id is kept.
#[derive(Clone)]
pub(super) struct Sketch([u8; Self::SIZE]);

impl Default for Sketch {
    fn default() -> Self {
        Self([0; Self::SIZE])
    }
}

impl Sketch {
    const BITS: u32 = 9;
    const SIZE: usize = 1 << Self::BITS;

    pub(super) fn add(&mut self, user: UserId) {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let hash = hasher.finish();
        let place = usize::try_from(hash >> (64 - Self::BITS)).unwrap_or_default();
        let rank = u8::try_from((hash << Self::BITS).leading_zeros() + 1).unwrap_or(u8::MAX);
        if let Some(register) = self.0.get_mut(place) {
            *register = rank.max(*register);
        }
    }

    pub(super) fn estimate(&self) -> u64 {
        let size = Self::SIZE as f64;
        let sum: f64 = self.0.iter().map(|rank| 2_f64.powi(-i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
        let empty = self.0.iter().filter(|rank| **rank == 0).count();
        // Few users leave most counters empty, and counting those is nearly exact.
        let estimate =
            if raw <= 2.5 * size && empty > 0 { size * (size / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn user(number: u32) -> UserId {
        UserId::derived(&[&number.to_be_bytes()])
    }

    #[test]
    fn users_are_estimated_within_ten_percent() {
        for count in [1_u32, 5, 50, 500, 5_000, 50_000] {
            let mut sketch = Sketch::default();
            for number in (0..count).chain(0..count) {
                sketch.add(user(number));
            }
            let off = (sketch.estimate() as f64 - f64::from(count)).abs() / f64::from(count);
            assert!(off < 0.1, "{count}: {}", sketch.estimate());
        }
    }

    #[test]
    fn the_same_failure_is_one_group_however_its_details_differ() {
        let log = ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), Arc::new(()));
        for number in 0..1_000_u32 {
            let error = Error::new(Kind::Unavailable, "db.read", "down").with("row", number);
            log.record(&error, Some(user(number % 20)));
        }
        log.record(&Error::new(Kind::Unavailable, "db.write", "down"), None);
        let groups = log.groups();
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].count, groups[0].operation), (1_000, "db.read"));
        assert!((18..=22).contains(&groups[0].users), "{}", groups[0].users);
        assert!(groups[0].first <= groups[0].last);
    }

    #[test]
    fn the_number_of_groups_is_bounded() {
        let log = ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), Arc::new(()));
        for number in 0..2_000 {
            log.record(
                &Error::new(Kind::Unavailable, "x", "down").with("dependency", number),
                None,
            );
        }
        assert_eq!(log.groups().len(), MAX_GROUPS);
    }
}
