use crate::config::{Checks, FaultCode, HumanDuration, Section, duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many sessions a server database gives, to whom, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct DatabaseConfig {
    /// The connections of this node. Twice the cores of the database's machine, divided by the nodes, is enough.
    #[schemars(range(min = 1, max = 1_000))]
    pub connections: usize,
    /// The nodes that share the server, for the check at start that the server has enough connections for all.
    #[schemars(range(min = 1, max = 10_000))]
    pub nodes: usize,
    /// The sessions that one user may hold at a time; without a value a quarter of the connections, at least 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub per_user: Option<usize>,
    /// The requests of one user that may wait for a session.
    #[schemars(range(min = 1, max = 10_000))]
    pub waiting_per_user: usize,
    /// The requests that may wait for a session; without a value 64 times the connections.
    #[schemars(range(min = 1, max = 100_000))]
    pub waiting: Option<usize>,
    /// How long a request waits for a session.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "5m"))]
    pub acquire: Duration,
    /// How long a try to connect may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "2m"))]
    pub connect: Duration,
    /// How long one statement may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub statement: Duration,
    /// How long a statement waits for a lock.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
    pub lock: Duration,
    /// How long a transaction may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1d"))]
    pub transaction: Duration,
    /// A session held for longer is reported with the place in the code that took it.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "1d"))]
    pub leak_warn: Duration,
    /// A session held for longer is taken back.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "10ms", "x-maximum" = "7d"))]
    pub leak_take_back: Duration,
    /// A waiting request of a lower priority that has waited for longer gets every fourth session.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1ms", "x-maximum" = "5m"))]
    pub age: Duration,
    /// Critical work that has waited for longer takes the place of the youngest preemptible session.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1ms", "x-maximum" = "1m"))]
    pub preempt: Duration,
    /// A connection that was idle for longer is asked whether it is alive before it is used.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "0s", "x-maximum" = "10m"))]
    pub ping_after: Duration,
    /// How long what was written under an operation id stays on record.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1h", "x-maximum" = "365d"))]
    pub record_for: Duration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            connections: 10,
            nodes: 1,
            per_user: None,
            waiting_per_user: 16,
            waiting: None,
            acquire: Duration::from_secs(2),
            connect: Duration::from_secs(3),
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(10),
            transaction: Duration::from_secs(60),
            leak_warn: Duration::from_secs(30),
            leak_take_back: Duration::from_secs(5 * 60),
            age: Duration::from_millis(500),
            preempt: Duration::from_millis(50),
            ping_after: Duration::from_secs(5),
            record_for: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl DatabaseConfig {
    /// The sessions that one user may hold at a time.
    #[must_use]
    pub fn share(&self) -> usize {
        self.per_user.unwrap_or((self.connections / 4).max(1))
    }

    /// The requests that may wait.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.waiting.unwrap_or(self.connections.saturating_mul(64))
    }
}

impl Section for DatabaseConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["per_user", "connections"],
            self.share() <= self.connections,
            FaultCode::Conflict,
            "one user may hold more sessions than there are",
            "make per_user at most connections",
        );
        checks.require(
            &["statement", "transaction"],
            self.statement <= self.transaction,
            FaultCode::Conflict,
            "one statement may take longer than its transaction",
            "make statement shorter or transaction longer",
        );
        checks.require(
            &["leak_warn", "leak_take_back"],
            self.leak_warn <= self.leak_take_back,
            FaultCode::Conflict,
            "a session is taken back before it is reported",
            "make leak_warn at most leak_take_back",
        );
        checks.require(
            &["transaction", "leak_take_back"],
            self.transaction <= self.leak_take_back,
            FaultCode::Conflict,
            "a session is taken back while its transaction may still run",
            "make leak_take_back at least transaction",
        );
    }
}
