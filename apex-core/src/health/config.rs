use crate::config::{Checks, FaultCode, HumanDuration, Section, duration};
use crate::error::EscalationPolicy;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What counts as healthy, and when people are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct HealthConfig {
    /// How long a dependency may take to answer a probe.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
    pub probe_within: Duration,
    /// How long an answer of the readiness check is given again without looking.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "1m"))]
    pub ready_for: Duration,
    /// How often certificates are looked at.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "1d"))]
    pub certificates_every: Duration,
    /// The time before a certificate's end from which it is a warning.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1h", "x-maximum" = "365d"))]
    pub certificate_warn: Duration,
    /// The time before a certificate's end from which it is a failure.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "365d"))]
    pub certificate_fail: Duration,
    /// The share of runs that must be completed.
    #[schemars(range(min = 0.5, max = 0.99999))]
    pub completion_objective: f64,
    /// The share of runs whose first event must come in time.
    #[schemars(range(min = 0.5, max = 0.99999))]
    pub first_event_objective: f64,
    /// In what time.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub first_event_within: Duration,
    /// The share of runs whose answer must come in time.
    #[schemars(range(min = 0.5, max = 0.99999))]
    pub answer_objective: f64,
    /// In what time.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1d"))]
    pub answer_within: Duration,
    /// So many runs that wait for a place, of all users, are a full queue.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub queued_runs: usize,
    /// The time over which failures and the users they touch are counted for alerts.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10s", "x-maximum" = "1h"))]
    pub alert_window: Duration,
    /// So many failures of one kind and dependency in the window raise an alert.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub alert_failures: u64,
    /// So many users touched in the window raise an alert.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub alert_users: u64,
    /// How long after an alert the same incident is not told again; it doubles.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "1d"))]
    pub alert_quiet: Duration,
    /// How far that grows.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "7d"))]
    pub alert_quiet_most: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        let alerts = EscalationPolicy::default();
        Self {
            probe_within: Duration::from_secs(1),
            ready_for: Duration::from_secs(1),
            certificates_every: Duration::from_secs(60 * 60),
            certificate_warn: DAY * 30,
            certificate_fail: DAY * 3,
            completion_objective: 0.999,
            first_event_objective: 0.99,
            first_event_within: Duration::from_secs(1),
            answer_objective: 0.95,
            answer_within: Duration::from_secs(120),
            queued_runs: 1_000,
            alert_window: alerts.window,
            alert_failures: alerts.failures,
            alert_users: alerts.users,
            alert_quiet: alerts.quiet,
            alert_quiet_most: alerts.quiet_most,
        }
    }
}

impl Section for HealthConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["certificate_fail", "certificate_warn"],
            self.certificate_fail <= self.certificate_warn,
            FaultCode::Conflict,
            "fails before it warns",
            "make it shorter than certificate_warn",
        );
        checks.require(
            &["alert_quiet_most", "alert_quiet"],
            self.alert_quiet <= self.alert_quiet_most,
            FaultCode::Conflict,
            "is shorter than alert_quiet",
            "make it at least as long",
        );
    }
}

impl HealthConfig {
    /// When failures escalate.
    #[must_use]
    pub fn escalation(&self) -> EscalationPolicy {
        EscalationPolicy {
            window: self.alert_window,
            failures: self.alert_failures,
            users: self.alert_users,
            quiet: self.alert_quiet,
            quiet_most: self.alert_quiet_most,
        }
    }
}
