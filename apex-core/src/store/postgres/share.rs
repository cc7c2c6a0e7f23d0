//! With whom conversations are shared.

use super::row::{Columns, key};
use crate::database::Transaction;
use crate::error::{Error, Result};
use crate::id::{RunId, ThreadId, UserId};
use crate::principal::Principal;
use crate::run::Topic;
use crate::thread::{Share, check_share};
use tokio_postgres::types::ToSql;

/// Those who share one conversation at the same time take turns.
const LOCK: &str = "SELECT 1 FROM thread WHERE thread = $1 FOR NO KEY UPDATE";
/// How many others there are beside one reader.
const OTHERS: &str = "SELECT count(*) FROM share WHERE thread = $1 AND reader <> $2";
const ADD: &str = "INSERT INTO share (thread, reader, owner, at) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (thread, reader) DO NOTHING";
const END: &str = "DELETE FROM share WHERE thread = $1 AND reader = $2 AND (owner = $3 OR reader = $3) \
     RETURNING owner";
const OPEN_RUNS: &str = "SELECT run FROM run WHERE owner = $1 AND thread = $2 AND ended_at IS NULL";
const LIST: &str = "SELECT reader, at FROM share WHERE thread = $1 ORDER BY reader";

/// Shares a conversation that is the principal's.
pub(super) async fn add(
    transaction: &Transaction<'_>,
    principal: &Principal,
    thread: ThreadId,
    with: &Share,
) -> Result<()> {
    let (thread, reader) = (key(thread.as_bytes()), key(with.user.as_bytes()));
    transaction.query_opt(LOCK, &[&thread]).await?;
    let others = transaction.query_one(OTHERS, &[&thread, &reader]).await?;
    let others = Columns::of(&others).count()?;
    check_share(principal, with, usize::try_from(others).unwrap_or(usize::MAX))?;
    let new: [&(dyn ToSql + Sync); 4] =
        [&thread, &reader, &key(principal.user().as_bytes()), &with.at.as_millis()];
    transaction.execute(ADD, &new).await?;
    Ok(())
}

/// Ends a share, as its owner or as its reader; whom to wake after the commit.
pub(super) async fn end(
    transaction: &Transaction<'_>,
    principal: &Principal,
    thread: ThreadId,
    reader: UserId,
) -> Result<Vec<Topic>> {
    let thread = key(thread.as_bytes());
    let which: [&(dyn ToSql + Sync); 3] =
        [&thread, &key(reader.as_bytes()), &key(principal.user().as_bytes())];
    let ended = transaction.query_opt(END, &which).await?;
    let ended = ended.ok_or_else(|| Error::not_found("thread.unshare", "share"))?;
    let owner = Columns::of(&ended).id(UserId::from_bytes)?;
    let open = transaction.query(OPEN_RUNS, &[&key(owner.as_bytes()), &thread]).await?;
    open.iter().map(|row| Columns::of(row).id(RunId::from_bytes).map(Topic::Run)).collect()
}

pub(super) async fn list(transaction: &Transaction<'_>, thread: ThreadId) -> Result<Vec<Share>> {
    let rows = transaction.query(LIST, &[&key(thread.as_bytes())]).await?;
    let share_of = |row| {
        let mut columns = Columns::of(row);
        Ok(Share { user: columns.id(UserId::from_bytes)?, at: columns.time()? })
    };
    rows.iter().map(share_of).collect()
}
