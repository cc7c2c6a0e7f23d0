//! Where everything is kept.

use apex_core::config::{Checks, DatabaseKind, DatabaseUrl, FaultCode, SchemaName, Section};
use apex_core::database::DatabaseConfig;
use serde::Deserialize;

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
    /// Whether the events of runs are kept in this Redis instead of the database: faster, and what was recorded in the
    /// last seconds may be lost with it, which readers are told.
    pub event_log: bool,
}

impl Default for RedisSection {
    fn default() -> Self {
        Self { url: None, prefix: "apex".to_owned(), event_log: false }
    }
}

impl Section for RedisSection {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["event_log", "url"],
            !self.event_log || self.url.is_some(),
            FaultCode::Missing,
            "the events of runs are to be kept in Redis, and no Redis is named",
            "set redis.url, or turn redis.event_log off",
        );
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
