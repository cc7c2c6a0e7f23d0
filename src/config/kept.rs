//! What is kept, and for how long.

use apex_core::auth::{AddressMask, AuthConfig};
use apex_core::config::{
    Checks, DatabaseKind, DatabaseUrl, Environment, FaultCode, HumanDuration, Section, duration,
};
use apex_core::file::FileLimits;
use apex_core::run::RunLimits;
use serde::Deserialize;
use std::time::Duration;

/// Where everything is kept.
#[derive(Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct StoreSection {
    /// The database: `sqlite:PATH`, whose folder must be there, or `sqlite::memory:` in development.
    #[schemars(extend("default" = "sqlite:apex.db"))]
    pub url: Option<DatabaseUrl>,
}

impl StoreSection {
    /// The database, or the default one.
    #[must_use]
    pub fn address(&self) -> DatabaseUrl {
        self.url.clone().unwrap_or_else(|| DatabaseUrl::sqlite("apex.db"))
    }
}

impl Section for StoreSection {
    fn check(&self, checks: &mut Checks<'_>) {
        let url = self.address();
        url.check(checks, "url");
        checks.require(
            &["url"],
            url.kind() == DatabaseKind::Sqlite,
            FaultCode::Range,
            "this version keeps everything in SQLite",
            "write sqlite:PATH, or let the host hand over stores of its own",
        );
    }
}

/// How logins and tickets behave.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AuthSection {
    /// How long a ticket is good.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "60s"))]
    pub ticket_life: Duration,
    /// The tickets of one user that may be unused at a time.
    #[schemars(range(min = 1, max = 1_000))]
    pub unused_tickets: usize,
    /// Whether a ticket is good only from the address that bought it; `server.trusted_proxies` has to be right then.
    pub ticket_address: bool,
    /// How long a token is good before its login has to be renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "24h"))]
    pub token_life: Duration,
    /// How long a login may stay without being renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "90d"))]
    pub idle_life: Duration,
    /// How long a login is good, however often it is renewed.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "90d"))]
    pub session_life: Duration,
    /// How long the record of logins, entries and refusals is kept.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1h", "x-maximum" = "3650d"))]
    pub audit_life: Duration,
    /// What that record keeps of clients' addresses: all, their network, or nothing.
    pub addresses: AddressMask,
}

impl Default for AuthSection {
    fn default() -> Self {
        let AuthConfig {
            ticket_life,
            unused_tickets,
            ticket_address,
            token_life,
            idle_life,
            session_life,
            audit_life,
            addresses,
            ..
        } = AuthConfig::default();
        Self {
            ticket_life,
            unused_tickets,
            ticket_address,
            token_life,
            idle_life,
            session_life,
            audit_life,
            addresses,
        }
    }
}

impl AuthSection {
    pub(super) fn config(&self, environment: Environment) -> AuthConfig {
        AuthConfig {
            environment,
            ticket_life: self.ticket_life,
            unused_tickets: self.unused_tickets,
            ticket_address: self.ticket_address,
            token_life: self.token_life,
            idle_life: self.idle_life,
            session_life: self.session_life,
            audit_life: self.audit_life,
            addresses: self.addresses,
            ..AuthConfig::default()
        }
    }
}

/// What runs and their logs may use.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RunsSection {
    /// Runs of one user at work at the same time.
    #[schemars(range(min = 1, max = 1_000))]
    pub running: usize,
    /// Runs of one user that wait for a place.
    #[schemars(range(min = 0, max = 10_000))]
    pub queued: usize,
    /// How long a node holds a run without a sign of life before another node takes it over.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub lease: Duration,
    /// The attempts after which a run that keeps getting lost has failed.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// The events that one log keeps.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub history_events: usize,
    /// The bytes of events that one log keeps.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub history_bytes: usize,
    /// How long a log is kept after its run ended.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "365d"))]
    pub history_age: Duration,
    /// The entries that one inbox keeps.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub inbox_entries: usize,
}

impl Default for RunsSection {
    fn default() -> Self {
        let RunLimits {
            running,
            queued,
            lease,
            attempts,
            history_events,
            history_bytes,
            history_age,
            inbox_entries,
        } = RunLimits::default();
        Self {
            running,
            queued,
            lease,
            attempts,
            history_events,
            history_bytes,
            history_age,
            inbox_entries,
        }
    }
}

impl RunsSection {
    pub(super) fn limits(&self) -> RunLimits {
        RunLimits {
            running: self.running,
            queued: self.queued,
            lease: self.lease,
            attempts: self.attempts,
            history_events: self.history_events,
            history_bytes: self.history_bytes,
            history_age: self.history_age,
            inbox_entries: self.inbox_entries,
        }
    }
}

/// What users may upload.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct FilesSection {
    /// The largest file, in bytes.
    #[schemars(range(min = 1_024, max = 1_099_511_627_776_u64))]
    pub file_bytes: u64,
    /// All files of one user together, in bytes.
    #[schemars(range(min = 1_024, max = 1_125_899_906_842_624_u64))]
    pub user_bytes: u64,
    /// How many files one user may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub user_files: usize,
}

impl Default for FilesSection {
    fn default() -> Self {
        let FileLimits { file_bytes, user_bytes, user_files } = FileLimits::default();
        Self { file_bytes, user_bytes, user_files }
    }
}

impl Section for FilesSection {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["user_bytes", "file_bytes"],
            self.file_bytes <= self.user_bytes,
            FaultCode::Conflict,
            "a single file may be larger than all files of a user together",
            "raise user_bytes or lower file_bytes",
        );
    }
}

impl FilesSection {
    pub(super) fn limits(&self) -> FileLimits {
        FileLimits {
            file_bytes: self.file_bytes,
            user_bytes: self.user_bytes,
            user_files: self.user_files,
        }
    }
}
