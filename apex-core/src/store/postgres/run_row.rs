//! The rows of a run: loading and saving its record, its events, its snapshot and its input.

use super::row::{Columns, damaged, int, json, key};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::event::Recorded;
use crate::id::{BatchId, Epoch, NodeId, RequestId, RunId, ThreadId, UserId};
use crate::run::checkpoint::unfounded;
use crate::run::ledger::Past;
use crate::run::record::{Effects, RunInput, RunRecord, fold};
use crate::run::{
    Append, Checkpoint, Lease, NewRun, Page, RunLimits, RunState, RunView, Signals, Snapshot,
};
use crate::store::PAGE_BYTES;
use bytes::Bytes;
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A record with what only this backend keeps of it.
#[derive(Debug, Clone)]
pub(super) struct RunRow {
    /// The key of the other tables.
    pub(super) id: i64,
    /// Raised by every change, so that a writer can tell whether it knows the row as it is.
    version: i64,
    /// Up to where the kept snapshot goes.
    pub(super) folded: u64,
    pub(super) record: RunRecord,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, folded, run, owner, thread, parent, scopes, request, digest, started_at, ended_at, \
             state, epoch, fence, attempt, holder, lease_until, placed, head, oldest, bytes, last_batch, signals, \
             unseen, wake_at FROM run ",
            $rest
        )
    };
}

pub(super) const BY_RUN: &str = select!("WHERE run = $1");
pub(super) const BY_RUN_LOCKED: &str = select!("WHERE run = $1 FOR NO KEY UPDATE");
pub(super) const OPEN_LOCKED: &str =
    select!("WHERE ended_at IS NULL ORDER BY id FOR NO KEY UPDATE");
pub(super) const BY_REQUEST: &str = select!("WHERE owner = $1 AND request = $2");
pub(super) const OF_THREAD_LOCKED: &str =
    select!("WHERE owner = $1 AND thread = $2 ORDER BY id FOR UPDATE");
pub(super) const AT_ONCE: &str = select!(
    "WHERE ended_at IS NULL AND holder IS NULL \
     AND (state = 'cancelling' OR (state = 'queued' AND parent IS NOT NULL)) \
     ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"
);
pub(super) const CHOSEN: &str = select!(
    "WHERE run = ANY($1) AND holder IS NULL AND state = 'queued' \
     ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
);
pub(super) const EXPIRED: &str = select!(
    "WHERE holder IS NOT NULL AND lease_until <= $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
);
pub(super) const DUE: &str = select!(
    "WHERE wake_at IS NOT NULL AND wake_at <= $1 ORDER BY wake_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
);
pub(super) const OLD_HISTORIES: &str = select!(
    "WHERE ended_at IS NOT NULL AND NOT dropped AND ended_at <= $1 ORDER BY ended_at LIMIT $2 \
     FOR NO KEY UPDATE SKIP LOCKED"
);

const INSERT: &str = "WITH made AS (\
     INSERT INTO run (run, owner, thread, parent, scopes, request, digest, started_at, state, epoch, fence, attempt, \
     lease_until, placed, head, oldest, bytes, unseen, folded, era) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 0, \
     (SELECT era FROM store)) RETURNING id), \
     asked AS (INSERT INTO run_input (id, text, attachments) SELECT id, $19, $20 FROM made) \
     INSERT INTO event (id, seq, terminal, json) SELECT id, $15, $21, $22 FROM made";

/// Writes all that changes in the life of a run, with new events and a new checkpoint, in one statement; nothing when
/// the row is no longer the one that was read.
const WRITE: &str = "WITH changed AS (\
     UPDATE run SET version = version + 1, ended_at = $3, state = $4, fence = $5, attempt = $6, holder = $7, \
     lease_until = $8, placed = $9, head = $10, oldest = $11, bytes = $12, last_batch = $13, signals = $14, \
     unseen = $15, folded = $16, wake_at = $22 WHERE id = $1 AND version = $2 RETURNING id), \
     added AS (INSERT INTO event (id, seq, terminal, json) SELECT changed.id, one.* FROM changed, \
     unnest($17::bigint[], $18::boolean[], $19::bytea[]) AS one), \
     saved AS (INSERT INTO run_checkpoint (id, version, state) SELECT id, $20, $21 FROM changed \
     WHERE $21::bytea IS NOT NULL AND NOT $23 \
     ON CONFLICT (id) DO UPDATE SET version = excluded.version, state = excluded.state), \
     gone AS (DELETE FROM run_checkpoint_more USING changed WHERE run_checkpoint_more.id = changed.id \
     AND $21::bytea IS NOT NULL AND NOT $23), \
     more AS (INSERT INTO run_checkpoint_more (id, place, state) SELECT changed.id, \
     coalesce((SELECT max(place) FROM run_checkpoint_more AS before WHERE before.id = changed.id), 0) + 1, $21 \
     FROM changed JOIN run_checkpoint ON run_checkpoint.id = changed.id AND run_checkpoint.version = $20 \
     WHERE $21::bytea IS NOT NULL AND $23 RETURNING id) \
     SELECT changed.id, more.id IS NOT NULL FROM changed LEFT JOIN more ON true";

