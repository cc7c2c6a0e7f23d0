//! The rows of a run: loading and saving its record, its events, its snapshot and its input.

use super::error::Fault;
use super::row::{Columns, int, json};
use super::share;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::event::Recorded;
use crate::id::{BatchId, Epoch, NodeId, RequestId, RunId, ThreadId, UserId};
use crate::run::checkpoint::unfounded;
use crate::run::ledger::Past;
use crate::run::place::{OpenRun, with_place};
use crate::run::record::{Effects, RunInput, RunRecord, fold};
use crate::run::{Append, Checkpoint, Lease, NewRun, RunLimits, RunState, Signals, Snapshot};
use crate::store::PAGE_BYTES;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A record with what only this backend keeps of it.
#[derive(Debug)]
pub(super) struct RunRow {
    /// The key of the other tables, in the order in which runs were put on record.
    pub(super) id: i64,
    /// Up to where the kept snapshot goes.
    pub(super) folded: u64,
    pub(super) record: RunRecord,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, folded, run, user, thread, parent, scopes, request, digest, started_at, ended_at, state, \
             epoch, fence, attempt, holder, lease_until, placed, head, oldest, bytes, last_batch, signals, unseen, \
             wake_at FROM run ",
            $rest
        )
    };
}

pub(super) const BY_RUN: &str = select!("WHERE run = ?1");
pub(super) const OPEN_RUNS: &str = select!("WHERE ended_at IS NULL ORDER BY id");
pub(super) const BY_REQUEST: &str = select!("WHERE user = ?1 AND request = ?2");
pub(super) const OF_THREAD: &str = select!("WHERE user = ?1 AND thread = ?2 ORDER BY id");
pub(super) const AT_ONCE: &str = select!(
    "WHERE ended_at IS NULL AND holder IS NULL \
     AND (state = 'cancelling' OR (state = 'queued' AND parent IS NOT NULL)) ORDER BY id LIMIT ?1"
);
pub(super) const EXPIRED: &str =
    select!("WHERE holder IS NOT NULL AND lease_until <= ?1 ORDER BY id LIMIT ?2");
pub(super) const DUE: &str =
    select!("WHERE wake_at IS NOT NULL AND wake_at <= ?1 ORDER BY wake_at LIMIT ?2");
pub(super) const OLD_HISTORIES: &str = select!(
    "WHERE ended_at IS NOT NULL AND dropped = 0 AND ended_at <= ?1 ORDER BY ended_at LIMIT ?2"
);

/// Of the queued runs only what it takes to choose: there may be many.
const QUEUED: &str =
    "SELECT run, user FROM run WHERE state = 'queued' AND parent IS NULL ORDER BY id";
const OPEN: &str = "SELECT run, thread, state, placed, parent IS NOT NULL FROM run \
     WHERE user = ?1 AND ended_at IS NULL ORDER BY id";
const INSERT: &str = "INSERT INTO run (run, user, thread, parent, scopes, request, digest, started_at, state, epoch, \
     fence, attempt, lease_until, placed, head, oldest, bytes, unseen, folded) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, 0)";
const UPDATE: &str = "UPDATE run SET ended_at = ?2, state = ?3, fence = ?4, attempt = ?5, holder = ?6, \
     lease_until = ?7, placed = ?8, head = ?9, oldest = ?10, bytes = ?11, last_batch = ?12, signals = ?13, \
     unseen = ?14, folded = ?15, wake_at = ?16 WHERE id = ?1";
const RENEW: &str = "UPDATE run SET lease_until = ?2, head = ?3, bytes = ?4, last_batch = ?5, unseen = ?6 WHERE id = ?1";
const DROPPED: &str = "UPDATE run SET dropped = 1 WHERE id = ?1";
const INSERT_INPUT: &str = "INSERT INTO run_input (id, text, attachments) VALUES (?1, ?2, ?3)";
const INSERT_EVENT: &str = "INSERT INTO event (id, seq, terminal, json) VALUES (?1, ?2, ?3, ?4)";
const EVENTS: &str = "SELECT seq, terminal, json FROM event WHERE id = ?1 AND seq > ?2 AND seq <= ?3 \
     ORDER BY seq LIMIT ?4";
