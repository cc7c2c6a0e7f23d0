//! Against real servers.

mod sessions;

use super::*;
use apex_test_services::{Kind as Service, Options, Proxy, Server};

/// A server of a test's own, with the table `t`; none where PostgreSQL is not installed, which is then said.
fn server(options: &Options) -> Option<Server> {
    Server::start_or_skip(Service::Postgres, options)
}

fn url(text: &str) -> DatabaseUrl {
    text.parse().unwrap()
}

fn small() -> DatabaseConfig {
    DatabaseConfig { connections: 4, per_user: Some(4), ..DatabaseConfig::default() }
}

async fn open(server: &Server, config: DatabaseConfig) -> Database {
    let database = Database::open(&url(server.url()), config).await.unwrap();
    make_table(&database).await;
    database
}

async fn make_table(database: &Database) {
    let made = database.write(Access::system("test.make"), |transaction| {
        Box::pin(async move {
            transaction.batch("CREATE TABLE IF NOT EXISTS t (k text PRIMARY KEY)").await?;
            transaction.batch(OPERATION_TABLE).await
        })
    });
    made.await.unwrap();
}

async fn insert(database: &Database, access: Access, key: &str) -> Result<()> {
    database
        .write(access, |transaction| {
            Box::pin(async move {
                transaction.execute("INSERT INTO t (k) VALUES ($1)", &[&key]).await?;
                Ok(())
            })
        })
        .await
}

async fn count(database: &Database) -> i64 {
    let counted = database.read(Access::system("test.count"), |transaction| {
        Box::pin(async move {
            transaction.query_one("SELECT count(*) FROM t", &[]).await?.column::<i64>(0)
        })
    });
    counted.await.unwrap()
}
