use super::database::{Database, expire_leases};
use super::erase::refuse;
use super::error::Fault;
use super::row::{Columns, int};
use super::run_row::{
    AT_ONCE, BY_REQUEST, BY_RUN, DUE, EXPIRED, OF_THREAD, OLD_HISTORIES, RunRow, open_runs,
    queued_with_place,
};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::id::{Epoch, RunId, ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::run::ledger::{Ledger, Past, Stand};
use crate::run::place::admit;
use crate::run::record::{Effects, RunRecord, fenced};
use crate::run::{
    Append, Appended, Claim, Claimed, InboxEntry, InboxPage, Lease, NewRun, Page, RunLimits,
    RunLog, RunState, RunView, Signal, Started, Topic,
};
use crate::store::{PAGE_ITEMS, SWEEP, run_taken, still_open};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use std::sync::Arc;

/// Runs in SQLite.
#[derive(Debug)]
pub(super) struct SqliteRunLog {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
    limits: RunLimits,
}

impl SqliteRunLog {
    pub(super) fn new(database: Arc<Database>, clock: Arc<dyn Clock>, limits: RunLimits) -> Self {
        Self { database, clock, limits }
    }

    async fn append_after(
        &self,
        lease: &Lease,
        past: Option<Past>,
        batch: Append,
    ) -> Result<Appended> {
        let (lease, now, limits) = (lease.clone(), self.clock.now(), self.limits);
        self.database
            .write("run_log.append", move |connection, wakes| {
                let mut row = RunRow::find(connection, BY_RUN, [lease.run.as_bytes()])?
                    .ok_or_else(|| fenced(&lease, "the run is no longer on record"))?;
                if let Some(past) = past.filter(|_| row.record.last_batch != Some(batch.batch)) {
                    row.pass(connection, &past)?;
                }
                let taken = row.append(connection, &lease, &batch, now, &limits)?;
                if let Some(effects) = taken {
                    carry_out(connection, &row.record, effects, now, &limits, wakes)?;
                }
                Ok(row.record.appended())
            })
            .await
    }
}

#[async_trait]
impl RunLog for SqliteRunLog {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        principal.require(Scope::Run, "run_log.start")?;
        let (principal, clock, limits) = (principal.clone(), Arc::clone(&self.clock), self.limits);
        self.database
            .write("run_log.start", move |connection, wakes| {
                start(connection, &principal, &run, &*clock, &limits, wakes)
            })
            .await
    }

    async fn begun(&self, principal: &Principal, run: &NewRun) -> Result<Option<Started>> {
        principal.require(Scope::Run, "run_log.start")?;
        let (user, run) = (principal.user(), run.clone());
        self.database.read("run_log.start", move |connection| begun(connection, user, &run)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        let (now, limits) = (self.clock.now(), self.limits);
        let nodes = Arc::clone(&self.database.nodes);
        self.database
            .write("run_log.claim", move |connection, _| {
                expire_leases(connection, nodes.others().0)?;
                drop_old_histories(connection, now, &limits)?;
                Ok(claim_runs(connection, &claim, now, &limits)?)
            })
            .await
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        self.append_after(lease, None, batch).await
    }

    async fn queued(&self) -> Result<Option<u64>> {
        const COUNT: &str = "SELECT count(*) FROM run WHERE state = 'queued' AND parent IS NULL";
        self.database
            .read("run_log.queued", |connection| {
                let queued: i64 = connection.query_row(COUNT, [], |row| row.get(0))?;
                Ok(u64::try_from(queued).ok())
            })
            .await
    }

    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        principal.require(signal.scope(), "run_log.signal")?;
        let (user, now, limits) = (principal.user(), self.clock.now(), self.limits);
        self.database
            .write("run_log.signal", move |connection, wakes| {
                let mut row = RunRow::own(connection, user, run, "run_log.signal")?;
                let effects = row.record.signal(user, signal)?;
                row.save(connection)?;
                carry_out(connection, &row.record, effects, now, &limits, wakes)?;
                Ok(row.record.state)
            })
            .await
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        principal.require(Scope::Read, "run_log.view")?;
        let user = principal.user();
        self.database
            .read("run_log.view", move |connection| {
                let row = RunRow::readable(connection, user, run, "run_log.view")?;
                let unfolded = row.events(connection, row.folded, row.record.head, None)?;
                Ok(row.record.view(row.snapshot(connection)?, &unfolded))
            })
            .await
    }

    async fn read(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        self.page(principal, run, after, max).await.map(|(page, _)| page)
    }

    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        principal.require(Scope::Read, "run_log.inbox")?;
        let user = principal.user();
        self.database
            .read("run_log.inbox", move |connection| {
                let max = int(max.min(PAGE_ITEMS) as u64);
                let (oldest, head) = inbox_bounds(connection, user)?;
                let entries = connection
                    .prepare_cached(INBOX)?
                    .query_map(params![user.as_bytes(), int(after), max], entry_of)?
                    .collect::<rusqlite::Result<_>>()?;
                let epoch = connection
                    .prepare_cached("SELECT inbox_epoch FROM store")?
                    .query_row([], |row| Columns::of(row).id(Epoch::from_bytes))?;
                Ok(InboxPage { epoch, entries, head, oldest })
            })
            .await
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        principal.require(Scope::Run, "run_log.forget")?;
        let user = principal.user();
        self.database
            .write("run_log.forget", move |connection, _| {
                let key = params![user.as_bytes(), thread.as_bytes()];
                let rows = RunRow::all(connection, OF_THREAD, key)?;
                if let Some(open) = rows.iter().find(|row| row.record.ended_at.is_none()) {
                    return Err(still_open(open.record.run).into());
                }
                connection
                    .prepare_cached("DELETE FROM run WHERE user = ?1 AND thread = ?2")?
                    .execute(key)?;
                Ok(rows.into_iter().map(|row| row.record.run).collect())
            })
            .await
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }
}

