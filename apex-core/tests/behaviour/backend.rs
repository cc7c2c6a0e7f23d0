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
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            // What the disk has to survive is tested apart; here it would only make the suite slow.
            synchronous: Synchronous::Normal,
            runs: limits.runs,
            files: limits.files,
            ..SqliteOptions::new(folder.path().join("apex.db"))
        };
        self.folders.lock().unwrap().push(folder);
        sqlite::open(&options, clock)
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
    pub(crate) fn all() -> Vec<Arc<dyn Backend>> {
        let mut found: Vec<Arc<dyn Backend>> = Vec::new();
        if apex_test_services::shared("redis").is_some() {
            found.push(Arc::new(Self { name: "redis", server: OnceLock::new() }));
        }
        for kind in [Kind::Sentinel, Kind::Cluster] {
            match kind.missing() {
                None => found.push(Arc::new(Self { name: kind.name(), server: OnceLock::new() })),
                Some(program) => {
                    apex_test_services::skip(kind.name(), &format!("{program} is not installed"));
                }
            }
        }
        found
    }

    /// The seams that Redis has a part in.
    pub(crate) const SEAMS: [&str; 6] =
        ["ticket", "session", "limit", "breakers", "subscription", "inbox"];

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
        let options = RedisOptions {
            prefix: format!("test-{:016x}", fastrand::u64(..)),
            // Many suites run on one machine.
            answer: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            ..RedisOptions::new(self.url())
        };
        let shared = redis::open(&options, &*clock).await?;
        let options = memory::MemoryOptions { runs: limits.runs, files: limits.files };
        Ok(shared.of(memory::open_with(options, clock, Arc::clone(&shared.wakeup))))
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
        let options = PostgresOptions {
            time: Time::Host,
            runs: limits.runs,
            files: limits.files,
            ..self.options()
        };
        postgres::open(&options, clock).await
    }
}
