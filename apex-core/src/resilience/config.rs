use super::breaker::{Breaker, BreakerOptions};
use super::bulkhead::Bulkhead;
use super::policy::{Policy, PolicyOptions};
use super::retry::{Backoff, Budget};
use crate::config::{Checks, Environment, FaultCode, HumanDuration, Section, duration};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How calls to a dependency are protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ResilienceConfig {
    /// The tries of one call in all; without a value 3 in development and 5 elsewhere.
    #[schemars(range(min = 1, max = 10))]
    pub tries: Option<u32>,
    /// The time for all tries of one call; without a value 5s in development and 10s elsewhere.
    #[serde(with = "duration::optional")]
    #[schemars(with = "Option<HumanDuration>", extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub total: Option<Duration>,
    /// The time for one try; without a value 2s in development and 3s elsewhere.
    #[serde(with = "duration::optional")]
    #[schemars(with = "Option<HumanDuration>", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub attempt: Option<Duration>,
    /// Whether a serverless connector stands before the dependency, which may have to wake up: one try to connect
    /// then gets 30s.
    pub serverless_connector: bool,
    /// The most that the first wait between tries can be; later ones double.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1ms", "x-maximum" = "10s"))]
    pub backoff_base: Duration,
    /// The most that any wait between tries can be; without a value 1s in development and 2s elsewhere.
    #[serde(with = "duration::optional")]
    #[schemars(with = "Option<HumanDuration>", extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub backoff_cap: Option<Duration>,
    /// The share of calls over ten seconds that may be repeated.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget_share: f64,
    /// The repeated calls a second that are allowed beyond that share.
    #[schemars(range(min = 0, max = 1_000))]
    pub budget_per_second: u32,
    /// The calls under way at a time.
    #[schemars(range(min = 1, max = 10_000))]
    pub at_a_time: usize,
    /// The calls that may wait for a place.
    #[schemars(range(min = 0, max = 100_000))]
    pub waiting: usize,
    /// The time over which the breaker judges.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub breaker_window: Duration,
    /// The breaker judges no fewer calls than these.
    #[schemars(range(min = 1, max = 10_000))]
    pub breaker_least_calls: u32,
    /// The share of failed or slow calls that opens the breaker.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub breaker_bad_share: f64,
    /// A call that takes longer counts as bad.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub breaker_slow: Duration,
    /// How long the breaker stays open the first time; it doubles.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "10m"))]
    pub breaker_open: Duration,
    /// How far that grows.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub breaker_open_most: Duration,
    /// The calls let through to see whether the dependency is back.
    #[schemars(range(min = 1, max = 100))]
    pub breaker_probes: u32,
}

impl Default for ResilienceConfig {
    fn default() -> Self {
        let breaker = BreakerOptions::default();
        Self {
            tries: None,
            total: None,
            attempt: None,
            serverless_connector: false,
            backoff_base: Duration::from_millis(100),
            backoff_cap: None,
            budget_share: 0.2,
            budget_per_second: 10,
            at_a_time: 64,
            waiting: 256,
            breaker_window: breaker.window,
            breaker_least_calls: breaker.least_calls,
            breaker_bad_share: breaker.bad_share,
            breaker_slow: breaker.slow,
            breaker_open: breaker.open,
            breaker_open_most: breaker.open_most,
            breaker_probes: breaker.probes,
        }
    }
}

impl Section for ResilienceConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        let options = self.policy_options(checks.environment());
        checks.require(
            &["attempt", "total"],
            options.attempt <= options.total,
            FaultCode::Conflict,
            "one try may take longer than all of them",
            "make attempt shorter or total longer",
        );
        checks.require(
            &["backoff_cap", "backoff_base"],
            options.backoff.base <= options.backoff.cap,
            FaultCode::Conflict,
            "is shorter than backoff_base",
            "make it at least as long",
        );
        checks.require(
            &["breaker_open_most", "breaker_open"],
            self.breaker_open <= self.breaker_open_most,
            FaultCode::Conflict,
            "is shorter than breaker_open",
            "make it at least as long",
        );
    }
}

impl ResilienceConfig {
    /// The terms in an environment.
    #[must_use]
    pub fn policy_options(&self, environment: Environment) -> PolicyOptions {
        let development = environment == Environment::Development;
        let or = |own: Option<Duration>, here: u64, elsewhere: u64| {
            own.unwrap_or(Duration::from_secs(if development { here } else { elsewhere }))
        };
        let attempt = or(self.attempt, 2, 3);
        PolicyOptions {
            tries: self.tries.unwrap_or(if development { 3 } else { 5 }),
            total: or(self.total, 5, 10),
            attempt,
            connect: if self.serverless_connector { Duration::from_secs(30) } else { attempt },
            backoff: Backoff { base: self.backoff_base, cap: or(self.backoff_cap, 1, 2) },
        }
    }

    /// The breaker's terms.
    #[must_use]
    pub fn breaker_options(&self) -> BreakerOptions {
        BreakerOptions {
            window: self.breaker_window,
            least_calls: self.breaker_least_calls,
            bad_share: self.breaker_bad_share,
            slow: self.breaker_slow,
            open: self.breaker_open,
            open_most: self.breaker_open_most,
            probes: self.breaker_probes,
        }
    }

    /// A policy of its own for a dependency.
    #[must_use]
    pub fn policy(&self, dependency: &str, environment: Environment) -> Policy {
        Policy::new(
            self.policy_options(environment),
            Arc::new(Breaker::new(dependency, self.breaker_options())),
            Arc::new(Bulkhead::new(dependency, self.at_a_time, self.waiting)),
            Arc::new(Budget::new(self.budget_share, self.budget_per_second)),
        )
    }
}
