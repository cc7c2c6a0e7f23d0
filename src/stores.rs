//! Opening the stores that a builder was told of.

use apex_core::clock::Clock;
use apex_core::config::{DatabaseKind, DatabaseUrl, Environment, SchemaName};
use apex_core::database::DatabaseConfig;
use apex_core::error::{Error, Kind, Result};
use apex_core::file::FileLimits;
use apex_core::health::{CertificateSource, Probe, Resource};
use apex_core::resilience::BreakerExchange;
use apex_core::run::{RunLimits, Wakeup};
use apex_core::store::{Stores, memory};
use std::sync::Arc;

/// What health calls the server that everything is kept in, and one that keeps what lets users in.
pub(crate) const MAIN: &str = "postgres";
const AUTH: &str = "auth_database";

/// The stores to be opened.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) url: DatabaseUrl,
    /// What health calls it, where it is a server.
    pub(crate) name: &'static str,
    /// Where accounts, logins, tickets, limits and the record of the door are kept instead.
    pub(crate) auth: Option<DatabaseUrl>,
    pub(crate) schema: SchemaName,
    pub(crate) pool: DatabaseConfig,
    /// The address and the prefix of the keys.
    pub(crate) redis: Option<(DatabaseUrl, String)>,
    /// Whether the events of runs are kept there.
    pub(crate) event_log: bool,
    pub(crate) environment: Environment,
    pub(crate) runs: RunLimits,
    pub(crate) files: FileLimits,
}

/// Passes for databases that this build can open.
///
/// # Errors
/// `config_invalid`.
pub(crate) fn openable(
    url: &DatabaseUrl,
    auth: Option<&DatabaseUrl>,
    redis: Option<&DatabaseUrl>,
) -> Result<()> {
    let can = |url: &DatabaseUrl| match url.kind() {
        DatabaseKind::Sqlite => url.database() == ":memory:" || cfg!(feature = "sqlite"),
        DatabaseKind::Postgres => cfg!(feature = "postgres"),
        DatabaseKind::Redis | DatabaseKind::ClickHouse => false,
    };
    let refused = |key, url: &DatabaseUrl| {
        Error::new(
            Kind::Config,
            "config.builder",
            "this build of Apex cannot open that database: turn its feature on, or hand over stores",
        )
        .with(key, url)
    };
    match (auth, redis) {
        _ if !can(url) => Err(refused("database.url", url)),
        (Some(auth), _) if !can(auth) => Err(refused("database.auth", auth)),
        (_, Some(redis)) if redis.kind() != DatabaseKind::Redis || !cfg!(feature = "redis") => {
            Err(refused("redis.url", redis))
        }
        _ => Ok(()),
    }
}

/// The stores, and what tells how the servers behind them are doing.
pub(crate) struct Opened {
    pub(crate) stores: Stores,
    pub(crate) probes: Vec<Arc<dyn Probe>>,
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) certificates: Vec<Arc<dyn CertificateSource>>,
    /// By what nodes tell each other of their breakers, where they share something for that.
    pub(crate) exchange: Option<Arc<dyn BreakerExchange>>,
}

impl From<Stores> for Opened {
    fn from(stores: Stores) -> Self {
        Self {
            stores,
            probes: Vec::new(),
            resources: Vec::new(),
            certificates: Vec::new(),
            exchange: None,
        }
    }
}

impl Opening {
    pub(crate) async fn open(self, clock: &Arc<dyn Clock>) -> Result<Opened> {
        openable(&self.url, self.auth.as_ref(), self.redis.as_ref().map(|(url, _)| url))?;
        #[cfg(feature = "redis")]
        if let Some((url, prefix)) = self.redis.clone() {
            use apex_core::store::redis::{self, RedisOptions};
            let environment = self.environment;
            let options = RedisOptions { prefix, environment, ..RedisOptions::new(url) };
            let redis = redis::open(&options, &**clock).await?;
            let mut opened = self.clone().databases(clock, Some(Arc::clone(&redis.wakeup))).await?;
            opened.certificates.extend(apex_core::tls::certificates(&options.url)?);
            opened.probes.push(Arc::clone(&redis.probe));
            opened.exchange = Some(Arc::clone(&redis.breakers));
            let mut stores = redis.of(opened.stores);
            if self.event_log {
                stores = redis.with_event_log(stores, self.runs, Arc::clone(clock)).await?;
            }
            return Ok(Opened { stores, ..opened });
        }
        if self.event_log {
            return Err(Error::new(
                Kind::Config,
                "config.builder",
                "the events of runs are to be kept in Redis, and no Redis is named",
            ));
        }
        self.databases(clock, None).await
    }

    /// The stores in the database, and those that let users in where they have one of their own.
    async fn databases(
        self,
        clock: &Arc<dyn Clock>,
        wakeup: Option<Arc<dyn Wakeup>>,
    ) -> Result<Opened> {
        let Some(url) = self.auth.clone() else {
            return self.database(clock, wakeup).await;
        };
        let own = Self { url, name: AUTH, ..self.clone() };
        let mut opened = self.database(clock, wakeup).await?;
        // Who waits for revocations waits at the first one.
        let auth = own.database(clock, Some(Arc::clone(&opened.stores.wakeup))).await?;
        opened.probes.extend(auth.probes);
        opened.resources.extend(auth.resources);
        opened.certificates.extend(auth.certificates);
        Ok(Opened { stores: opened.stores.with_auth(&auth.stores), ..opened })
    }

    /// The stores in the database, which wake by `wakeup` or in a way of their own.
    async fn database(
        self,
        clock: &Arc<dyn Clock>,
        wakeup: Option<Arc<dyn Wakeup>>,
    ) -> Result<Opened> {
        let Self { url, name, schema, pool, environment, runs, files, .. } = self;
        let clock = Arc::clone(clock);
        let stores = match (url.kind(), url.database()) {
            #[cfg(feature = "postgres")]
            (DatabaseKind::Postgres, _) => {
                use apex_core::store::postgres::{self, PostgresOptions};
                let certificates = apex_core::tls::certificates(&url)?;
                let new = PostgresOptions::new(url);
                let new = PostgresOptions { name: name.to_owned(), ..new };
                let options =
                    PostgresOptions { schema, environment, database: pool, runs, files, ..new };
                let opened = postgres::open_with(&options, clock, wakeup).await?;
                return Ok(Opened {
                    probes: vec![opened.probe],
                    resources: vec![opened.sessions],
                    certificates,
                    ..opened.stores.into()
                });
            }
            #[cfg(feature = "sqlite")]
            (DatabaseKind::Sqlite, path) if path != ":memory:" => {
                use apex_core::store::sqlite::{self, SqliteOptions};
                let options =
                    SqliteOptions { environment, runs, files, ..SqliteOptions::new(path) };
                match wakeup {
                    Some(wakeup) => sqlite::open_with(&options, clock, wakeup),
                    None => sqlite::open(&options, clock),
                }
            }
            _ => {
                // What the other databases are told.
                let _ = (name, environment, schema, pool);
                let options = memory::MemoryOptions { runs, files };
                Ok(match wakeup {
                    Some(wakeup) => memory::open_with(options, clock, wakeup),
                    None => memory::open(options, clock),
                })
            }
        };
        stores.map(Opened::from)
    }
}
