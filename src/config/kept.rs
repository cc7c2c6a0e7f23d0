//! What is kept, and for how long.

use apex_core::auth::{AddressMask, AuthConfig};
use apex_core::config::{
    Checks, DatabaseKind, DatabaseUrl, Environment, FaultCode, HumanDuration, SchemaName, Section,
    duration,
};
use apex_core::database::DatabaseConfig;
use serde::Deserialize;
use std::time::Duration;

/// Where everything is kept.
#[derive(Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct DatabaseSection {
    /// The database: `sqlite:PATH`, whose folder must be there, `postgres://USER:PASSWORD@HOST/NAME`, or
    /// `sqlite::memory:` in development.
    #[schemars(extend("default" = "sqlite:apex.db"))]
    pub url: Option<DatabaseUrl>,
    /// A database of their own for accounts, logins, tickets, limits and the record of the door; it has the same
    /// `schema` and `pool`. Without one they are with everything else.
    pub auth: Option<DatabaseUrl>,
    /// The schema of a PostgreSQL database that holds everything; made when it is not there.
    pub schema: SchemaName,
    /// Sessions with PostgreSQL.
    pub pool: DatabaseConfig,
}

impl DatabaseSection {
    /// The database, or the default one.
    #[must_use]
    pub fn address(&self) -> DatabaseUrl {
        self.url.clone().unwrap_or_else(|| DatabaseUrl::sqlite("apex.db"))
    }
}

impl Section for DatabaseSection {
    fn check(&self, checks: &mut Checks<'_>) {
        let own = self.auth.clone().map(|url| ("auth", url));
        for (key, url) in std::iter::once(("url", self.address())).chain(own) {
            url.check(checks, key);
            checks.require(
                &[key],
                matches!(url.kind(), DatabaseKind::Sqlite | DatabaseKind::Postgres),
                FaultCode::Range,
                "everything is kept in SQLite or PostgreSQL",
                "write sqlite:PATH or postgres://USER@HOST/NAME, or let the host hand over stores of its own",
            );
        }
        checks.section("pool", &self.pool);
    }
}

/// A Redis for what nodes share for a short time: tickets, logins, limits and wake-ups. Without one the database keeps
/// them.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RedisSection {
    /// The Redis: `redis://HOST/0`, with TLS `rediss://`.
    pub url: Option<DatabaseUrl>,
    /// What all keys begin with; two that share a Redis need two.
    #[schemars(length(min = 1, max = 48))]
    pub prefix: String,
}

impl Default for RedisSection {
    fn default() -> Self {
        Self { url: None, prefix: "apex".to_owned() }
    }
}

impl Section for RedisSection {
    fn check(&self, checks: &mut Checks<'_>) {
        let Some(url) = &self.url else {
            return;
        };
        url.check(checks, "url");
        checks.require(
            &["url"],
            url.kind() == DatabaseKind::Redis,
            FaultCode::Range,
            "this is no address of a Redis",
            "write redis://HOST/0, or rediss://HOST/0 with TLS",
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
