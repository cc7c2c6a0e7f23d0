//! Everything in a PostgreSQL database, in a schema of its own: any number of nodes share it, any node serves any user.
//!
//! Rows of the content of files and artifacts are read and written in chunks. Nodes wake each other by NOTIFY, and
//! tell by a sign of life which of them are there, so that the runs of one that died are taken over.

mod artifact;
mod audit;
mod budget;
mod claim;
mod clock;
mod content;
mod era;
mod erase;
mod file;
mod inbox;
mod limit;
mod migration;
mod node;
mod note;
mod portable;
mod row;
mod run_log;
mod run_row;
mod search;
mod session;
mod share;
mod statement;
mod thread;
mod ticket;
mod usage;
mod user;
mod wakeup;

use super::Stores;
use super::transfer::Portable;
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Environment, SchemaName};
use crate::database::{Access, Database, DatabaseConfig};
use crate::error::Result;
use crate::file::FileLimits;
use crate::health::{Probe, Resource};
use crate::id::{Epoch, NodeId};
use crate::run::{RunLimits, Wakeup};
use async_trait::async_trait;
use node::Liveness;
use std::sync::Arc;

/// Where a database is and what it allows.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The address of the database.
    pub url: DatabaseUrl,
    /// What health calls it, and its sessions `<name>_sessions`; `postgres` unless said otherwise. Two of one node need
    /// two.
    pub name: String,
    /// The schema that holds everything; made when it is not there. Other schemas are left alone.
    pub schema: SchemaName,
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
            name: "postgres".to_owned(),
            schema: SchemaName::default(),
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

/// Opens the stores in a database, and brings its schema to this version. To be called in a Tokio runtime, on which
/// the connections then live; they end with the last of the stores.
///
/// # Errors
/// `config_invalid` for an address that is not PostgreSQL's, a server with too few connections, or a database of
/// another environment; `storage_failed` where the server refuses the login or a right is missing, the schema is
/// another program's, or of a newer version; `unavailable` where the server cannot be reached.
pub async fn open(options: &PostgresOptions, clock: Arc<dyn Clock>) -> Result<Stores> {
    open_with(options, clock, None).await.map(|opened| opened.stores)
}

/// What is kept in a PostgreSQL.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// The stores.
    pub stores: Stores,
    /// Whether there is a session that answers. A node cannot serve without it.
    pub probe: Arc<dyn Probe>,
    /// The sessions in use or waited for, as something that runs out.
    pub sessions: Arc<Resource>,
}

/// Opens the stores in a database, as [`open`] does, and wakes by `wakeup`, where there is one, instead of by the
/// database.
///
/// # Errors
/// As [`open`].
pub async fn open_with(
    options: &PostgresOptions,
    clock: Arc<dyn Clock>,
    wakeup: Option<Arc<dyn Wakeup>>,
) -> Result<Postgres> {
    let node = NodeId::new(&*clock);
    let (schema, sessions) = (options.schema.as_str(), format!("{}_sessions", options.name));
    let config = options.database.clone();
    let database = Database::open_in(&options.url, config, Some(schema), &sessions).await?;
    migration::migrate(&database, options, Epoch::new(&*clock)).await?;
    database.keep_records();
    era::watch(&database).await;
    let told = Arc::new(Liveness::enter(&database, node).await?);
    let wakeup = wakeup.unwrap_or_else(|| {
        Arc::new(wakeup::PostgresWakeup::start(&database, &options.schema, node))
    });
    let liveness = Liveness::keep(database.clone(), node, Arc::clone(&told), Arc::clone(&wakeup));
    let time: Arc<dyn Clock> = match options.time {
        Time::Database => told,
        Time::Host => Arc::clone(&clock),
    };
    let stores = Stores {
        node,
        runs: Arc::new(run_log::PostgresRunLog::new(
            database.clone(),
            Arc::clone(&wakeup),
            Arc::clone(&time),
            options.runs,
            liveness,
        )),
        threads: Arc::new(thread::PostgresThreadStore::new(database.clone(), Arc::clone(&wakeup))),
        search: Arc::new(search::PostgresSearchIndex::new(database.clone())),
        files: Arc::new(file::PostgresFileStore::new(
            database.clone(),
            node,
            Arc::clone(&clock),
            options.files,
        )),
        artifacts: Arc::new(artifact::PostgresArtifactStore::new(
            database.clone(),
            node,
            Arc::clone(&clock),
        )),
        tickets: Arc::new(ticket::PostgresTicketStore::new(database.clone())),
        sessions: Arc::new(session::PostgresSessionStore::new(
            database.clone(),
            Arc::clone(&wakeup),
        )),
        users: Arc::new(user::PostgresUserStore::new(database.clone(), Arc::clone(&wakeup))),
        wakeup,
        audit: Arc::new(audit::PostgresAuditStore::new(database.clone())),
        memory: Arc::new(note::PostgresNoteStore::new(database.clone())),
        budgets: Arc::new(budget::PostgresBudgetStore::new(database.clone(), Arc::clone(&time))),
        limits: Arc::new(limit::PostgresLimitStore::new(database.clone(), time)),
        usage: Arc::new(usage::PostgresUsageStore::new(database.clone())),
        portable: Portable::default(),
    };
    let rows = portable::PostgresPortable::new(database.clone(), node, clock);
    let stores = stores.kept_in(Arc::new(rows));
    let sessions = database.forecast();
    let probe = PostgresProbe { database, name: options.name.clone() };
    Ok(Postgres { stores, probe: Arc::new(probe), sessions })
}

#[derive(Debug)]
struct PostgresProbe {
    database: Database,
    name: String,
}

#[async_trait]
impl Probe for PostgresProbe {
    fn dependency(&self) -> &str {
        &self.name
    }

    fn is_required(&self) -> bool {
        true
    }

    /// A session is waited for as a user's work would wait.
    async fn probe(&self) -> Result<()> {
        self.database.fetch(Access::system("postgres.probe"), "SELECT 1", &[]).await.map(drop)
    }
}
