use apex_core::clock::Clock;
use apex_core::config::DatabaseUrl;
use apex_core::database::DatabaseConfig;
use apex_core::error::Result;
use apex_core::run::LocalWakeup;
use apex_core::store::postgres::{PostgresOptions, Time};
use apex_core::store::redis::RedisOptions;
use apex_core::store::sqlite::{SqliteOptions, Synchronous};
use apex_core::store::{Stores, memory, postgres, redis, sqlite};
use apex_core::testkit::line::{Line, Sound, over};
use apex_core::testkit::{Backend, Limits};
use apex_test_services::{Kind, Options, Server};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// A runtime as a host would have it.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[derive(Debug)]
pub(crate) struct Memory;

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let options = memory::MemoryOptions { runs: limits.runs, files: limits.files };
        Ok(memory::open(options, clock))
    }
}

/// The stores of the simulation: memory with a replica, at the other end of a line on which nothing is lost.
#[derive(Debug)]
pub(crate) struct Replicated;

#[async_trait]
impl Backend for Replicated {
    fn name(&self) -> &'static str {
        "replicated"
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let options = memory::MemoryOptions { runs: limits.runs, files: limits.files };
        let (stores, _) = memory::replicated(options, clock, Arc::new(LocalWakeup::default()));
        let line: Arc<dyn Line> = Arc::new(Sound);
        Ok(over(stores, &line))
    }
}

/// Each time in a folder of its own, which goes with the process.
#[derive(Debug, Default)]
pub(crate) struct Sqlite {
    folders: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl Backend for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        sqlite::open(&self.options(limits), clock)
    }
}

impl Sqlite {
    fn options(&self, limits: Limits) -> SqliteOptions {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            // What the disk has to survive is tested apart; here it would only make the suite slow.
            synchronous: Synchronous::Normal,
            runs: limits.runs,
            files: limits.files,
            ..SqliteOptions::new(folder.path().join("apex.db"))
        };
        self.folders.lock().unwrap().push(folder);
        options
    }
}

/// What Redis keeps, over the rest in memory; each time under a prefix of its own.
#[derive(Debug)]
pub(crate) struct Redis {
    name: &'static str,
    server: OnceLock<Option<Server>>,
}

impl Redis {
    /// One server, one under Sentinel, and a cluster; those that are installed.
    pub(crate) fn all() -> Vec<Arc<Self>> {
        let mut found = Vec::new();
        let mut add = |name| found.push(Arc::new(Self { name, server: OnceLock::new() }));
        if apex_test_services::shared("redis").is_some() {
            add("redis");
        }
        for kind in [Kind::Sentinel, Kind::Cluster] {
            match kind.missing() {
                None => add(kind.name()),
                Some(program) => {
                    apex_test_services::skip(kind.name(), &format!("{program} is not installed"));
                }
            }
        }
        found
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.name == "cluster"
    }

    /// Options for keys of one's own.
    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions {
            prefix: format!("test-{:016x}", fastrand::u64(..)),
            // Many suites run on one machine.
            answer: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            ..RedisOptions::new(self.url())
        }
    }

    /// The seams that Redis has a part in.
    pub(crate) const SEAMS: [&str; 6] =
        ["ticket", "session", "limit", "breakers", "subscription", "inbox"];

    async fn shared(&self, clock: &dyn Clock) -> Result<redis::Redis> {
        redis::open(&self.options(), clock).await
    }

    fn url(&self) -> DatabaseUrl {
        let kind = match self.name {
            "sentinel" => Some(Kind::Sentinel),
            "cluster" => Some(Kind::Cluster),
            _ => None,
        };
        let start = || kind.map(|kind| Server::start(kind, &Options::default()).unwrap());
        let url = match self.server.get_or_init(start) {
            Some(server) => server.url().to_owned(),
            None => apex_test_services::shared("redis").unwrap(),
        };
        url.parse().unwrap()
    }
}

#[async_trait]
impl Backend for Redis {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let shared = self.shared(&*clock).await?;
        let options = memory::MemoryOptions { runs: limits.runs, files: limits.files };
        Ok(shared.of(memory::open_with(options, clock, Arc::clone(&shared.wakeup))))
    }
}

/// Runs in a database, their events in Redis.
#[derive(Debug)]
pub(crate) struct EventLog {
    name: &'static str,
    redis: Redis,
    database: Under,
}

#[derive(Debug)]
enum Under {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl EventLog {
    /// One server over SQLite, and over PostgreSQL where that is there; under Sentinel and in a cluster over SQLite. Each
    /// with the seams that are tried: those groups differ only in where a script runs.
    pub(crate) fn all() -> Vec<(Arc<dyn Backend>, &'static [&'static str])> {
        let mut found: Vec<(Arc<dyn Backend>, &'static [&'static str])> = Vec::new();
        let mut add = |name, redis, database| {
            let seams = if redis == "redis" { &Self::SEAMS[..] } else { &["lease"] };
            let redis = Redis { name: redis, server: OnceLock::new() };
            found.push((Arc::new(Self { name, redis, database }), seams));
        };
        if apex_test_services::shared("redis").is_some() {
            add("event_log", "redis", Under::Sqlite(Sqlite::default()));
            if let Some(postgres) = Postgres::shared("postgres") {
                add("event_log_postgres", "redis", Under::Postgres(Box::new(postgres)));
            }
        }
        for (name, kind) in
            [("event_log_sentinel", Kind::Sentinel), ("event_log_cluster", Kind::Cluster)]
        {
            if kind.missing().is_none() {
                add(name, kind.name(), Under::Sqlite(Sqlite::default()));
            }
        }
        found
    }

    /// The seams that it has a part in.
    const SEAMS: [&str; 7] =
        ["run_log", "lease", "walk", "subscription", "inbox", "isolation", "erase"];
}

#[async_trait]
impl Backend for EventLog {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        let shared = self.redis.shared(&*clock).await?;
        let (wakeup, time) = (Arc::clone(&shared.wakeup), Arc::clone(&clock));
        let stores = match &self.database {
            Under::Sqlite(sqlite) => sqlite::open_with(&sqlite.options(limits), time, wakeup)?,
            Under::Postgres(postgres) => {
                let options = postgres.limited(limits);
                postgres::open_with(&options, time, Some(wakeup)).await?.stores
            }
        };
        shared.with_event_log(stores, limits.runs, clock).await
    }
}

/// Each time in a schema of its own.
#[derive(Debug)]
pub(crate) struct Postgres {
    name: &'static str,
    url: DatabaseUrl,
}

impl Postgres {
    /// The shared server of that name, if there is one.
    pub(crate) fn shared(name: &'static str) -> Option<Self> {
        let url = apex_test_services::shared(name)?.parse().unwrap();
        Some(Self { name, url })
    }

    /// Options for a new schema.
    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            schema: format!("test_{}", uuid::Uuid::now_v7().simple()).parse().unwrap(),
            database: DatabaseConfig {
                connections: 4,
                // The suite asks in one user's name what many users would ask.
                per_user: Some(4),
                waiting_per_user: 200,
                waiting: Some(2_000),
                // Many suites run on one machine.
                acquire: Duration::from_secs(20),
                ..DatabaseConfig::default()
            },
            ..PostgresOptions::new(self.url.clone())
        }
    }
}

#[async_trait]
impl Backend for Postgres {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores> {
        postgres::open(&self.limited(limits), clock).await
    }
}

impl Postgres {
    fn limited(&self, limits: Limits) -> PostgresOptions {
        PostgresOptions {
            time: Time::Host,
            runs: limits.runs,
            files: limits.files,
            ..self.options()
        }
    }
}