const PUT_CHECKPOINT: &str =
    "INSERT OR REPLACE INTO run_checkpoint (id, version, state) VALUES (?1, ?2, ?3)";
const PUT_MORE: &str = "INSERT INTO run_checkpoint_more (id, place, state) SELECT ?1, \
     coalesce((SELECT max(place) FROM run_checkpoint_more WHERE id = ?1), 0) + 1, ?3 \
     FROM run_checkpoint WHERE id = ?1 AND version = ?2";
const NO_MORE: &str = "DELETE FROM run_checkpoint_more WHERE id = ?1";
const MORE: &str = "SELECT state FROM run_checkpoint_more WHERE id = ?1 ORDER BY place";
const PUT_SNAPSHOT: &str = "INSERT OR REPLACE INTO run_snapshot (id, snapshot) VALUES (?1, ?2)";

impl RunRow {
    /// The first run that a statement of this module finds.
    pub(super) fn find(
        connection: &Connection,
        sql: &'static str,
        params: impl Params,
    ) -> rusqlite::Result<Option<Self>> {
        connection.prepare_cached(sql)?.query_row(params, Self::of).optional()
    }

    /// The run, when it is the principal's.
    pub(super) fn own(
        connection: &Connection,
        user: UserId,
        run: RunId,
        operation: &'static str,
    ) -> Result<Self, Fault> {
        Self::find(connection, BY_RUN, [run.as_bytes()])?
            .filter(|row| row.record.user == user)
            .ok_or_else(|| Error::not_found(operation, "run").into())
    }

    /// The run, when a user may read it.
    pub(super) fn readable(
        connection: &Connection,
        user: UserId,
        run: RunId,
        operation: &'static str,
    ) -> Result<Self, Fault> {
        let hidden = || Error::not_found(operation, "run");
        let row = Self::find(connection, BY_RUN, [run.as_bytes()])?.ok_or_else(hidden)?;
        if share::opens(connection, &row.record, user)? { Ok(row) } else { Err(hidden().into()) }
    }

