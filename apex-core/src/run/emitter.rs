use super::checkpoint::Checkpoint;
use super::live::Live;
use super::log::{Append, Appended, Lease, RunLog, Signals};
use super::state::RunState;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Outcome, Result};
use crate::event::{Envelope, Event, PROTOCOL_VERSION, Recorded};
use crate::id::{ApprovalId, BatchId};
use std::sync::Arc;
use std::time::Duration;

/// Writes one run's events: numbers and encodes them, appends them under the run's lease, and repeats an append
/// whose answer was lost under the same batch id, so that it takes effect once.
#[derive(Debug)]
pub struct Emitter {
    log: Arc<dyn RunLog>,
    clock: Arc<dyn Clock>,
    live: Live,
    lease: Lease,
    head: u64,
}

/// How often an append is tried while the store is away; together less than the time after which a holder gives up
/// its lease.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Emitter {
    /// An emitter for a run that this node has claimed.
    #[must_use]
    pub fn new(log: Arc<dyn RunLog>, clock: Arc<dyn Clock>, live: Live, lease: Lease) -> Self {
        let head = lease.head;
        Self { log, clock, live, lease, head }
    }

    /// The lease that it writes under.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The last number written.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Records events, a checkpoint and a change of state, all or nothing, and returns what users asked of the run.
    /// Without any of them it only renews the lease.
    ///
    /// # Errors
    /// `fenced` when another node has the run: this writer must stop. `too_large` for an event past the limit; then
    /// nothing was written.
    pub async fn append(
        &mut self,
        events: Vec<Event>,
        checkpoint: Option<Checkpoint>,
        transition: Option<RunState>,
    ) -> Result<Signals> {
        let mut recorded = Vec::with_capacity(events.len());
        for (place, event) in (self.head + 1..).zip(events) {
            recorded.push(Recorded::encode(&self.envelope(Some(place), event))?);
        }
        self.add(Append { events: recorded, checkpoint, transition, ..self.batch() }).await
    }

    /// Gives the run up until somebody asks something of it, or until `wake_at`.
    ///
    /// # Errors
    /// As [`Emitter::append`].
    pub async fn wait(&mut self, checkpoint: Checkpoint, wake_at: Option<Timestamp>) -> Result<()> {
        let (checkpoint, transition) = (Some(checkpoint), Some(RunState::Waiting));
        self.add(Append { checkpoint, transition, wake_at, ..self.batch() }).await.map(drop)
    }

    /// Says that the time of these approvals is over; what is returned tells which of them were decided after all.
    ///
    /// # Errors
    /// As [`Emitter::append`].
    pub async fn lapse(&mut self, approvals: Vec<ApprovalId>) -> Result<Signals> {
        self.add(Append { lapsed: approvals, ..self.batch() }).await
    }

    /// Shows a volatile event to those who watch right now. One that is too large is dropped.
    pub fn show(&self, event: Event) {
        if !self.live.is_watched(self.lease.run) {
            return;
        }
        match Recorded::encode(&self.envelope(None, event)) {
            Ok(shown) => self.live.show(self.lease.run, Recorded { seq: self.head, ..shown }),
            Err(error) => {
                tracing::debug!(run = %self.lease.run, %error, "a volatile event was dropped")
            }
        }
    }

    fn envelope(&self, seq: Option<u64>, event: Event) -> Envelope {
        Envelope {
            v: PROTOCOL_VERSION,
            run: self.lease.run,
            thread: self.lease.thread,
            parent: self.lease.parent,
            epoch: self.lease.epoch,
            seq,
            at: self.clock.now(),
            event,
        }
    }

    /// A batch with nothing in it.
    fn batch(&self) -> Append {
        Append {
            batch: BatchId::new(&*self.clock),
            after: self.head,
            events: Vec::new(),
            checkpoint: None,
            transition: None,
            wake_at: None,
            lapsed: Vec::new(),
        }
    }

    async fn add(&mut self, batch: Append) -> Result<Signals> {
        let Appended { head, epoch, signals } = self.append_once(batch).await?;
        self.head = head;
        self.lease.epoch = epoch;
        Ok(signals)
    }

    async fn append_once(&self, batch: Append) -> Result<Appended> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.log.append(&self.lease, batch.clone()).await {
                Err(error) if may_pass(&error) => {
                    tracing::warn!(run = %self.lease.run, %error, "an append is repeated");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
        self.log.append(&self.lease, batch).await
    }
}

fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::PoolExhausted)
        || error.outcome() == Outcome::Unknown
}
