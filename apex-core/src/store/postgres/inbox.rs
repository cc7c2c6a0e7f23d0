//! A user's inbox, and the row whose lock is held by whoever judges what that user may have.

use super::row::{Columns, int, key};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::{Epoch, RunId, ThreadId, UserId};
use crate::run::record::RunRecord;
use crate::run::{InboxEntry, InboxPage, RunLimits, RunState};
use tokio_postgres::types::ToSql;

/// Takes the row's lock, and makes the row where there is none; nothing for a user who was erased.
const LOCK: &str = "INSERT INTO inbox_head (owner, head) SELECT $1, 0 WHERE NOT EXISTS \
     (SELECT 1 FROM account WHERE account = $1 AND standing = 'erased') ON CONFLICT (owner) DO UPDATE SET head = inbox_head.head";
/// Enters a state under the next number, and drops what is more than is kept.
const ENTER: &str = "WITH counted AS (INSERT INTO inbox_head (owner, head) VALUES ($1, 1) \
     ON CONFLICT (owner) DO UPDATE SET head = inbox_head.head + 1 RETURNING head), \
     trimmed AS (DELETE FROM inbox USING counted WHERE owner = $1 AND seq <= head - $6) \
     INSERT INTO inbox (owner, seq, run, thread, state, at) SELECT $1, head, $2, $3, $4, $5 FROM counted";
/// The bounds and a page, as of one moment.
const PAGE: &str = "SELECT inbox_epoch, coalesce((SELECT head FROM inbox_head WHERE owner = $1), 0), \
     coalesce((SELECT min(seq) FROM inbox WHERE owner = $1), 1), one.seq, one.run, one.thread, one.state, one.at \
     FROM store LEFT JOIN LATERAL (SELECT seq, run, thread, state, at FROM inbox WHERE owner = $1 AND seq > $2 \
     ORDER BY seq LIMIT $3) AS one ON true ORDER BY one.seq";

/// Waits until nobody else judges what this user may have; holds until the end of the transaction.
///
/// # Errors
/// `not_found` for a user who was erased.
pub(super) async fn lock_user(
    transaction: &Transaction<'_>,
    user: UserId,
    operation: &'static str,
) -> Result<()> {
    if transaction.execute(LOCK, &[&key(user.as_bytes())]).await? == 0 {
        return Err(Error::not_found(operation, "user"));
    }
    Ok(())
}

/// Enters the state that a run came to.
pub(super) async fn enter(
    transaction: &Transaction<'_>,
    record: &RunRecord,
    state: RunState,
    at: Timestamp,
    limits: &RunLimits,
) -> Result<()> {
    transaction
        .execute(
            ENTER,
            &[
                &key(record.user.as_bytes()),
                &key(record.run.as_bytes()),
                &key(record.thread.as_bytes()),
                &state.name(),
                &at.as_millis(),
                &int(limits.inbox_entries.max(1) as u64),
            ],
        )
        .await?;
    Ok(())
}

/// Up to `max` entries after `after`.
pub(super) async fn page(
    database: &Database,
    access: Access,
    user: UserId,
    after: u64,
    max: usize,
) -> Result<InboxPage> {
    let wanted: [&(dyn ToSql + Sync); 3] = [&key(user.as_bytes()), &int(after), &int(max as u64)];
    let rows = database.fetch(access, PAGE, &wanted).await?;
    let first = rows
        .first()
        .ok_or_else(|| Error::internal("run_log.inbox", "the store has no row of its own"))?;
    let mut columns = Columns::of(first);
    let epoch = columns.id(Epoch::from_bytes)?;
    let (head, oldest) = (columns.count()?, columns.count()?);
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::after(row, 3);
        if let Some(seq) = columns.value::<Option<i64>>()? {
            entries.push(InboxEntry {
                seq: seq.unsigned_abs(),
                run: columns.id(RunId::from_bytes)?,
                thread: columns.id(ThreadId::from_bytes)?,
                state: columns.named(RunState::from_name)?,
                at: columns.time()?,
            });
        }
    }
    Ok(InboxPage { epoch, entries, head, oldest })
}
