//! Against real servers.

mod causes;
mod deadlines;
#[cfg(feature = "testkit")]
mod failover;
mod faults;
#[cfg(feature = "testkit")]
mod killed;
mod leaks;
#[cfg(feature = "testkit")]
mod loss;
mod sessions;

use super::*;
use crate::error::{Failure, Outcome};
use apex_test_services::{Kind as Service, Options, Proxy, Replies, Server};
use parking_lot::Mutex;
use std::sync::atomic::Ordering;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// Reading a row's columns.
trait Columns {
    /// The value of a column, counted from 0.
    fn column<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T>;
}

impl Columns for Row {
    fn column<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T> {
        self.try_get(index).map_err(|error| Error::internal("test", error.to_string()))
    }
}

/// A server of a test's own; none where PostgreSQL is not installed, which is then said.
fn server(options: &Options) -> Option<Server> {
    Server::start_or_skip(Service::Postgres, options)
}

/// One of each version.
fn servers() -> impl Iterator<Item = Server> {
    let versions = [None, Some("18".to_owned())];
    versions.into_iter().filter_map(|version| server(&Options { version, ..Options::default() }))
}

/// The password of the tests' own user.
fn password(server: &Server) -> String {
    url(server.url()).password().unwrap().reveal().clone()
}

fn url(text: &str) -> DatabaseUrl {
    text.parse().unwrap()
}

fn access() -> Access {
    Access::system("test")
}

fn small() -> DatabaseConfig {
    DatabaseConfig {
        connections: 4,
        per_user: Some(4),
        // Logins are slow in a build that is not optimised.
        acquire: Duration::from_secs(5),
        ..DatabaseConfig::default()
    }
}

async fn open(address: &str, config: DatabaseConfig) -> Database {
    let database = Database::open(&url(address), config).await.unwrap();
    let made = database.write(access(), |transaction| {
        Box::pin(async move {
            transaction.batch("CREATE TABLE IF NOT EXISTS t (k text PRIMARY KEY)").await?;
            transaction.batch(OPERATION_TABLE).await
        })
    });
    made.await.unwrap();
    database
}

async fn insert(database: &Database, access: Access, key: &str) -> Result<()> {
    let written = database.write(access, |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO t (k) VALUES ($1)", &[&key]).await?;
            Ok(())
        })
    });
    written.await
}

async fn count(database: &Database) -> i64 {
    number(database, "SELECT count(*) FROM t").await.unwrap()
}

/// The one number that a query gives.
async fn number(database: &Database, sql: &'static str) -> Result<i64> {
    let asked = database.read(access(), |transaction| {
        Box::pin(async move { transaction.query_one(sql, &[]).await?.column::<i64>(0) })
    });
    asked.await
}

async fn sleep_on_server(database: &Database, access: Access, seconds: f64) -> Result<()> {
    let slept = database.read(access, |transaction| {
        Box::pin(
            async move { transaction.query("SELECT pg_sleep($1)", &[&seconds]).await.map(drop) },
        )
    });
    slept.await
}

/// Opens every connection of the pool.
async fn fill(database: &Database) {
    while database.statistics().idle < 4 {
        let sleeps = (0..4).map(|_| sleep_on_server(database, access(), 0.2));
        futures_util::future::try_join_all(sleeps).await.unwrap();
    }
}

/// Looks at the server from outside, by connections of its own.
struct Watcher(Database);

impl Watcher {
    async fn new(server: &Server) -> Self {
        let address = format!("{}&application_name=watcher", server.url());
        let config = DatabaseConfig { connections: 1, ..DatabaseConfig::default() };
        Self(Database::open(&url(&address), config).await.unwrap())
    }

    /// Sessions of others that do something, or have a transaction open.
    async fn busy(&self) -> i64 {
        const BUSY: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND application_name = 'apex' AND state <> 'idle' AND query NOT LIKE '%pg_stat_activity%'";
        number(&self.0, BUSY).await.unwrap()
    }

    async fn connections(&self) -> i64 {
        const ALL: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'apex'";
        number(&self.0, ALL).await.unwrap()
    }

    async fn nothing_left_within(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.busy().await > 0 {
            assert!(Instant::now() < until, "work is left on the server after {limit:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts a server again that was killed, when the last of its processes has noticed.
async fn start_again(server: &mut Server) {
    sleep(Duration::from_millis(300)).await;
    server.restart("postgres").unwrap();
}

/// Waits until no session is in use.
async fn all_back_within(database: &Database, limit: Duration) {
    let until = Instant::now() + limit;
    while database.statistics().in_use > 0 {
        assert!(Instant::now() < until, "{:?}", database.statistics());
        sleep(Duration::from_millis(5)).await;
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or_else(|_| panic!("not done within {limit:?}"))
}
