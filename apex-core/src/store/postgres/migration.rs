//! The schema of this version, made or brought up to date. Forward only, and all of it in one transaction: one that
//! fails half-way leaves what was there.

use super::PostgresOptions;
use super::row::{Columns, key};
use crate::config::SchemaName;
use crate::database::{Access, Database, OPERATION_TABLE, Transaction};
use crate::error::{Error, Failure, Kind, Result};
use crate::id::Epoch;
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;

/// The steps from an empty schema to what this version needs; only ever added to.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_stores.sql"),
    include_str!("migrations/0002_limit.sql"),
    OPERATION_TABLE,
    include_str!("migrations/0004_share.sql"),
    include_str!("migrations/0005_wake.sql"),
    include_str!("migrations/0006_copying.sql"),
    include_str!("migrations/0007_search.sql"),
    include_str!("migrations/0008_era.sql"),
    include_str!("migrations/0009_checkpoint.sql"),
    include_str!("migrations/0010_budget.sql"),
    include_str!("migrations/0011_note.sql"),
];

// This one says, too, when the schema is one that this login may not use.
const SEEN: &str = "SELECT to_regclass($1) IS NOT NULL";
// That one does not answer from what the session remembers of the catalogue, which may be from before the lock was
// waited for.
const STORE: &str = "SELECT count(*) > 0 FROM pg_class \
     JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relname = 'store'";
const SCHEMA: &str = "SELECT count(pg_namespace.oid), count(pg_class.oid) FROM pg_namespace \
     LEFT JOIN pg_class ON relnamespace = pg_namespace.oid WHERE nspname = $1";
const STATE: &str = "SELECT version, environment FROM store";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
const MARK: &str =
    "INSERT INTO store (one, version, inbox_epoch, environment) VALUES (1, $1, $2, $3)";
const UPGRADED: &str = "UPDATE store SET version = $1";

/// Brings the schema to this version.
///
/// # Errors
/// `config_invalid` for another environment's; `storage_failed` for a newer version, another program's schema, or a
/// login that may not.
pub(super) async fn migrate(
    database: &Database,
    options: &PostgresOptions,
    new_epoch: Epoch,
) -> Result<()> {
    let migrated = migrate_whole(database, options, new_epoch).await;
    migrated.map_err(|error| with_grant(error, options))
}

async fn migrate_whole(
    database: &Database,
    options: &PostgresOptions,
    new_epoch: Epoch,
) -> Result<()> {
    let access = Access::system("postgres.open");
    let table = format!("{}.store", options.schema);
    let made = database.fetch(access, SEEN, &[&table]).await?;
    let made = made.first().map_or(Ok(false), |row| Columns::of(row).value())?;
    if made {
        let rows = database.fetch(access, STATE, &[]).await?;
        if let Some(row) = rows.first()
            && check(row, options)? == latest()
        {
            return Ok(());
        }
    }
    database
        .write(access, |transaction| {
            Box::pin(async move {
                // Nodes that start at the same time take turns.
                transaction.query(LOCK, &[&lock_key(&options.schema, "migrate")]).await?;
                step(transaction, options, new_epoch).await
            })
        })
        .await
}

/// Carries out the steps that are missing, under the lock.
async fn step(
    transaction: &Transaction<'_>,
    options: &PostgresOptions,
    new_epoch: Epoch,
) -> Result<()> {
    let made = transaction.query_one(STORE, &[&options.schema.as_str()]).await?;
    let version = if Columns::of(&made).value()? {
        check(&transaction.query_one(STATE, &[]).await?, options)?
    } else {
        make_schema(transaction, &options.schema).await?;
        0
    };
    for (done, step) in (1..).zip(MIGRATIONS) {
        if done > version {
            transaction.batch(step).await?;
        }
    }
    if version == 0 {
        let mark: [&(dyn ToSql + Sync); 3] =
            [&latest(), &key(new_epoch.as_bytes()), &options.environment.as_str()];
        transaction.execute(MARK, &mark).await?;
    } else {
        transaction.execute(UPGRADED, &[&latest()]).await?;
    }
    Ok(())
}

/// Makes the schema where there is none. One that is empty will do, too.
async fn make_schema(transaction: &Transaction<'_>, schema: &SchemaName) -> Result<()> {
    let row = transaction.query_one(SCHEMA, &[&schema.as_str()]).await?;
    let mut columns = Columns::of(&row);
    let (schemas, relations) = (columns.count()?, columns.count()?);
    if relations > 0 {
        return Err(refused(
            schema,
            "the schema holds the tables of another program; name another schema",
        ));
    }
    if schemas == 0 {
        transaction.batch(&format!("CREATE SCHEMA {}", schema.as_str())).await?;
    }
    Ok(())
}

/// The version of what is there, when it may be used.
fn check(row: &tokio_postgres::Row, options: &PostgresOptions) -> Result<i32> {
    let mut columns = Columns::of(row);
    let (version, environment): (i32, &str) = (columns.value()?, columns.value()?);
    options.environment.admit(&options.url.to_string(), Some(environment))?;
    if version > latest() {
        return Err(refused(
            &options.schema,
            "the database was written by a newer version of this library; upgrade the library, or name another schema",
        )
        .with("database_version", version)
        .with("library_version", latest()));
    }
    Ok(version)
}

fn latest() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// The key of an advisory lock: the server has one room of them for a whole database.
pub(super) fn lock_key(schema: &SchemaName, what: &str) -> i64 {
    let digest = Sha256::digest(format!("apex:{}:{what}", schema.as_str()));
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Says what to run when a right is missing.
fn with_grant(error: Error, options: &PostgresOptions) -> Error {
    if error.failure() != Some(Failure::Permission) || error.operation() != "postgres.open" {
        return error;
    }
    let (schema, user) = (options.schema.as_str(), options.url.user().unwrap_or_default());
    let message = format!(
        "the login may not make or use the schema {schema}; let the database's owner run: \
         CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO \"{user}\"; \
         GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO \"{user}\""
    );
    Error::new(Kind::Storage, "postgres.open", message)
        .with("database", &options.url)
        .with_failure(Failure::Permission)
        .with_source(error)
}

fn refused(schema: &SchemaName, what: &'static str) -> Error {
    Error::new(Kind::Storage, "postgres.open", what).with("schema", schema.as_str())
}