    /// All runs that a statement of this module finds.
    pub(super) fn all(
        connection: &Connection,
        sql: &'static str,
        params: impl Params,
    ) -> rusqlite::Result<Vec<Self>> {
        connection.prepare_cached(sql)?.query_map(params, Self::of)?.collect()
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            id: columns.value()?,
            folded: columns.count()?,
            record: RunRecord {
                run: columns.id(RunId::from_bytes)?,
                user: columns.id(UserId::from_bytes)?,
                thread: columns.id(ThreadId::from_bytes)?,
                parent: columns.optional_id(RunId::from_bytes)?,
                scopes: columns.json()?,
                request: columns.id(RequestId::from_bytes)?,
                digest: columns.value()?,
                started_at: columns.time()?,
                ended_at: columns.optional_time()?,
                state: columns.named(RunState::from_name)?,
                epoch: columns.id(Epoch::from_bytes)?,
                fence: columns.count()?,
                attempt: columns.value()?,
                holder: columns.optional_id(NodeId::from_bytes)?,
                lease_until: columns.time()?,
                placed: columns.value()?,
                head: columns.count()?,
                oldest: columns.count()?,
                bytes: columns.count()?,
                last_batch: columns.optional_id(BatchId::from_bytes)?,
                signals: columns.optional_json()?.unwrap_or_default(),
                unseen: columns.value()?,
                wake_at: columns.optional_time()?,
            },
        })
    }

    /// Puts a new run on record.
    pub(super) fn insert(
        connection: &Connection,
        record: &RunRecord,
        new: &NewRun,
        first: &Recorded,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached(INSERT)?.execute(params![
            record.run.as_bytes(),
            record.user.as_bytes(),
            record.thread.as_bytes(),
            record.parent.as_ref().map(RunId::as_bytes),
            json(&record.scopes)?,
            record.request.as_bytes(),
            record.digest,
            record.started_at.as_millis(),
            record.state.name(),
            record.epoch.as_bytes(),
            int(record.fence),
            record.attempt,
            record.lease_until.as_millis(),
            record.placed,
            int(record.head),
            int(record.oldest),
            int(record.bytes),
            record.unseen,
        ])?;
        let id = connection.last_insert_rowid();
        connection.prepare_cached(INSERT_INPUT)?.execute(params![
            id,
            new.text,
            json(&new.attachments)?
        ])?;
        insert_event(connection, id, first)
    }

    /// Writes back what changes in the life of a run.
    pub(super) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let record = &self.record;
        let signals =
            (record.signals != Signals::default()).then(|| json(&record.signals)).transpose()?;
        connection.prepare_cached(UPDATE)?.execute(params![
            self.id,
            record.ended_at.map(|at| at.as_millis()),
            record.state.name(),
            int(record.fence),
            record.attempt,
            record.holder.as_ref().map(NodeId::as_bytes),
            record.lease_until.as_millis(),
            record.placed,
            int(record.head),
            int(record.oldest),
            int(record.bytes),
            record.last_batch.as_ref().map(BatchId::as_bytes),
            signals,
            record.unseen,
            int(self.folded),
            record.wake_at.map(|at| at.as_millis()),
        ])?;
        Ok(())
    }

    /// Takes a batch in and writes what came of it; `None` when it is the one that was taken in last.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        lease: &Lease,
        batch: &Append,
        now: Timestamp,
        limits: &RunLimits,
    ) -> Result<Option<Effects>, Fault> {
        let seldom = |row: &Self| {
            let record = &row.record;
            (record.state, record.holder, record.oldest, row.folded, record.signals.lapsed.len())
        };
        let before = seldom(self);
        let Some(effects) = self.record.append(lease, batch, now, limits)? else {
            return Ok(None);
        };
        for event in &batch.events {
            insert_event(connection, self.id, event)?;
        }
        self.put_checkpoint(connection, batch.checkpoint.as_ref())?;
        self.trim(connection, limits)?;
        if seldom(self) == before {
            self.renew(connection)?;
        } else {
            self.save(connection)?;
        }
        Ok(Some(effects))
    }

    /// Drops all events; the snapshot stays.
    pub(super) fn drop_history(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.record.drop_history();
        self.fold(connection)?;
        self.delete_trimmed(connection)?;
        self.save(connection)?;
        connection.prepare_cached(DROPPED)?.execute([self.id])?;
        Ok(())
    }

    /// Begins a new life of the log: its events go, their outcome stays.
    pub(super) fn renew_epoch(
        &mut self,
        connection: &Connection,
        epoch: Epoch,
    ) -> rusqlite::Result<()> {
        self.record.drop_history();
        self.fold(connection)?;
        self.delete_trimmed(connection)?;
        self.save(connection)?;
        connection
            .prepare_cached("UPDATE run SET epoch = ?2 WHERE id = ?1")?
            .execute(params![self.id, epoch.as_bytes()])?;
        Ok(())
    }

    /// Goes past events that were recorded elsewhere, with what they have come to.
    pub(super) fn pass(&mut self, connection: &Connection, past: &Past) -> rusqlite::Result<()> {
        if !self.record.pass(past) {
            return Ok(());
        }
        match &past.snapshot {
            Some(snapshot) => {
                let kept = params![self.id, json(snapshot)?];
                connection.prepare_cached(PUT_SNAPSHOT)?.execute(kept)?;
                self.folded = past.head;
            }
            // What is known here is all that is left of them.
            None => self.fold(connection)?,
        }
        self.delete_trimmed(connection)?;
        self.save(connection)
    }

    /// The snapshot up to `folded`.
    pub(super) fn snapshot(&self, connection: &Connection) -> rusqlite::Result<Snapshot> {
        let kept = connection
            .prepare_cached("SELECT snapshot FROM run_snapshot WHERE id = ?1")?
            .query_row([self.id], |row| Columns::of(row).json())
            .optional()?;
        Ok(kept.unwrap_or_default())
    }

    /// Events after `after` up to `to`, as many as a page holds when `paged`.
    pub(super) fn events(
        &self,
        connection: &Connection,
        after: u64,
        to: u64,
        paged: Option<usize>,
    ) -> rusqlite::Result<Vec<Recorded>> {
        let most = paged.map_or(-1, |max| int(max as u64));
        let mut statement = connection.prepare_cached(EVENTS)?;
        let mut rows = statement.query(params![self.id, int(after), int(to), most])?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let mut columns = Columns::of(row);
            let event = Recorded {
                seq: columns.count()?,
                terminal: columns.value()?,
                json: columns.value::<Vec<u8>>().map(Bytes::from)?,
            };
            bytes += event.json.len();
            if paged.is_some() && bytes > PAGE_BYTES && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        Ok(events)
    }

    /// What the run was asked.
    pub(super) fn input(&self, connection: &Connection) -> rusqlite::Result<RunInput> {
        connection
            .prepare_cached("SELECT text, attachments FROM run_input WHERE id = ?1")?
            .query_row([self.id], |row| {
                let mut columns = Columns::of(row);
                Ok(RunInput { text: columns.value()?, attachments: columns.json()? })
            })
    }

    /// Where the last attempt got to.
    pub(super) fn checkpoint(
        &self,
        connection: &Connection,
    ) -> rusqlite::Result<Option<Checkpoint>> {
        let kept = connection
            .prepare_cached("SELECT version, state FROM run_checkpoint WHERE id = ?1")?
            .query_row([self.id], |row| {
                let mut columns = Columns::of(row);
                Ok((columns.value()?, columns.value::<Vec<u8>>()?))
            })
            .optional()?;
        let Some((version, mut state)) = kept else {
            return Ok(None);
        };
        let mut more = connection.prepare_cached(MORE)?;
        for more in more.query_map([self.id], |row| Columns::of(row).value::<Vec<u8>>())? {
            state.extend(more?);
        }
        Ok(Some(Checkpoint::whole(version, state)))
    }

    /// Writes back what every append changes; no index knows of it.
    fn renew(&self, connection: &Connection) -> rusqlite::Result<()> {
        let record = &self.record;
        connection.prepare_cached(RENEW)?.execute(params![
            self.id,
            record.lease_until.as_millis(),
            int(record.head),
            int(record.bytes),
            record.last_batch.as_ref().map(BatchId::as_bytes),
            record.unseen,
        ])?;
        Ok(())
    }

    /// Keeps the newest checkpoint, and none of a run that has ended.
    fn put_checkpoint(
        &self,
        connection: &Connection,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), Fault> {
        if self.record.ended_at.is_some() {
            connection
                .prepare_cached("DELETE FROM run_checkpoint WHERE id = ?1")?
                .execute([self.id])?;
            return Ok(());
        }
        let Some(Checkpoint { version, state, goes_on }) = checkpoint else {
            return Ok(());
        };
        let sql = if *goes_on { PUT_MORE } else { PUT_CHECKPOINT };
        if !goes_on {
            connection.prepare_cached(NO_MORE)?.execute([self.id])?;
        }
        match connection.prepare_cached(sql)?.execute(params![self.id, version, &**state])? {
            0 => Err(unfounded().into()),
            _ => Ok(()),
        }
    }

    fn trim(&mut self, connection: &Connection, limits: &RunLimits) -> rusqlite::Result<()> {
        let before = self.record.oldest;
        if self.record.is_past_limits(limits) {
            let sizes: Vec<u64> = connection
                .prepare_cached("SELECT length(json) FROM event WHERE id = ?1 ORDER BY seq")?
                .query_map([self.id], |row| Columns::of(row).count())?
                .collect::<rusqlite::Result<_>>()?;
            self.record.trim(limits, sizes.into_iter());
        }
        self.fold(connection)?;
        if self.record.oldest > before {
            self.delete_trimmed(connection)?;
        }
        Ok(())
    }

    fn fold(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(to) = self.record.fold_to(self.folded) else {
            return Ok(());
        };
        let mut snapshot = self.snapshot(connection)?;
        for event in self.events(connection, self.folded, to, None)? {
            fold(&mut snapshot, &event);
        }
        connection.prepare_cached(PUT_SNAPSHOT)?.execute(params![self.id, json(&snapshot)?])?;
        self.folded = to;
        Ok(())
    }

    fn delete_trimmed(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached("DELETE FROM event WHERE id = ?1 AND seq < ?2")?
            .execute(params![self.id, int(self.record.oldest)])?;
        Ok(())
    }
}

