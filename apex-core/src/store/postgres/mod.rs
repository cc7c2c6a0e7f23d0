//! Everything in a PostgreSQL database, in a schema of its own: any number of nodes share it, any node serves any user.
//!
//! Rows of the content of files and artifacts are read and written in chunks. Nodes wake each other by NOTIFY, and
//! tell by a sign of life which of them are there, so that the runs of one that died are taken over.

mod artifact;
mod audit;
mod claim;
mod clock;
mod content;
mod file;
mod inbox;
mod limit;
mod migration;
mod node;
mod row;
mod run_log;
mod run_row;
mod session;
mod statement;
mod thread;
mod ticket;
mod usage;
mod user;
mod wakeup;

use super::Stores;
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Environment};
use crate::database::{Database, DatabaseConfig};
use crate::error::{Error, Kind, Result};
use crate::file::FileLimits;
use crate::id::{Epoch, NodeId};
use crate::run::{RunLimits, Wakeup};
use node::Liveness;
use std::sync::Arc;

/// Where a database is and what it allows.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The address of the database.
    pub url: DatabaseUrl,
    /// The schema that holds everything; made when it is not there. Other schemas are left alone.
    pub schema: Schema,
    /// The environment that the database belongs to: it is marked with it when it is made, and refused where another
    /// mark is found. Production, where nothing is said.
    pub environment: Environment,
    /// How many sessions there are, and for how long.
    pub database: DatabaseConfig,
    /// By which clock runs and leases go.
    pub time: Time,
    /// What is allowed of runs, logs and inboxes.
    pub runs: RunLimits,
    /// What is allowed of files.
    pub files: FileLimits,
}

impl PostgresOptions {
    /// The defaults for a database at `url`.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            schema: Schema::default(),
            environment: Environment::default(),
            database: DatabaseConfig::default(),
            time: Time::default(),
            runs: RunLimits::default(),
            files: FileLimits::default(),
        }
    }
}

/// By which clock runs, leases and limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Time {
    /// The database's, so that all nodes compare the same times however their own clocks are set. Each node asks for
    /// it every second, and goes on in between by its machine's monotonic clock.
    #[default]
    Database,
    /// The clock that was handed over, as tests want it.
    Host,
}

/// The name of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema(String);

impl Schema {
    /// A schema of this name.
    ///
    /// # Errors
    /// `config_invalid` unless it is 1 to 48 small letters, digits and underscores, the first no digit, and not a
    /// name of PostgreSQL's own.
    pub fn new(name: &str) -> Result<Self> {
        let of_ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let good = (1..=48).contains(&name.len())
            && name.bytes().all(of_ours)
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.starts_with("pg_");
        if good && name != "information_schema" {
            return Ok(Self(name.to_owned()));
        }
        Err(Error::new(
            Kind::Config,
            "postgres.open",
            "the name of a schema is 1 to 48 small letters, digits and underscores, and begins with neither a digit \
             nor pg_",
        ))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    fn table(&self, name: &str) -> String {
        format!("\"{}\".{name}", self.0)
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self("apex".to_owned())
    }
}

/// Opens the stores in a database, and brings its schema to this version. To be called in a Tokio runtime, on which
/// the connections then live; they end with the last of the stores.
///
/// # Errors
/// `config_invalid` for an address that is not PostgreSQL's, a server with too few connections, or a database of
/// another environment; `storage_failed` where the server refuses the login or a right is missing, the schema is
/// another program's, or of a newer version; `unavailable` where the server cannot be reached.
pub async fn open(options: &PostgresOptions, clock: Arc<dyn Clock>) -> Result<Stores> {
    let node = NodeId::new(&*clock);
    let database =
        Database::open_in(&options.url, options.database.clone(), Some(options.schema.name()))
            .await?;
    migration::migrate(&database, options, Epoch::new(&*clock)).await?;
    let told = Arc::new(Liveness::enter(&database, node).await?);
    let wakeup: Arc<dyn Wakeup> =
        Arc::new(wakeup::PostgresWakeup::start(&database, &options.schema, node));
    let liveness = Liveness::keep(database.clone(), node, Arc::clone(&told), Arc::clone(&wakeup));
    let time: Arc<dyn Clock> = match options.time {
        Time::Database => told,
        Time::Host => Arc::clone(&clock),
    };
    Ok(Stores {
        node,
        runs: Arc::new(run_log::PostgresRunLog::new(
            database.clone(),
            Arc::clone(&wakeup),
            Arc::clone(&time),
            options.runs,
            liveness,
        )),
        threads: Arc::new(thread::PostgresThreadStore::new(database.clone())),
        files: Arc::new(file::PostgresFileStore::new(
            database.clone(),
            node,
            Arc::clone(&clock),
            options.files,
        )),
        artifacts: Arc::new(artifact::PostgresArtifactStore::new(database.clone(), node, clock)),
        tickets: Arc::new(ticket::PostgresTicketStore::new(database.clone())),
        sessions: Arc::new(session::PostgresSessionStore::new(
            database.clone(),
            Arc::clone(&wakeup),
        )),
        wakeup,
        users: Arc::new(user::PostgresUserStore::new(database.clone())),
        audit: Arc::new(audit::PostgresAuditStore::new(database.clone())),
        limits: Arc::new(limit::PostgresLimitStore::new(database.clone(), time)),
        usage: Arc::new(usage::PostgresUsageStore::new(database)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_schema_needs_no_quotes() {
        for good in ["apex", "a", "_x9", &"a".repeat(48)] {
            assert_eq!(Schema::new(good).unwrap().name(), good);
        }
        for bad in ["", "Apex", "9a", "a-b", "a b", "pg_apex", "a\"b", &"a".repeat(49), "ä"] {
            assert_eq!(Schema::new(bad).unwrap_err().kind(), Kind::Config, "{bad}");
        }
        assert!(Schema::new("information_schema").is_err());
    }
}
