use super::claim::{claim_runs, drop_old_histories, open_runs};
use super::inbox;
use super::node::Liveness;
use super::row::key;
use super::run_row::{self, BY_REQUEST, BY_RUN, BY_RUN_LOCKED, OF_THREAD_LOCKED, RunRow};
use super::statement::finished;
use crate::clock::{Clock, Timestamp};
use crate::database::{Access, Database, Transaction};
use crate::error::Result;
use crate::id::{Epoch, RunId, ThreadId, UserId};
use crate::principal::{Principal, Scope};
use crate::run::ledger::{Ledger, Past, Stand};
use crate::run::place::admit;
use crate::run::record::{Effects, RunRecord, fenced};
use crate::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLimits, RunLog, RunState,
    RunView, Signal, Started, Topic, Wakeup,
};
use crate::store::{PAGE_ITEMS, run_taken, still_open};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::types::ToSql;

/// The rows of runs that this node writes, at most.
const KNOWN: usize = 4_096;

/// Runs in PostgreSQL.
///
/// Rows are locked in one order everywhere: a run's before its user's. Where it is the other way round, in a claim,
/// nothing is waited for.
#[derive(Debug)]
pub(super) struct PostgresRunLog {
    database: Database,
    wakeup: Arc<dyn Wakeup>,
    clock: Arc<dyn Clock>,
    limits: RunLimits,
    /// Ends with the log: a node without one is as good as dead.
    _liveness: Liveness,
    /// The rows of the runs that this node writes, as it wrote them last. Whether one is still true the statement
    /// that uses it finds out, so an append needs not read first.
    known: Mutex<HashMap<RunId, RunRow>>,
}

impl PostgresRunLog {
    pub(super) fn new(
        database: Database,
        wakeup: Arc<dyn Wakeup>,
        clock: Arc<dyn Clock>,
        limits: RunLimits,
        liveness: Liveness,
    ) -> Self {
        Self { database, wakeup, clock, limits, _liveness: liveness, known: Mutex::default() }
    }

    /// Remembers the row of a run that a node holds.
    fn remember(&self, row: RunRow) {
        let mut known = self.known.lock();
        if row.record.holder.is_none() {
            known.remove(&row.record.run);
            return;
        }
        if known.len() >= KNOWN
            && let Some(any) = known.keys().next().copied()
        {
            known.remove(&any);
        }
        known.insert(row.record.run, row);
    }

    fn wake(&self, topics: Vec<Topic>) {
        for topic in topics {
            self.wakeup.wake(topic);
        }
    }

    /// Appends by one statement what changes nothing but the log, when this node wrote the run last; `None` when it
    /// takes more than that.
    async fn append_known(&self, lease: &Lease, batch: &Append) -> Result<Option<Appended>> {
        let Some(mut row) = self.known.lock().remove(&lease.run) else {
            return Ok(None);
        };
        let before = row.record.state;
        let taken = row.record.append(lease, batch, self.clock.now(), &self.limits);
        let Ok(Some(effects)) = taken else {
            return Ok(None);
        };
        let plain = effects.inbox.is_none()
            && row.record.state == before
            && row.record.holder.is_some()
            && !row.is_due(&self.limits);
        if !plain || !row.save_alone(&self.database, appending(), batch).await? {
            return Ok(None);
        }
        let appended = row.record.appended();
        self.remember(row);
        self.wake(effects.wakes);
        Ok(Some(appended))
    }

    /// Appends, with the row read first.
    async fn append_slowly(
        &self,
        lease: &Lease,
        past: Option<&Past>,
        batch: &Append,
    ) -> Result<Appended> {
        let (now, limits) = (self.clock.now(), &self.limits);
        let (row, wakes) = self
            .database
            .transact(appending(), |transaction| {
                Box::pin(append(transaction, lease, past, batch, now, limits))
            })
            .await?;
        let appended = row.record.appended();
        self.remember(row);
        self.wake(wakes);
        Ok(appended)
    }
}

/// Runs under way finish, whatever else their users do: so an append does not count against a user's share. There are
/// never more at a time than a user's runs at work.
fn appending() -> Access {
    Access::of_a_run("run_log.append")
}

