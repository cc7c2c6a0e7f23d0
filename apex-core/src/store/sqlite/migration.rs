use super::error::classify;
use crate::error::{Error, Kind, Result};
use crate::id::Epoch;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Says in the file's header that it is ours (`APEX`).
const APPLICATION: i64 = 0x4150_4558;

/// The steps from an empty file to what this version needs; only ever added to.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_stores.sql"),
    include_str!("migrations/0002_environment.sql"),
    include_str!("migrations/0003_usage.sql"),
    include_str!("migrations/0004_auth.sql"),
    include_str!("migrations/0005_limit.sql"),
    include_str!("migrations/0006_share.sql"),
    include_str!("migrations/0007_wake.sql"),
    include_str!("migrations/0008_copying.sql"),
    include_str!("migrations/0009_search.sql"),
    include_str!("migrations/0010_checkpoint.sql"),
    include_str!("migrations/0011_budget.sql"),
    include_str!("migrations/0012_note.sql"),
];

/// Brings the file to this version's schema.
///
/// # Errors
/// `storage_failed` for a file of a newer version.
pub(super) fn migrate(connection: &mut Connection, path: &Path, new_epoch: Epoch) -> Result<()> {
    let failed = |error| classify(&error, "sqlite.open", path);
    let latest = MIGRATIONS.len() as i64;
    if pragma(connection, "user_version").map_err(failed)? == latest {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been here in the meantime.
    let version = pragma(&transaction, "user_version").map_err(failed)?;
    if version > latest {
        return Err(refused(
            path,
            "the database was written by a newer version of this library; upgrade the library, or give another path",
        )
        .with("database_version", version)
        .with("library_version", latest));
    }
    for (done, step) in (1..).zip(MIGRATIONS) {
        if done > version {
            transaction.execute_batch(step).map_err(failed)?;
        }
    }
    if version == 0 {
        transaction
            .execute("INSERT INTO store (one, inbox_epoch) VALUES (1, ?1)", [new_epoch.as_bytes()])
            .map_err(failed)?;
    }
    for (name, value) in [("application_id", APPLICATION), ("user_version", latest)] {
        transaction.pragma_update(None, name, value).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Passes for a file of ours and for an empty one.
///
/// # Errors
/// `storage_failed` for anything else.
pub(super) fn check_ours(connection: &Connection, path: &Path) -> Result<()> {
    let failed = |error| classify(&error, "sqlite.open", path);
    // Both are read in one transaction: another process may be making the file right now.
    let (application, tables) = connection
        .unchecked_transaction()
        .and_then(|transaction| {
            let count = "SELECT count(*) FROM sqlite_schema";
            let tables: i64 = transaction.query_row(count, [], |row| row.get(0))?;
            Ok((pragma(&transaction, "application_id")?, tables))
        })
        .map_err(failed)?;
    if application == APPLICATION || (application == 0 && tables == 0) {
        return Ok(());
    }
    Err(refused(path, "the file is the database of another program; give another path"))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn refused(path: &Path, what: &'static str) -> Error {
    Error::new(Kind::Storage, "sqlite.open", what).with("database", path.display())
}
