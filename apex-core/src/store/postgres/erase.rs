//! A user goes with all that is theirs.

use super::row::{Columns, key};
use crate::database::Transaction;
use crate::error::Result;
use crate::id::{RunId, UserId};
use crate::run::Topic;
use tokio_postgres::types::ToSql;

/// Locked in the order in which everybody locks: runs before what their user may have.
const RUNS: &str =
    "SELECT id, run, ended_at IS NULL FROM run WHERE owner = $1 ORDER BY id FOR UPDATE";
const LOCK: &str = "SELECT head FROM inbox_head WHERE owner = $1 FOR UPDATE";
const EVENTS: &str = "DELETE FROM event WHERE id = ANY($1)";
/// What refers to these goes with them.
const OWN: [&str; 12] = [
    "WITH gone AS (DELETE FROM file WHERE owner = $1 RETURNING content) UPDATE content \
     SET removed_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM gone \
     WHERE content.content = gone.content",
    "WITH gone AS (DELETE FROM artifact WHERE owner = $1 RETURNING content) UPDATE content \
     SET removed_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM gone \
     WHERE content.content = gone.content",
    "DELETE FROM run WHERE owner = $1",
    "DELETE FROM inbox WHERE owner = $1",
    "DELETE FROM inbox_head WHERE owner = $1",
    "DELETE FROM thread WHERE owner = $1",
    "DELETE FROM share WHERE reader = $1",
    "DELETE FROM usage_attempt WHERE owner = $1",
    "DELETE FROM note WHERE owner = $1",
    "DELETE FROM budget WHERE owner = $1",
    "DELETE FROM budget_reservation WHERE owner = $1",
    "DELETE FROM ticket WHERE owner = $1",
];

/// Drops all that is kept of a user beside the account; whom to wake after the commit.
pub(super) async fn erase(transaction: &Transaction<'_>, user: UserId) -> Result<Vec<Topic>> {
    let owner = key(user.as_bytes());
    let own: [&(dyn ToSql + Sync); 1] = [&owner];
    let (mut ids, mut wakes) = (Vec::new(), Vec::new());
    for row in &transaction.query(RUNS, &own).await? {
        let mut columns = Columns::of(row);
        ids.push(columns.value::<i64>()?);
        let run = columns.id(RunId::from_bytes)?;
        if columns.value()? {
            wakes.extend([Topic::Run(run), Topic::Ended(run)]);
        }
    }
    transaction.query_opt(LOCK, &own).await?;
    transaction.execute(EVENTS, &[&ids]).await?;
    for sql in OWN {
        transaction.execute(sql, &own).await?;
    }
    Ok(wakes)
}