/// The row, its snapshot and the events after it, as of one moment.
const VIEW: &str = "SELECT id, version, folded, run, owner, thread, parent, scopes, request, digest, started_at, \
     ended_at, state, epoch, fence, attempt, holder, lease_until, placed, head, oldest, bytes, last_batch, signals, \
     unseen, wake_at, (SELECT snapshot FROM run_snapshot WHERE run_snapshot.id = run.id), \
     ARRAY(SELECT json FROM event WHERE event.id = run.id AND seq > folded ORDER BY seq) \
     FROM run WHERE run = $1 AND (owner = $2 OR EXISTS (SELECT 1 FROM share WHERE share.thread = run.thread \
     AND share.reader = $2 AND share.owner = run.owner))";

/// Where a log stands and a page of it, as of one moment; a page holds `$4` events and about `$5` bytes.
const PAGE: &str = "SELECT epoch, head, oldest, state, fence, one.seq, one.terminal, one.json FROM run LEFT JOIN LATERAL \
     (SELECT seq, terminal, json FROM (SELECT seq, terminal, json, octet_length(json) AS size, \
     sum(octet_length(json)) OVER (ORDER BY seq) AS so_far FROM (SELECT seq, terminal, json FROM event \
     WHERE event.id = run.id AND seq > $3 ORDER BY seq LIMIT $4) AS few) AS sized \
     WHERE so_far <= $5 OR so_far = size) AS one ON true WHERE run = $1 AND (owner = $2 OR EXISTS (SELECT 1 FROM share \
     WHERE share.thread = run.thread AND share.reader = $2 AND share.owner = run.owner)) ORDER BY one.seq";

const INPUTS: &str = "SELECT run_input.id, text, attachments, version, state || coalesce((SELECT \
     string_agg(more.state, ''::bytea ORDER BY place) FROM run_checkpoint_more AS more \
     WHERE more.id = run_input.id), ''::bytea) FROM run_input \
     LEFT JOIN run_checkpoint USING (id) WHERE run_input.id = ANY($1)";
const FOLDED: &str = "SELECT json FROM event WHERE id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq";
const PUT_SNAPSHOT: &str = "INSERT INTO run_snapshot (id, snapshot) VALUES ($1, $2) \
     ON CONFLICT (id) DO UPDATE SET snapshot = excluded.snapshot";

impl RunRow {
    pub(super) fn of(row: &Row) -> Result<Self> {
        Self::from_columns(&mut Columns::of(row))
    }