#[async_trait]
impl RunLog for PostgresRunLog {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        principal.require(Scope::Run, "run_log.start")?;
        let (run, clock, limits) = (&run, &*self.clock, &self.limits);
        let (started, wakes) = self
            .database
            .write(Access::of(principal, "run_log.start"), |transaction| {
                Box::pin(start(transaction, principal, run, clock, limits))
            })
            .await?;
        self.wake(wakes);
        Ok(started)
    }

    async fn begun(&self, principal: &Principal, run: &NewRun) -> Result<Option<Started>> {
        principal.require(Scope::Run, "run_log.start")?;
        let access = Access::user(principal.user(), "run_log.start");
        let request: [&(dyn ToSql + Sync); 2] =
            [&key(principal.user().as_bytes()), &key(run.request.as_bytes())];
        let rows = self.database.fetch(access, BY_REQUEST, &request).await?;
        let known = rows.first().map(RunRow::of).transpose()?;
        known.map(|known| known.record.started_before(run)).transpose()
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        let (claim, clock, limits) = (&claim, &*self.clock, &self.limits);
        let claimed = self
            .database
            .transact(Access::of_a_run("run_log.claim"), |transaction| {
                Box::pin(async move {
                    drop_old_histories(transaction, clock.now(), limits).await?;
                    claim_runs(transaction, claim, clock, limits).await
                })
            })
            .await?;
        let remember = |(row, claimed)| {
            self.remember(row);
            claimed
        };
        Ok(claimed.into_iter().map(remember).collect())
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        if let Some(appended) = self.append_known(lease, &batch).await? {
            return Ok(appended);
        }
        self.append_slowly(lease, None, &batch).await
    }

    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        principal.require(signal.scope(), "run_log.signal")?;
        let user = principal.user();
        let (state, wakes) = self
            .database
            .write(Access::of(principal, "run_log.signal"), move |transaction| {
                let signal = signal.clone();
                Box::pin(async move {
                    let mut row =
                        RunRow::own_locked(transaction, user, run, "run_log.signal").await?;
                    let effects = row.record.signal(user, signal)?;
                    if effects != Effects::default() {
                        row.save(transaction, None).await?;
                    }
                    Ok((row.record.state, effects.wakes))
                })
            })
            .await?;
        self.wake(wakes);
        Ok(state)
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        principal.require(Scope::Read, "run_log.view")?;
        let (access, user) = (Access::of(principal, "run_log.view"), principal.user());
        let database = self.database.clone();
        finished(async move { run_row::view(&database, access, user, run).await }).await
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
        let (access, user) = (Access::of(principal, "run_log.inbox"), principal.user());
        let database = self.database.clone();
        finished(
            async move { inbox::page(&database, access, user, after, max.min(PAGE_ITEMS)).await },
        )
        .await
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        principal.require(Scope::Run, "run_log.forget")?;
        let user = principal.user();
        self.database
            .write(Access::of(principal, "run_log.forget"), |transaction| {
                Box::pin(forget(transaction, user, thread))
            })
            .await
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }
}