#[async_trait]
impl Ledger for SqliteRunLog {
    async fn page(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<(Page, u64)> {
        principal.require(Scope::Read, "run_log.read")?;
        let user = principal.user();
        self.database
            .read("run_log.read", move |connection| {
                let row = RunRow::readable(connection, user, run, "run_log.read")?;
                let max = max.min(PAGE_ITEMS);
                let events = row.events(connection, after, row.record.head, Some(max))?;
                Ok((row.record.page(events), row.record.fence))
            })
            .await
    }

    async fn stand(&self, run: RunId) -> Result<Option<Stand>> {
        self.database
            .read("run_log.stand", move |connection| {
                let row = RunRow::find(connection, BY_RUN, [run.as_bytes()])?;
                Ok(row.map(|row| row.record.stand()))
            })
            .await
    }

    async fn append_past(&self, lease: &Lease, past: Past, batch: Append) -> Result<Appended> {
        self.append_after(lease, Some(past), batch).await
    }

    async fn renew(
        &self,
        run: RunId,
        of: (Epoch, u64),
        epoch: Epoch,
        past: Past,
    ) -> Result<Option<Stand>> {
        self.database
            .write("run_log.renew", move |connection, wakes| {
                let Some(mut row) = RunRow::find(connection, BY_RUN, [run.as_bytes()])? else {
                    return Ok(None);
                };
                if row.record.may_renew(of) {
                    row.pass(connection, &past)?;
                    row.renew_epoch(connection, epoch)?;
                    row.record.epoch = epoch;
                    wakes.push(Topic::Run(run));
                }
                Ok(Some(row.record.stand()))
            })
            .await
    }
}

const BOUNDS: &str = "SELECT coalesce((SELECT min(seq) FROM inbox WHERE user = ?1), 1), \
     coalesce((SELECT max(seq) FROM inbox WHERE user = ?1), 0)";
const INBOX: &str = "SELECT seq, run, thread, state, at FROM inbox WHERE user = ?1 AND seq > ?2 \
     ORDER BY seq LIMIT ?3";
const ENTER: &str = "INSERT INTO inbox (user, seq, run, thread, state, at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

fn begun(connection: &Connection, user: UserId, new: &NewRun) -> Result<Option<Started>, Fault> {
    let key = params![user.as_bytes(), new.request.as_bytes()];
    match RunRow::find(connection, BY_REQUEST, key)? {
        Some(known) => Ok(Some(known.record.started_before(new)?)),
        None => Ok(None),
    }
}

fn start(
    connection: &Connection,
    principal: &Principal,
    new: &NewRun,
    clock: &dyn Clock,
    limits: &RunLimits,
    wakes: &mut Vec<Topic>,
) -> Result<Started, Fault> {
    let user = principal.user();
    refuse(connection, user, "run_log.start")?;
    if let Some(started) = begun(connection, user, new)? {
        return Ok(started);
    }
    if RunRow::find(connection, BY_RUN, [new.run.as_bytes()])?.is_some() {
        return Err(run_taken(new.run).into());
    }
    let begins = admit(&open_runs(connection, user)?, new, limits)?;
    let (record, first) = RunRecord::start(principal, new, begins, clock)?;
    RunRow::insert(connection, &record, new, &first)?;
    let effects = record.start_effects(begins);
    carry_out(connection, &record, effects, record.started_at, limits, wakes)?;
    Ok(Started { run: new.run, thread: new.thread, created: true })
}

fn claim_runs(
    connection: &Connection,
    claim: &Claim,
    now: Timestamp,
    limits: &RunLimits,
) -> rusqlite::Result<Vec<Claimed>> {
    for mut row in RunRow::all(connection, DUE, params![now.as_millis(), int(SWEEP as u64)])? {
        row.record.wake(now);
        row.save(connection)?;
    }
    let max = claim.max.min(PAGE_ITEMS);
    let rest = |chosen: &[RunRow]| max - chosen.len();
    let mut chosen = RunRow::all(connection, AT_ONCE, [int(max as u64)])?;
    for run in queued_with_place(connection, rest(&chosen), limits)? {
        chosen.extend(RunRow::find(connection, BY_RUN, [run.as_bytes()])?);
    }
    let lost = params![now.as_millis(), int(rest(&chosen) as u64)];
    chosen.extend(RunRow::all(connection, EXPIRED, lost)?);
    chosen
        .into_iter()
        .map(|mut row| {
            row.record.claim(claim.node, now, limits);
            row.save(connection)?;
            let (input, checkpoint) = (row.input(connection)?, row.checkpoint(connection)?);
            Ok(row.record.claimed(claim.node, input, checkpoint))
        })
        .collect()
}

fn drop_old_histories(
    connection: &Connection,
    now: Timestamp,
    limits: &RunLimits,
) -> rusqlite::Result<()> {
    let ended = now.minus(limits.history_age).as_millis();
    let old = RunRow::all(connection, OLD_HISTORIES, params![ended, int(SWEEP as u64)])?;
    for mut row in old {
        row.drop_history(connection)?;
    }
    Ok(())
}

/// Enters a run's new state into its user's inbox, and leaves the wakes for after the commit.
fn carry_out(
    connection: &Connection,
    record: &RunRecord,
    effects: Effects,
    at: Timestamp,
    limits: &RunLimits,
    wakes: &mut Vec<Topic>,
) -> rusqlite::Result<()> {
    wakes.extend(effects.wakes);
    let Some(state) = effects.inbox else {
        return Ok(());
    };
    let seq = inbox_bounds(connection, record.user)?.1 + 1;
    connection.prepare_cached(ENTER)?.execute(params![
        record.user.as_bytes(),
        int(seq),
        record.run.as_bytes(),
        record.thread.as_bytes(),
        state.name(),
        at.as_millis(),
    ])?;
    let kept = limits.inbox_entries.max(1) as u64;
    connection
        .prepare_cached("DELETE FROM inbox WHERE user = ?1 AND seq <= ?2")?
        .execute(params![record.user.as_bytes(), int(seq.saturating_sub(kept))])?;
    Ok(())
}

/// The oldest and the last number of an inbox.
fn inbox_bounds(connection: &Connection, user: UserId) -> rusqlite::Result<(u64, u64)> {
    connection.prepare_cached(BOUNDS)?.query_row([user.as_bytes()], |row| {
        let mut columns = Columns::of(row);
        Ok((columns.count()?, columns.count()?))
    })
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<InboxEntry> {
    let mut columns = Columns::of(row);
    Ok(InboxEntry {
        seq: columns.count()?,
        run: columns.id(RunId::from_bytes)?,
        thread: columns.id(ThreadId::from_bytes)?,
        state: columns.named(RunState::from_name)?,
        at: columns.time()?,
    })
}
