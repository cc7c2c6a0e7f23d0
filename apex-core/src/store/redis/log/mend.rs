//! Taking a log over, and what there is to do where it is not whole.

use super::RedisRunLog;
use super::life::Life;
use super::streams::{Answer, Of, Seed, Taken, Told, Why};
use crate::error::{Error, Kind, Result};
use crate::event::Recorded;
use crate::id::{BatchId, Epoch, RunId};
use crate::principal::Principal;
use crate::run::ledger::Past;
use crate::run::record::fold;
use crate::run::{Append, Checkpoint, Claimed, Lease, Page, RunState, Snapshot};
use crate::store::PAGE_ITEMS;

/// So often a log is taken that changes meanwhile.
const TURNS: usize = 4;

impl RedisRunLog {
    /// Takes over the log of a run that was claimed in the database.
    pub(super) async fn begin(&self, mut claimed: Claimed) -> Result<Claimed> {
        let (run, fence) = (claimed.lease.run, claimed.lease.fence);
        let checkpoint = self.mend(&claimed.principal, run, true).await?;
        let view = self.view_of(&claimed.principal, run).await?;
        (claimed.lease.epoch, claimed.lease.head) = (view.epoch, view.head);
        let mut life = Life::new(fence, view.epoch, view.head, view.snapshot);
        life.saved_at = self.clock.now();
        let is_saved = checkpoint.is_none();
        claimed.checkpoint = checkpoint.or(claimed.checkpoint);
        life.knows(claimed.checkpoint.as_ref(), is_saved);
        // What the log has beyond the database is told with the next word to it.
        life.saved = self.saved(run).await?.min(life.head);
        life.signals = claimed.signals.clone();
        self.seen.note(run, view.epoch, view.head);
        *self.lives.slot(run).lock().await = Some(life);
        Ok(claimed)
    }

    /// Gives a run back whose log could not be taken over.
    pub(super) async fn give_back(&self, lease: &Lease) {
        let batch = Append {
            batch: BatchId::new(&*self.clock),
            after: lease.head,
            events: Vec::new(),
            checkpoint: None,
            transition: Some(RunState::Queued),
            wake_at: None,
            lapsed: Vec::new(),
        };
        if let Err(error) = self.runs.append(lease, batch).await {
            tracing::warn!(run = %lease.run, %error, "a run waits until its lease has run out");
        }
    }

    /// Brings a log in order: notes the fence that the database knows, adds what only the database has, or makes a new
    /// life of one that has lost something. The checkpoint that is newer than the database's, if there is one.
    pub(super) async fn mend(
        &self,
        principal: &Principal,
        run: RunId,
        claiming: bool,
    ) -> Result<Option<Checkpoint>> {
        for turn in 0..TURNS {
            let seen = self.seen.of(run);
            let (page, fence) = self.ledger()?.page(principal, run, u64::MAX, 0).await?;
            let of = Of { run, epoch: page.epoch, fence };
            let seen = seen.head(page.epoch);
            let (found, rest) = match self.streams.take(of).await? {
                Answer::Done(taken) => {
                    let whole = taken.head + 1 >= page.oldest && taken.head.max(page.head) >= seen;
                    if whole && taken.doubtful.is_none() {
                        let newer = taken.head > page.head;
                        self.fill(principal, of, taken.head, page.head, None).await?;
                        return Ok(taken.checkpoint.filter(|_| newer));
                    }
                    (of.epoch.to_string(), Some(taken))
                }
                Answer::Not(Why::Gone) if claiming && fence == 1 => {
                    // The first claim: all of the log is in the database.
                    self.plant(principal, of, "").await?;
                    return Ok(None);
                }
                Answer::Not(Why::Gone) => (String::new(), None),
                Answer::Not(Why::Epoch(found)) => (found, None),
                // A claim that came between the two looks, unless the database has lost it.
                Answer::Not(_) if turn == 0 => continue,
                Answer::Not(_) => (of.epoch.to_string(), None),
            };
            let (past, checkpoint) = self.rest(principal, of, &page, rest, seen).await?;
            let epoch = Epoch::new(&*self.clock);
            let renewed = self.ledger()?.renew(run, (of.epoch, fence), epoch, past).await?;
            let stand = renewed.ok_or_else(|| Error::not_found("run_log.read", "run"))?;
            if stand.epoch != epoch {
                continue;
            }
            tracing::warn!(%run, head = stand.head, "a log has lost events and begins a new life");
            metrics::counter!("apex_redis_logs_renewed_total").increment(1);
            if !page.ended {
                self.plant(principal, Of { epoch, ..of }, &found).await?;
            }
            return Ok(checkpoint);
        }
        Err(Error::new(
            Kind::Unavailable,
            "run_log.read",
            "the log of this run cannot be brought in order now; try again",
        )
        .with("run", run))
    }

