//! Writing: to Redis, to the database and then to Redis, or to the database alone while Redis is away.

use super::RedisRunLog;
use super::life::Life;
use super::streams::{Answer, Of, TakenIn, Told, Why};
use crate::error::{Error, Kind, Result};
use crate::event::Recorded;
use crate::id::{BatchId, Epoch};
use crate::principal::{Principal, Scope, Scopes};
use crate::run::ledger::Stand;
use crate::run::record::{check_batch, fenced};
use crate::run::{Append, Appended, Lease, RunState, Signals, Topic};

/// So often a log that is not as its writer knows it is brought in order for one append.
const TURNS: usize = 3;

/// What is found of a writer that this process does not know.
enum Found {
    /// It may write.
    Writer(Box<Life>),
    /// Its batch was taken in before.
    Before(Appended),
}

impl RedisRunLog {
    pub(super) async fn write(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let slot = self.lives.slot(lease.run);
        let mut slot = slot.lock().await;
        if slot.as_ref().is_none_or(|life| life.fence != lease.fence) {
            match self.adopt(lease, &batch).await? {
                Found::Before(appended) => return Ok(appended),
                Found::Writer(life) => *slot = Some(*life),
            }
        }
        let Some(life) = slot.as_mut() else {
            return Err(Error::internal("run_log.append", "the writer is not known"));
        };
        if life.last == Some(batch.batch) {
            return self.again(life, lease).await;
        }
        if batch.after != life.head {
            return Err(conflict(lease, batch.after, life.head));
        }
        check_batch(&batch)?;
        let plain =
            life.may_pass(&batch, self.clock.now(), &self.limits) && !life.is_beyond(&batch);
        let gives_up = batch.transition.is_some_and(|state| state != RunState::Running);
        let appended = if plain && !self.away.is_away() {
            self.record(life, lease, batch).await
        } else {
            self.settle(life, lease, batch).await
        };
        let over = match &appended {
            // Whether it still has the lease only the database knows.
            Ok(_) => gives_up,
            Err(error) => matches!(error.kind(), Kind::Fenced | Kind::Conflict),
        };
        if over {
            *slot = None;
            self.lives.forget(lease.run);
        }
        appended
    }

    /// The answer to a batch that was taken in last.
    async fn again(&self, life: &Life, lease: &Lease) -> Result<Appended> {
        let stand = self.ledger()?.stand(lease.run).await?;
        let stand = stand.ok_or_else(|| fenced(lease, "the run is no longer on record"))?;
        Ok(Appended { head: life.head, epoch: life.epoch, signals: stand.signals })
    }

    /// Records a batch in Redis alone.
    async fn record(&self, life: &mut Life, lease: &Lease, batch: Append) -> Result<Appended> {
        for _ in 0..TURNS {
            let batch = in_life(&batch, lease.epoch, life.epoch)?;
            let told = life.for_redis(&batch);
            match self.tell(life, lease, &batch, &told, true).await {
                Ok(Answer::Done(TakenIn { asked, .. })) => {
                    life.take_in(&batch);
                    life.checkpoint_is_there(true);
                    self.wakeup.wake_here(Topic::Run(lease.run));
                    let signals = self.heed(life, lease, asked).await;
                    return Ok(Appended { head: life.head, epoch: life.epoch, signals });
                }
                Ok(Answer::Not(why)) => {
                    self.restore(life, lease, why).await?;
                    if batch.after != life.head {
                        return Err(conflict(lease, batch.after, life.head));
                    }
                }
                Err(error) => {
                    tracing::debug!(run = %lease.run, %error, "an append goes to the database");
                    self.away.note();
                    break;
                }
            }
        }
        self.settle(life, lease, batch).await
    }

    /// Records a batch in the database, and then in Redis where that is there.
    async fn settle(&self, life: &mut Life, lease: &Lease, batch: Append) -> Result<Appended> {
        self.prepare(life, lease, batch.batch).await?;
        if batch.after != life.head {
            return Err(conflict(lease, batch.after, life.head));
        }
        let batch = in_life(&batch, lease.epoch, life.epoch)?;
        let told = life.for_redis(&batch);
        let appended = self.save(life, lease, &batch).await?;
        if !self.away.is_away() {
            match self.tell(life, lease, &batch, &told, false).await {
                Ok(Answer::Done(_)) => life.checkpoint_is_there(true),
                // The next append finds the same, or the next writer.
                Ok(Answer::Not(why)) => {
                    tracing::debug!(run = %lease.run, ?why, "Redis does not follow the database");
                }
                Err(error) => {
                    tracing::debug!(run = %lease.run, %error, "Redis is away");
                    self.away.note();
                }
            }
        }
        Ok(appended)
    }

