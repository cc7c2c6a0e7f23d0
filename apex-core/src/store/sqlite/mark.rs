//! Which environment a database belongs to, written into it when it is made.

use super::error::classify;
use crate::config::Environment;
use crate::error::Result;
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;

/// Passes for a database of this environment, and for one that nobody has marked; before anything is written.
///
/// # Errors
/// `config_invalid` for another environment's.
pub(super) fn check(connection: &Connection, path: &Path, environment: Environment) -> Result<()> {
    let failed = |error| classify(&error, "sqlite.open", path);
    let has_mark = "SELECT count(*) FROM pragma_table_info('store') WHERE name = 'environment'";
    let columns: i64 = connection.query_row(has_mark, [], |row| row.get(0)).map_err(failed)?;
    if columns == 0 {
        return Ok(());
    }
    let mark: Option<Option<String>> = connection
        .query_row("SELECT environment FROM store", [], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    environment.admit(&path.display().to_string(), mark.flatten().as_deref())
}

/// Marks a database that has no mark yet; the first one who opens it decides.
///
/// # Errors
/// `config_invalid` when another process of another environment was first.
pub(super) fn set(connection: &Connection, path: &Path, environment: Environment) -> Result<()> {
    connection
        .execute(
            "UPDATE store SET environment = ?1 WHERE environment IS NULL",
            [environment.as_str()],
        )
        .map_err(|error| classify(&error, "sqlite.open", path))?;
    check(connection, path, environment)
}