    /// What is left of a log that has lost something, and the newest checkpoint that goes with it.
    async fn rest(
        &self,
        principal: &Principal,
        of: Of,
        page: &Page,
        taken: Option<Taken>,
        seen: u64,
    ) -> Result<(Past, Option<Checkpoint>)> {
        let least = page.head.max(seen);
        let Some(taken) = taken.filter(|taken| taken.head > page.head) else {
            return Ok((Past { head: least, snapshot: None }, None));
        };
        // What Redis has is the beginning of what it had, and further than what the database knows.
        let view = self.runs.view(principal, of.run).await?;
        let (mut snapshot, mut cursor): (Snapshot, u64) = (view.snapshot, view.head);
        let there = Of { fence: taken.doubtful.unwrap_or(of.fence), ..of };
        while cursor < taken.head {
            match self.streams.read(there, cursor, PAGE_ITEMS).await? {
                Answer::Done(found) if !found.events.is_empty() => {
                    for event in &found.events {
                        fold(&mut snapshot, event);
                        cursor = event.seq;
                    }
                }
                _ => return Ok((Past { head: least, snapshot: None }, None)),
            }
        }
        Ok((Past { head: least.max(cursor), snapshot: Some(snapshot) }, taken.checkpoint))
    }

    /// Begins a life of a log with what the database keeps of it, in place of the one that was found. Where another one
    /// is there by now, it stays. `false` where the database has more than goes at once.
    pub(super) async fn plant(&self, principal: &Principal, of: Of, found: &str) -> Result<bool> {
        let page = self.ledger()?.page(principal, of.run, 0, PAGE_ITEMS).await?.0;
        let whole = page.events.last().map_or(page.oldest, |last| last.seq + 1) == page.head + 1;
        if page.epoch != of.epoch || !whole {
            return Ok(false);
        }
        let seed = Seed { head: page.head, oldest: page.oldest, events: &page.events };
        if let Answer::Not(why) = self.streams.plant(of, found, seed).await? {
            tracing::debug!(run = %of.run, ?why, "another life of a log has begun already");
        }
        Ok(true)
    }

    /// Adds to a log what only the database has of it; whether it goes up to `to` then.
    pub(super) async fn fill(
        &self,
        principal: &Principal,
        of: Of,
        head: u64,
        to: u64,
        last: Option<BatchId>,
    ) -> Result<bool> {
        let mut head = head;
        while head < to {
            let (page, _) = self.ledger()?.page(principal, of.run, head, PAGE_ITEMS).await?;
            let follows = page.events.first().is_some_and(|first| first.seq == head + 1);
            if page.epoch != of.epoch || !follows {
                return Ok(false);
            }
            let events: Vec<Recorded> = page.events;
            let reached = head + events.len() as u64;
            let batch = Append {
                batch: last.filter(|_| reached >= to).unwrap_or_else(|| BatchId::new(&*self.clock)),
                after: head,
                events,
                checkpoint: None,
                transition: None,
                wake_at: None,
                lapsed: Vec::new(),
            };
            match self.streams.append(of, &batch, &Told::Nothing, None).await? {
                Answer::Done(_) => head = reached,
                Answer::Not(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The last number that the database knows.
    pub(super) async fn saved(&self, run: RunId) -> Result<u64> {
        let stand = self.ledger()?.stand(run).await?;
        Ok(stand.map_or(0, |stand| stand.head))
    }
}