/// Up to `max` queued runs that have a place, the oldest first.
pub(super) fn queued_with_place(
    connection: &Connection,
    max: usize,
    limits: &RunLimits,
) -> rusqlite::Result<Vec<RunId>> {
    let mut found = Vec::new();
    let mut places: HashMap<UserId, Vec<RunId>> = HashMap::new();
    let mut statement = connection.prepare_cached(QUEUED)?;
    let mut rows = statement.query([])?;
    while found.len() < max
        && let Some(row) = rows.next()?
    {
        let mut columns = Columns::of(row);
        let run = columns.id(RunId::from_bytes)?;
        let user = columns.id(UserId::from_bytes)?;
        let of_user = match places.entry(user) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(with_place(&open_runs(connection, user)?, limits)),
        };
        if of_user.contains(&run) {
            found.push(run);
        }
    }
    Ok(found)
}

/// A user's runs that have not ended, in the order in which they were put on record.
pub(super) fn open_runs(connection: &Connection, user: UserId) -> rusqlite::Result<Vec<OpenRun>> {
    connection
        .prepare_cached(OPEN)?
        .query_map([user.as_bytes()], |row| {
            let mut columns = Columns::of(row);
            Ok(OpenRun {
                run: columns.id(RunId::from_bytes)?,
                thread: columns.id(ThreadId::from_bytes)?,
                queued: columns.named(RunState::from_name)? == RunState::Queued,
                placed: columns.value()?,
                child: columns.value()?,
            })
        })?
        .collect()
}

fn insert_event(connection: &Connection, id: i64, event: &Recorded) -> rusqlite::Result<()> {
    connection.prepare_cached(INSERT_EVENT)?.execute(params![
        id,
        int(event.seq),
        event.terminal,
        &*event.json
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::store::sqlite::migration::migrate;
    use std::path::Path;

    #[test]
    fn no_statement_looks_through_all_runs_or_sorts_them() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, Path::new("test"), Epoch::from_bytes([1; 16])).unwrap();
        let statements = [
            (BY_RUN, "run=?"),
            (BY_REQUEST, "user=? AND request=?"),
            (OF_THREAD, "run_thread"),
            (AT_ONCE, "run_at_once"),
            (EXPIRED, "run_held"),
            (DUE, "run_wake"),
            (OLD_HISTORIES, "run_history"),
            (QUEUED, "run_queued"),
            (OPEN, "run_open"),
            (EVENTS, "PRIMARY KEY"),
        ];
        for (sql, index) in statements {
            let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan: Vec<String> = explained
                .raw_query()
                .mapped(|row| row.get("detail"))
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            let plan = plan.join("; ");
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }
}
