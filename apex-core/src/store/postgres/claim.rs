//! Giving runs to a node that asks for work. Nobody waits for anybody here: what another transaction holds at the
//! moment is left to it, or to the next claim.

use super::era::OTHERS;
use super::row::{Columns, int, key};
use super::run_row::{AT_ONCE, CHOSEN, DUE, EXPIRED, OLD_HISTORIES, RunRow, inputs};
use crate::clock::{Clock, Timestamp};
use crate::database::Transaction;
use crate::error::{Error, Result};
use crate::id::{Epoch, RunId, ThreadId, UserId};
use crate::run::place::{OpenRun, with_place};
use crate::run::{Claim, Claimed, RunLimits, RunState};
use crate::store::{PAGE_ITEMS, SWEEP};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Queued runs that are looked at together.
const LOOK: i64 = 256;

/// Of the queued runs only what it takes to choose: there may be many.
const QUEUED: &str = "SELECT id, run, owner FROM run WHERE state = 'queued' AND parent IS NULL AND id > $1 \
     ORDER BY id LIMIT $2";
/// Users whose places nobody else is judging.
const FREE_USERS: &str =
    "SELECT owner FROM inbox_head WHERE owner = ANY($1) FOR UPDATE SKIP LOCKED";
const OPEN: &str = "SELECT owner, run, thread, state, placed, parent IS NOT NULL FROM run \
     WHERE owner = ANY($1) AND ended_at IS NULL ORDER BY id";

/// Claims runs for a node; gives their rows with the answers.
pub(super) async fn claim_runs(
    transaction: &Transaction<'_>,
    claim: &Claim,
    clock: &dyn Clock,
    limits: &RunLimits,
) -> Result<Vec<(RunRow, Claimed)>> {
    let now = clock.now();
    let due: [&(dyn ToSql + Sync); 2] = [&now.as_millis(), &int(SWEEP as u64)];
    for mut row in RunRow::all(transaction, DUE, &due).await? {
        row.record.wake(now);
        row.save(transaction, None).await?;
    }
    let max = claim.max.min(PAGE_ITEMS);
    let mut chosen = RunRow::all(transaction, AT_ONCE, &[&int(max as u64)]).await?;
    queued_with_place(transaction, max, limits, &mut chosen).await?;
    let rest = int(max.saturating_sub(chosen.len()) as u64);
    chosen.extend(RunRow::all(transaction, EXPIRED, &[&now.as_millis(), &rest]).await?);
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = chosen.iter().map(|row| row.id).collect();
    renew_of_other_eras(transaction, &ids, &mut chosen, clock).await?;
    let mut inputs = inputs(transaction, &ids).await?;
    let mut claimed = Vec::with_capacity(chosen.len());
    for mut row in chosen {
        row.record.claim(claim.node, now, limits);
        row.save(transaction, None).await?;
        let (input, checkpoint) = inputs
            .remove(&row.id)
            .ok_or_else(|| Error::internal("run_log.claim", "a run has no input"))?;
        let answer = row.record.claimed(claim.node, input, checkpoint);
        claimed.push((row, answer));
    }
    Ok(claimed)
}

/// Begins new lives of the logs that another server may have known more of: somebody may have seen what is gone.
async fn renew_of_other_eras(
    transaction: &Transaction<'_>,
    ids: &[i64],
    chosen: &mut [RunRow],
    clock: &dyn Clock,
) -> Result<()> {
    for other in transaction.query(OTHERS, &[&ids]).await? {
        let id: i64 = Columns::of(&other).value()?;
        if let Some(row) = chosen.iter_mut().find(|row| row.id == id) {
            row.renew_epoch(transaction, Epoch::new(clock)).await?;
        }
    }
    Ok(())
}

/// Drops the events of runs that ended long ago.
pub(super) async fn drop_old_histories(
    transaction: &Transaction<'_>,
    now: Timestamp,
    limits: &RunLimits,
) -> Result<()> {
    let ended = now.minus(limits.history_age).as_millis();
    let old = RunRow::all(transaction, OLD_HISTORIES, &[&ended, &int(SWEEP as u64)]).await?;
    for mut row in old {
        row.drop_history(transaction).await?;
    }
    Ok(())
}

/// A user's runs that have not ended, in the order in which they were put on record.
pub(super) async fn open_runs(
    transaction: &Transaction<'_>,
    users: &[Uuid],
) -> Result<HashMap<UserId, Vec<OpenRun>>> {
    let mut found: HashMap<UserId, Vec<OpenRun>> = HashMap::new();
    for row in &transaction.query(OPEN, &[&users]).await? {
        let mut columns = Columns::of(row);
        found.entry(columns.id(UserId::from_bytes)?).or_default().push(OpenRun {
            run: columns.id(RunId::from_bytes)?,
            thread: columns.id(ThreadId::from_bytes)?,
            queued: columns.named(RunState::from_name)? == RunState::Queued,
            placed: columns.value()?,
            child: columns.value()?,
        });
    }
    Ok(found)
}

/// Adds queued runs that have a place, the oldest first, until `chosen` holds `max`.
async fn queued_with_place(
    transaction: &Transaction<'_>,
    max: usize,
    limits: &RunLimits,
    chosen: &mut Vec<RunRow>,
) -> Result<()> {
    let mut after = 0_i64;
    let mut judged = BTreeSet::new();
    while chosen.len() < max {
        let rows = transaction.query(QUEUED, &[&after, &LOOK]).await?;
        let mut queued = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut columns = Columns::of(row);
            after = columns.value()?;
            queued.push((columns.value::<Uuid>()?, columns.value::<Uuid>()?));
        }
        // A user's places are judged once, with all of their runs.
        let new: BTreeSet<Uuid> =
            queued.iter().map(|(_, user)| *user).filter(|user| judged.insert(*user)).collect();
        let placed = with_places(transaction, new.into_iter().collect(), limits).await?;
        let runs: Vec<Uuid> = queued
            .iter()
            .map(|(run, _)| *run)
            .filter(|run| placed.contains(run))
            .take(max - chosen.len())
            .collect();
        if !runs.is_empty() {
            let params: [&(dyn ToSql + Sync); 1] = [&runs];
            chosen.extend(RunRow::all(transaction, CHOSEN, &params).await?);
        }
        if rows.len() < LOOK as usize {
            break;
        }
    }
    Ok(())
}

/// The runs of these users that have a place now. Their places are held until the end of the transaction.
async fn with_places(
    transaction: &Transaction<'_>,
    users: Vec<Uuid>,
    limits: &RunLimits,
) -> Result<BTreeSet<Uuid>> {
    if users.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = transaction.query(FREE_USERS, &[&users]).await?;
    let free: Vec<Uuid> = rows.iter().map(|row| Columns::of(row).value()).collect::<Result<_>>()?;
    let open = open_runs(transaction, &free).await?;
    let placed = open.values().flat_map(|open| with_place(open, limits));
    Ok(placed.map(|run| key(run.as_bytes())).collect())
}