    fn from_columns(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            id: columns.value()?,
            version: columns.value()?,
            folded: columns.count()?,
            record: RunRecord {
                run: columns.id(RunId::from_bytes)?,
                user: columns.id(UserId::from_bytes)?,
                thread: columns.id(ThreadId::from_bytes)?,
                parent: columns.optional_id(RunId::from_bytes)?,
                scopes: columns.json()?,
                request: columns.id(RequestId::from_bytes)?,
                digest: columns.digest()?,
                started_at: columns.time()?,
                ended_at: columns.optional_time()?,
                state: columns.named(RunState::from_name)?,
                epoch: columns.id(Epoch::from_bytes)?,
                fence: columns.count()?,
                attempt: columns.small()?,
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

    /// The first run that a statement of this module finds.
    pub(super) async fn find(
        transaction: &Transaction<'_>,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Self>> {
        transaction.query_opt(sql, params).await?.as_ref().map(Self::of).transpose()
    }

    /// All runs that a statement of this module finds.
    pub(super) async fn all(
        transaction: &Transaction<'_>,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Self>> {
        transaction.query(sql, params).await?.iter().map(Self::of).collect()
    }

    /// The run and its lock, when it is the principal's.
    pub(super) async fn own_locked(
        transaction: &Transaction<'_>,
        user: UserId,
        run: RunId,
        operation: &'static str,
    ) -> Result<Self> {
        Self::find(transaction, BY_RUN_LOCKED, &[&key(run.as_bytes())])
            .await?
            .filter(|row| row.record.user == user)
            .ok_or_else(|| Error::not_found(operation, "run"))
    }

    /// Puts a new run on record.
    pub(super) async fn insert(
        transaction: &Transaction<'_>,
        record: &RunRecord,
        new: &NewRun,
        first: &Recorded,
    ) -> Result<()> {
        transaction
            .execute(
                INSERT,
                &[
                    &key(record.run.as_bytes()),
                    &key(record.user.as_bytes()),
                    &key(record.thread.as_bytes()),
                    &record.parent.map(|run| key(run.as_bytes())),
                    &json(&record.scopes)?,
                    &key(record.request.as_bytes()),
                    &record.digest.as_slice(),
                    &record.started_at.as_millis(),
                    &record.state.name(),
                    &key(record.epoch.as_bytes()),
                    &int(record.fence),
                    &i64::from(record.attempt),
                    &record.lease_until.as_millis(),
                    &record.placed,
                    &int(record.head),
                    &int(record.oldest),
                    &int(record.bytes),
                    &record.unseen,
                    &new.text.as_bytes(),
                    &json(&new.attachments)?,
                    &first.terminal,
                    &&*first.json,
                ],
            )
            .await?;
        Ok(())
    }

    /// Writes the row as it is now, with what a batch brings. It must have been read under its lock.
    pub(super) async fn save(
        &mut self,
        transaction: &Transaction<'_>,
        batch: Option<&Append>,
    ) -> Result<()> {
        let write = Write::of(self, batch)?;
        if !write.to(transaction).await? {
            return Err(Error::internal("postgres.save", "a run changed under its lock")
                .with("run", self.record.run));
        }
        self.version += 1;
        Ok(())
    }

    /// Writes the row as it is now, with what a batch brings, by a statement that commits by itself. `false` when it
    /// is no longer the row that was read.
    pub(super) async fn save_alone(
        &mut self,
        database: &Database,
        access: Access,
        batch: &Append,
    ) -> Result<bool> {
        let write = Write::of(self, Some(batch))?;
        let saved =
            database.transact(access, |transaction| Box::pin(write.to(transaction))).await?;
        self.version += 1;
        Ok(saved)
    }

    /// Takes a batch in and writes what came of it; `None` when it is the one that was taken in last.
    pub(super) async fn append(
        &mut self,
        transaction: &Transaction<'_>,
        lease: &Lease,
        batch: &Append,
        now: Timestamp,
        limits: &RunLimits,
    ) -> Result<Option<Effects>> {
        let Some(effects) = self.record.append(lease, batch, now, limits)? else {
            return Ok(None);
        };
        self.save(transaction, Some(batch)).await?;
        if self.record.ended_at.is_some() {
            let gone = "DELETE FROM run_checkpoint WHERE id = $1";
            transaction.execute(gone, &[&self.id]).await?;
        }
        if self.is_due(limits) {
            self.trim(transaction, limits).await?;
            self.save(transaction, None).await?;
        }
        Ok(Some(effects))
    }

    /// Whether events are to be trimmed or folded.
    pub(super) fn is_due(&self, limits: &RunLimits) -> bool {
        self.record.is_past_limits(limits) || self.record.fold_to(self.folded).is_some()
    }

    /// Drops all events; the snapshot stays.
    pub(super) async fn drop_history(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        self.record.drop_history();
        self.fold(transaction).await?;
        self.delete_trimmed(transaction).await?;
        self.save(transaction, None).await?;
        let dropped = "UPDATE run SET dropped = true WHERE id = $1";
        transaction.execute(dropped, &[&self.id]).await?;
        Ok(())
    }

    /// Begins a new life of the log: its events go, their outcome stays.
    pub(super) async fn renew_epoch(
        &mut self,
        transaction: &Transaction<'_>,
        epoch: Epoch,
    ) -> Result<()> {
        self.record.drop_history();
        self.record.epoch = epoch;
        self.fold(transaction).await?;
        self.delete_trimmed(transaction).await?;
        self.save(transaction, None).await?;
        let renewed = "UPDATE run SET epoch = $2, era = (SELECT era FROM store) WHERE id = $1";
        transaction.execute(renewed, &[&self.id, &key(epoch.as_bytes())]).await?;
        Ok(())
    }

    /// Goes past events that were recorded elsewhere, with what they have come to.
    pub(super) async fn pass(&mut self, transaction: &Transaction<'_>, past: &Past) -> Result<()> {
        if !self.record.pass(past) {
            return Ok(());
        }
        match &past.snapshot {
            Some(snapshot) => {
                transaction.execute(PUT_SNAPSHOT, &[&self.id, &json(snapshot)?.as_bytes()]).await?;
                self.folded = past.head;
            }
            // What is known here is all that is left of them.
            None => self.fold(transaction).await?,
        }
        self.delete_trimmed(transaction).await?;
        self.save(transaction, None).await
    }

    async fn trim(&mut self, transaction: &Transaction<'_>, limits: &RunLimits) -> Result<()> {
        let before = self.record.oldest;
        if self.record.is_past_limits(limits) {
            let sizes = "SELECT octet_length(json)::bigint FROM event WHERE id = $1 ORDER BY seq";
            let rows = transaction.query(sizes, &[&self.id]).await?;
            let sizes: Vec<u64> = rows
                .iter()
                .map(|row| Columns::of(row).small().map(u64::from))
                .collect::<Result<_>>()?;
            self.record.trim(limits, sizes.into_iter());
        }
        self.fold(transaction).await?;
        if self.record.oldest > before {
            self.delete_trimmed(transaction).await?;
        }
        Ok(())
    }

    async fn fold(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        let Some(to) = self.record.fold_to(self.folded) else {
            return Ok(());
        };
        let kept = "SELECT snapshot FROM run_snapshot WHERE id = $1";
        let kept = transaction.query_opt(kept, &[&self.id]).await?;
        let mut snapshot = match &kept {
            Some(row) => snapshot_of(Columns::of(row).value()?)?,
            None => Snapshot::new(),
        };
        let bounds: [&(dyn ToSql + Sync); 3] = [&self.id, &int(self.folded), &int(to)];
        for row in &transaction.query(FOLDED, &bounds).await? {
            fold(&mut snapshot, &unnumbered(Columns::of(row).value()?));
        }
        let bytes = json(&snapshot)?;
        transaction.execute(PUT_SNAPSHOT, &[&self.id, &bytes.as_bytes()]).await?;
        self.folded = to;
        Ok(())
    }

    async fn delete_trimmed(&self, transaction: &Transaction<'_>) -> Result<()> {
        let trimmed = "DELETE FROM event WHERE id = $1 AND seq < $2";
        transaction.execute(trimmed, &[&self.id, &int(self.record.oldest)]).await?;
        Ok(())
    }
}

/// What [`WRITE`] binds.
struct Write<'a> {
    id: i64,
    version: i64,
    ended_at: Option<i64>,
    state: &'static str,
    fence: i64,
    attempt: i64,
    holder: Option<Uuid>,
    lease_until: i64,
    placed: bool,
    head: i64,
    oldest: i64,
    bytes: i64,
    last_batch: Option<Uuid>,
    signals: Option<String>,
    unseen: bool,
    folded: i64,
    numbers: Vec<i64>,
    terminals: Vec<bool>,
    contents: Vec<&'a [u8]>,
    checkpoint_version: i64,
    checkpoint: Option<&'a [u8]>,
    wake_at: Option<i64>,
    goes_on: bool,
}

impl<'a> Write<'a> {
    fn of(row: &RunRow, batch: Option<&'a Append>) -> Result<Self> {
        let record = &row.record;
        let events = batch.map_or(&[][..], |batch| &batch.events);
        // A run that has ended keeps no checkpoint.
        let checkpoint =
            batch.and_then(|batch| batch.checkpoint.as_ref()).filter(|_| record.ended_at.is_none());
        let asked = record.signals != Signals::default();
        Ok(Self {
            id: row.id,
            version: row.version,
            ended_at: record.ended_at.map(Timestamp::as_millis),
            state: record.state.name(),
            fence: int(record.fence),
            attempt: i64::from(record.attempt),
            holder: record.holder.map(|node| key(node.as_bytes())),
            lease_until: record.lease_until.as_millis(),
            placed: record.placed,
            head: int(record.head),
            oldest: int(record.oldest),
            bytes: int(record.bytes),
            last_batch: record.last_batch.map(|batch| key(batch.as_bytes())),
            signals: asked.then(|| json(&record.signals)).transpose()?,
            unseen: record.unseen,
            folded: int(row.folded),
            numbers: events.iter().map(|event| int(event.seq)).collect(),
            terminals: events.iter().map(|event| event.terminal).collect(),
            contents: events.iter().map(|event| &*event.json).collect(),
            checkpoint_version: checkpoint.map_or(0, |kept| i64::from(kept.version)),
            checkpoint: checkpoint.map(|kept| &*kept.state),
            wake_at: record.wake_at.map(Timestamp::as_millis),
            goes_on: checkpoint.is_some_and(|kept| kept.goes_on),
        })
    }

