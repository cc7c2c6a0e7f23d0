//! A user goes with all that is theirs.

use super::blob::BlobName;
use super::error::Fault;
use super::row::Columns;
use crate::error::Error;
use crate::id::{RunId, UserId};
use crate::run::Topic;
use rusqlite::Connection;

const OPEN_RUNS: &str = "SELECT run FROM run WHERE user = ?1 AND ended_at IS NULL";
/// What names content.
const WITH_CONTENT: [&str; 2] = [
    "DELETE FROM file WHERE user = ?1 RETURNING blob",
    "DELETE FROM artifact WHERE user = ?1 RETURNING blob",
];
/// What refers to these goes with them.
const PLAIN: [&str; 9] = [
    "DELETE FROM run WHERE user = ?1",
    "DELETE FROM inbox WHERE user = ?1",
    "DELETE FROM thread WHERE user = ?1",
    "DELETE FROM share WHERE reader = ?1",
    "DELETE FROM usage_attempt WHERE user = ?1",
    "DELETE FROM note WHERE user = ?1",
    "DELETE FROM budget WHERE user = ?1",
    "DELETE FROM budget_reservation WHERE user = ?1",
    "DELETE FROM ticket WHERE user = ?1",
];
const ERASED: &str = "SELECT 1 FROM user WHERE user = ?1 AND standing = 'erased'";

/// Drops all that is kept of a user beside the account; the content to remove after the commit.
pub(super) fn erase(
    connection: &Connection,
    user: UserId,
    wakes: &mut Vec<Topic>,
) -> rusqlite::Result<Vec<BlobName>> {
    let run_of = |row: &rusqlite::Row<'_>| Columns::of(row).id(RunId::from_bytes);
    for run in connection.prepare(OPEN_RUNS)?.query_map([user.as_bytes()], run_of)? {
        let run = run?;
        wakes.extend([Topic::Run(run), Topic::Ended(run)]);
    }
    let mut content = Vec::new();
    for sql in WITH_CONTENT {
        let name_of = |row: &rusqlite::Row<'_>| row.get(0).map(BlobName::from_bytes);
        for name in connection.prepare(sql)?.query_map([user.as_bytes()], name_of)? {
            content.push(name?);
        }
    }
    for sql in PLAIN {
        connection.execute(sql, [user.as_bytes()])?;
    }
    Ok(content)
}

/// Passes for a user who was not erased.
pub(super) fn refuse(
    connection: &Connection,
    user: UserId,
    operation: &'static str,
) -> Result<(), Fault> {
    if connection.prepare_cached(ERASED)?.exists([user.as_bytes()])? {
        return Err(Error::not_found(operation, "user").into());
    }
    Ok(())
}