#[async_trait]
impl Ledger for PostgresRunLog {
    async fn page(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<(Page, u64)> {
        principal.require(Scope::Read, "run_log.read")?;
        let (access, user) = (Access::of(principal, "run_log.read"), principal.user());
        let database = self.database.clone();
        finished(async move {
            run_row::page(&database, access, user, run, after, max.min(PAGE_ITEMS)).await
        })
        .await
    }

    async fn stand(&self, run: RunId) -> Result<Option<Stand>> {
        let access = Access::of_a_run("run_log.stand");
        let found = self.database.fetch(access, BY_RUN, &[&key(run.as_bytes())]).await?;
        found.first().map(|row| Ok(RunRow::of(row)?.record.stand())).transpose()
    }

    async fn append_past(&self, lease: &Lease, past: Past, batch: Append) -> Result<Appended> {
        self.known.lock().remove(&lease.run);
        self.append_slowly(lease, Some(&past), &batch).await
    }

    async fn renew(
        &self,
        run: RunId,
        of: (Epoch, u64),
        epoch: Epoch,
        past: Past,
    ) -> Result<Option<Stand>> {
        self.known.lock().remove(&run);
        let past = &past;
        let stand = self
            .database
            .transact(Access::of_a_run("run_log.renew"), |transaction| {
                Box::pin(renew(transaction, run, of, epoch, past))
            })
            .await?;
        if stand.as_ref().is_some_and(|stand| stand.epoch == epoch) {
            self.wakeup.wake(Topic::Run(run));
        }
        Ok(stand)
    }
}

const FORGET: &str =
    "WITH gone AS (DELETE FROM run WHERE id = ANY($1)) DELETE FROM event WHERE id = ANY($1)";

async fn start(
    transaction: &Transaction<'_>,
    principal: &Principal,
    new: &NewRun,
    clock: &dyn Clock,
    limits: &RunLimits,
) -> Result<(Started, Vec<Topic>)> {
    let user = principal.user();
    let owner = key(user.as_bytes());
    inbox::lock_user(transaction, user, "run_log.start").await?;
    let request: [&(dyn ToSql + Sync); 2] = [&owner, &key(new.request.as_bytes())];
    if let Some(known) = RunRow::find(transaction, BY_REQUEST, &request).await? {
        return Ok((known.record.started_before(new)?, Vec::new()));
    }
    if RunRow::find(transaction, BY_RUN, &[&key(new.run.as_bytes())]).await?.is_some() {
        return Err(run_taken(new.run));
    }
    let open = open_runs(transaction, &[owner]).await?.remove(&user).unwrap_or_default();
    let begins = admit(&open, new, limits)?;
    let (record, first) = RunRecord::start(principal, new, begins, clock)?;
    RunRow::insert(transaction, &record, new, &first).await?;
    let effects = record.start_effects(begins);
    let wakes = carry_out(transaction, &record, effects, record.started_at, limits).await?;
    Ok((Started { run: new.run, thread: new.thread, created: true }, wakes))
}

async fn append(
    transaction: &Transaction<'_>,
    lease: &Lease,
    past: Option<&Past>,
    batch: &Append,
    now: Timestamp,
    limits: &RunLimits,
) -> Result<(RunRow, Vec<Topic>)> {
    let mut row = RunRow::find(transaction, BY_RUN_LOCKED, &[&key(lease.run.as_bytes())])
        .await?
        .ok_or_else(|| fenced(lease, "the run is no longer on record"))?;
    if let Some(past) = past.filter(|_| row.record.last_batch != Some(batch.batch)) {
        row.pass(transaction, past).await?;
    }
    let wakes = match row.append(transaction, lease, batch, now, limits).await? {
        Some(effects) => carry_out(transaction, &row.record, effects, now, limits).await?,
        None => Vec::new(),
    };
    Ok((row, wakes))
}

async fn renew(
    transaction: &Transaction<'_>,
    run: RunId,
    of: (Epoch, u64),
    epoch: Epoch,
    past: &Past,
) -> Result<Option<Stand>> {
    let found = RunRow::find(transaction, BY_RUN_LOCKED, &[&key(run.as_bytes())]).await?;
    let Some(mut row) = found else {
        return Ok(None);
    };
    if row.record.may_renew(of) {
        row.pass(transaction, past).await?;
        row.renew_epoch(transaction, epoch).await?;
    }
    Ok(Some(row.record.stand()))
}

async fn forget(
    transaction: &Transaction<'_>,
    user: UserId,
    thread: ThreadId,
) -> Result<Vec<RunId>> {
    let own: [&(dyn ToSql + Sync); 2] = [&key(user.as_bytes()), &key(thread.as_bytes())];
    let rows = RunRow::all(transaction, OF_THREAD_LOCKED, &own).await?;
    if let Some(open) = rows.iter().find(|row| row.record.ended_at.is_none()) {
        return Err(still_open(open.record.run));
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    transaction.execute(FORGET, &[&ids]).await?;
    Ok(rows.into_iter().map(|row| row.record.run).collect())
}

/// Enters a run's new state into its user's inbox; whom to wake is left for after the commit.
async fn carry_out(
    transaction: &Transaction<'_>,
    record: &RunRecord,
    effects: Effects,
    at: Timestamp,
    limits: &RunLimits,
) -> Result<Vec<Topic>> {
    if let Some(state) = effects.inbox {
        inbox::enter(transaction, record, state, at, limits).await?;
    }
    Ok(effects.wakes)
}