    /// Writes it; whether the row is still the one that was read.
    async fn to(&self, transaction: &Transaction<'_>) -> Result<bool> {
        let Some(row) = transaction.query_opt(WRITE, &self.params()).await? else {
            return Ok(false);
        };
        let followed = Columns::after(&row, 1).value::<bool>()?;
        if self.goes_on && !followed { Err(unfounded()) } else { Ok(true) }
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 23] {
        [
            &self.id,
            &self.version,
            &self.ended_at,
            &self.state,
            &self.fence,
            &self.attempt,
            &self.holder,
            &self.lease_until,
            &self.placed,
            &self.head,
            &self.oldest,
            &self.bytes,
            &self.last_batch,
            &self.signals,
            &self.unseen,
            &self.folded,
            &self.numbers,
            &self.terminals,
            &self.contents,
            &self.checkpoint_version,
            &self.checkpoint,
            &self.wake_at,
            &self.goes_on,
        ]
    }
}

/// A run as its user sees it.
pub(super) async fn view(
    database: &Database,
    access: Access,
    user: UserId,
    run: RunId,
) -> Result<RunView> {
    let own: [&(dyn ToSql + Sync); 2] = [&key(run.as_bytes()), &key(user.as_bytes())];
    let found = database.fetch(access, VIEW, &own).await?;
    let found = found.first().ok_or_else(|| Error::not_found("run_log.view", "run"))?;
    let mut columns = Columns::of(found);
    let row = RunRow::from_columns(&mut columns)?;
    let snapshot = match columns.value::<Option<&[u8]>>()? {
        Some(bytes) => snapshot_of(bytes)?,
        None => Snapshot::new(),
    };
    let unfolded: Vec<Recorded> =
        columns.value::<Vec<&[u8]>>()?.into_iter().map(unnumbered).collect();
    Ok(row.record.view(snapshot, &unfolded))
}

/// A page of a log, up to `max` events after `after` and about as many bytes as a page holds; and the run's fence.
pub(super) async fn page(
    database: &Database,
    access: Access,
    user: UserId,
    run: RunId,
    after: u64,
    max: usize,
) -> Result<(Page, u64)> {
    let wanted: [&(dyn ToSql + Sync); 5] = [
        &key(run.as_bytes()),
        &key(user.as_bytes()),
        &int(after),
        &int(max as u64),
        &int(PAGE_BYTES as u64),
    ];
    let rows = database.fetch(access, PAGE, &wanted).await?;
    let first = rows.first().ok_or_else(|| Error::not_found("run_log.read", "run"))?;
    let mut columns = Columns::of(first);
    let (epoch, head) = (columns.id(Epoch::from_bytes)?, columns.count()?);
    let (oldest, state) = (columns.count()?, columns.named(RunState::from_name)?);
    let fence = columns.count()?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::after(row, 5);
        if let Some(seq) = columns.value::<Option<i64>>()? {
            let terminal = columns.value()?;
            let json = Bytes::copy_from_slice(columns.value()?);
            events.push(Recorded { seq: seq.unsigned_abs(), terminal, json });
        }
    }
    Ok((Page { epoch, events, head, oldest, ended: state.is_terminal() }, fence))
}

/// What runs were asked and where they had got to, by the keys of their rows.
pub(super) async fn inputs(
    transaction: &Transaction<'_>,
    ids: &[i64],
) -> Result<HashMap<i64, (RunInput, Option<Checkpoint>)>> {
    let mut found = HashMap::new();
    for row in &transaction.query(INPUTS, &[&ids]).await? {
        let mut columns = Columns::of(row);
        let id = columns.value()?;
        let input = RunInput { text: columns.words()?, attachments: columns.json()? };
        let version = columns.value::<Option<i64>>()?;
        let state = columns.value::<Option<&[u8]>>()?;
        let checkpoint = version.zip(state).map(|(version, state)| {
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            Checkpoint::whole(version, Bytes::copy_from_slice(state))
        });
        found.insert(id, (input, checkpoint));
    }
    Ok(found)
}

/// Of an event that is only folded, the number does not matter.
fn unnumbered(json: &[u8]) -> Recorded {
    Recorded { seq: 0, terminal: false, json: Bytes::copy_from_slice(json) }
}

fn snapshot_of(bytes: &[u8]) -> Result<Snapshot> {
    serde_json::from_slice(bytes).map_err(|error| damaged(0, error))
}