    /// Looks, before the database is told, whether the log in Redis is whole.
    async fn prepare(&self, life: &mut Life, lease: &Lease, batch: BatchId) -> Result<()> {
        for _ in 0..TURNS {
            if self.away.is_away() {
                return Ok(());
            }
            match self.streams.check(of(life, lease), life.head, batch).await {
                Ok(Answer::Done(_)) => return Ok(()),
                Ok(Answer::Not(why)) => self.restore(life, lease, why).await?,
                Err(error) => {
                    tracing::debug!(run = %lease.run, %error, "Redis is away");
                    self.away.note();
                }
            }
        }
        Ok(())
    }

    /// Tells the database of a batch, and of everything before it, with the newest checkpoint: a log whose head is no
    /// further in Redis is taken up where the database says.
    async fn save(&self, life: &mut Life, lease: &Lease, batch: &Append) -> Result<Appended> {
        let lease = Lease { epoch: life.epoch, ..lease.clone() };
        let now = self.clock.now();
        let told = Append { checkpoint: life.for_database(batch), ..batch.clone() };
        let appended = if life.head > life.saved {
            let past = life.past();
            self.ledger()?.append_past(&lease, past, told).await?
        } else {
            self.runs.append(&lease, told).await?
        };
        life.take_in(batch);
        life.is_saved(now);
        life.checkpoint_is_saved();
        life.signals = appended.signals.clone();
        Ok(appended)
    }

    /// Tells Redis of a batch, with the newest checkpoint where that is not there.
    async fn tell(
        &self,
        life: &Life,
        lease: &Lease,
        batch: &Append,
        checkpoint: &Told,
        wakes: bool,
    ) -> Result<Answer<TakenIn>> {
        // What the database was told has woken everyone.
        let wake = wakes.then(|| self.wakeup.message(Topic::Run(lease.run)));
        self.streams.append(of(life, lease), batch, checkpoint, wake).await
    }

    /// What users asked of the run; it is looked at when something was.
    async fn heed(&self, life: &mut Life, lease: &Lease, asked: u64) -> Signals {
        if life.asked != Some(asked) {
            let look = Append {
                batch: BatchId::new(&*self.clock),
                after: life.head,
                events: Vec::new(),
                checkpoint: None,
                transition: None,
                wake_at: None,
                lapsed: Vec::new(),
            };
            let last = life.last;
            match self.save(life, lease, &look).await {
                Ok(_) => life.asked = Some(asked),
                // The batch is recorded; the next append asks again.
                Err(error) => tracing::debug!(run = %lease.run, %error, "signals come late"),
            }
            life.last = last;
        }
        life.signals.clone()
    }

    /// Brings a log in order that is not as its writer knows it: adds what is missing where the database has it, or
    /// begins a new life after the writer's head.
    async fn restore(&self, life: &mut Life, lease: &Lease, why: Why) -> Result<()> {
        let owner = owner(lease);
        let of = of(life, lease);
        let found = match why {
            Why::Head(head) if head > life.head => {
                return Err(conflict(lease, life.head, head));
            }
            Why::Head(head) if life.head == life.saved => {
                if self.fill(&owner, of, head, life.head, life.last).await? {
                    return Ok(());
                }
                life.epoch.to_string()
            }
            Why::Short => {
                life.checkpoint_is_there(false);
                return Ok(());
            }
            Why::Gone => {
                life.checkpoint_is_there(false);
                let complete = life.head == life.saved && self.is_complete(&owner, lease).await?;
                if complete && self.plant(&owner, of, "").await? {
                    return Ok(());
                }
                String::new()
            }
            Why::Epoch(found) => found,
            Why::Head(_) | Why::Fenced | Why::Behind | Why::Ended => life.epoch.to_string(),
        };
        let stand = self.renew(life, lease).await?;
        life.epoch = stand.epoch;
        (life.head, life.saved) = (stand.head, stand.head);
        life.checkpoint_is_there(false);
        self.plant(&owner, Of { epoch: life.epoch, ..of }, &found).await.map(drop)
    }

