//! With whom conversations are shared.

use super::error::Fault;
use super::row::Columns;
use crate::error::Error;
use crate::id::{RunId, ThreadId, UserId};
use crate::principal::Principal;
use crate::run::Topic;
use crate::run::record::RunRecord;
use crate::thread::{Share, check_share};
use rusqlite::{Connection, OptionalExtension as _, params};

/// How many others there are beside one reader.
const OTHERS: &str = "SELECT count(*) FROM share WHERE thread = ?1 AND reader <> ?2";
const ADD: &str = "INSERT INTO share (thread, reader, user, at) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (thread, reader) DO NOTHING";
const END: &str = "DELETE FROM share WHERE thread = ?1 AND reader = ?2 AND (user = ?3 OR reader = ?3) \
     RETURNING user";
const OPEN_RUNS: &str = "SELECT run FROM run WHERE user = ?1 AND thread = ?2 AND ended_at IS NULL";
const LIST: &str = "SELECT reader, at FROM share WHERE thread = ?1 ORDER BY reader";
const OPENS: &str = "SELECT 1 FROM share WHERE thread = ?1 AND reader = ?2 AND user = ?3";

/// Shares a conversation that is the principal's.
pub(super) fn add(
    connection: &Connection,
    principal: &Principal,
    thread: ThreadId,
    with: &Share,
) -> Result<(), Fault> {
    let place = params![thread.as_bytes(), with.user.as_bytes()];
    let others: i64 = connection.prepare_cached(OTHERS)?.query_row(place, |row| row.get(0))?;
    check_share(principal, with, usize::try_from(others).unwrap_or(usize::MAX))?;
    connection.prepare_cached(ADD)?.execute(params![
        thread.as_bytes(),
        with.user.as_bytes(),
        principal.user().as_bytes(),
        with.at.as_millis(),
    ])?;
    Ok(())
}

/// Ends a share, as its owner or as its reader, and wakes those who follow open runs.
pub(super) fn end(
    connection: &Connection,
    principal: &Principal,
    thread: ThreadId,
    reader: UserId,
    wakes: &mut Vec<Topic>,
) -> Result<(), Fault> {
    let by = principal.user();
    let which = params![thread.as_bytes(), reader.as_bytes(), by.as_bytes()];
    let owner = connection
        .prepare_cached(END)?
        .query_row(which, |row| Columns::of(row).id(UserId::from_bytes))
        .optional()?
        .ok_or_else(|| Error::not_found("thread.unshare", "share"))?;
    let mut open = connection.prepare_cached(OPEN_RUNS)?;
    let open = open.query_map(params![owner.as_bytes(), thread.as_bytes()], |row| {
        Columns::of(row).id(RunId::from_bytes)
    })?;
    for run in open {
        wakes.push(Topic::Run(run?));
    }
    Ok(())
}

pub(super) fn list(connection: &Connection, thread: ThreadId) -> rusqlite::Result<Vec<Share>> {
    let share_of = |row: &rusqlite::Row<'_>| {
        let mut columns = Columns::of(row);
        Ok(Share { user: columns.id(UserId::from_bytes)?, at: columns.time()? })
    };
    connection.prepare_cached(LIST)?.query_map([thread.as_bytes()], share_of)?.collect()
}

/// Whether a user may read a run.
pub(super) fn opens(
    connection: &Connection,
    record: &RunRecord,
    reader: UserId,
) -> rusqlite::Result<bool> {
    if record.user == reader {
        return Ok(true);
    }
    let share = params![record.thread.as_bytes(), reader.as_bytes(), record.user.as_bytes()];
    connection.prepare_cached(OPENS)?.exists(share)
}