    /// Makes a new epoch in the database, after what this writer knows.
    async fn renew(&self, life: &mut Life, lease: &Lease) -> Result<Stand> {
        let mut known = life.epoch;
        for _ in 0..TURNS {
            let epoch = Epoch::new(&*self.clock);
            let past = life.past();
            let renewed = self.ledger()?.renew(lease.run, (known, life.fence), epoch, past).await?;
            let stand = renewed.ok_or_else(|| fenced(lease, "the run is no longer on record"))?;
            if stand.fence != life.fence || !stand.held {
                return Err(fenced(lease, "another node has taken this run over"));
            }
            // A reader may have made one, which this writer goes on in where it does not know more.
            if stand.epoch == epoch || (stand.epoch != life.epoch && stand.head == life.head) {
                tracing::warn!(run = %lease.run, head = stand.head, "a log begins a new life");
                metrics::counter!("apex_redis_logs_renewed_total").increment(1);
                return Ok(stand);
            }
            known = stand.epoch;
        }
        Err(Error::new(
            Kind::Unavailable,
            "run_log.append",
            "the log of this run cannot be brought in order now; try again",
        )
        .with("run", lease.run))
    }

    /// Whether the database has all of a log.
    async fn is_complete(&self, owner: &Principal, lease: &Lease) -> Result<bool> {
        let (page, _) = self.ledger()?.page(owner, lease.run, u64::MAX, 0).await?;
        Ok(page.oldest == 1)
    }

    /// A writer that this process does not know: it may have the lease from elsewhere, or have lost it.
    async fn adopt(&self, lease: &Lease, batch: &Append) -> Result<Found> {
        let stand = self.ledger()?.stand(lease.run).await?;
        let stand = stand.ok_or_else(|| fenced(lease, "the run is no longer on record"))?;
        let there = Of { run: lease.run, epoch: stand.epoch, fence: lease.fence };
        // A head that no log has: so only the same batch again passes.
        let check = self.streams.check(there, u64::MAX, batch.batch).await;
        let known = match &check {
            Ok(Answer::Done(before)) => Some(before.head.max(stand.head)),
            // Something came after what the database knows.
            Ok(Answer::Not(Why::Head(head))) if *head > stand.head => None,
            Ok(Answer::Not(Why::Fenced | Why::Ended)) => None,
            _ => stand.last_batch.filter(|last| *last == batch.batch).map(|_| stand.head),
        };
        if let Some(head) = known {
            let (epoch, signals) = (stand.epoch, stand.signals);
            return Ok(Found::Before(Appended { head, epoch, signals }));
        }
        if stand.fence != lease.fence || !stand.held {
            let why = "another node has taken this run over, or it was given back or has ended";
            return Err(fenced(lease, why).with("fence", stand.fence));
        }
        let owner = owner(lease);
        let checkpoint = self.mend(&owner, lease.run, false).await?;
        let view = self.view_of(&owner, lease.run).await?;
        let mut life = Life::new(lease.fence, view.epoch, view.head, view.snapshot);
        life.saved = self.saved(lease.run).await?.min(view.head);
        life.knows(checkpoint.as_ref(), checkpoint.is_none());
        life.signals = stand.signals;
        Ok(Found::Writer(Box::new(life)))
    }
}

fn of(life: &Life, lease: &Lease) -> Of {
    Of { run: lease.run, epoch: life.epoch, fence: life.fence }
}

/// The owner of the run that a lease is for.
fn owner(lease: &Lease) -> Principal {
    Principal::vouched(lease.user, Scopes::USER.with(Scope::Read))
}

/// A batch as it is written in the life that the log has now.
fn in_life(batch: &Append, written: Epoch, now: Epoch) -> Result<Append> {
    let mut batch = batch.clone();
    if written != now {
        for event in &mut batch.events {
            let mut envelope = event.decode()?;
            envelope.epoch = now;
            *event = Recorded::encode(&envelope)?;
        }
    }
    Ok(batch)
}

fn conflict(lease: &Lease, after: u64, head: u64) -> Error {
    Error::new(
        Kind::Conflict,
        "run_log.append",
        "the batch does not follow the log's head; claim the run again",
    )
    .with("run", lease.run)
    .with("after", after)
    .with("head", head)
}
