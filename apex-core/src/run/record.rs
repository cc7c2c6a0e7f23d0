use super::checkpoint::Checkpoint;
use super::log::{
    Append, Appended, Claimed, Lease, NewRun, Page, RunLimits, RunView, Signal, Signals, Started,
    recorded_scopes,
};
use super::snapshot::Snapshot;
use super::state::RunState;
use super::wakeup::Topic;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::event::{Envelope, Event, MAX_ENVELOPE, PROTOCOL_VERSION, Recorded};
use crate::id::{ApprovalId, BatchId, Epoch, FileId, NodeId, RequestId, RunId, ThreadId, UserId};
use crate::principal::{Principal, Scopes};

/// The most events that one batch holds.
const MAX_BATCH: usize = 1_024;

/// The largest checkpoint, in bytes.
const MAX_CHECKPOINT: usize = 16 * 1024 * 1024;

/// The most stopped steps and the most decisions that one run keeps.
const MAX_SIGNALS: usize = 1_024;

/// The most events after the folded snapshot that a view has to read.
const MAX_UNFOLDED: u64 = 256;

/// One run as every backend keeps it, and the rules by which it changes. A backend loads it, calls one of its
/// methods, and writes what came of it in the same transaction; so the rules are the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    pub(crate) run: RunId,
    pub(crate) thread: ThreadId,
    pub(crate) parent: Option<RunId>,
    pub(crate) user: UserId,
    pub(crate) scopes: Scopes,
    pub(crate) request: RequestId,
    pub(crate) digest: [u8; 32],
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) state: RunState,
    pub(crate) epoch: Epoch,
    pub(crate) fence: u64,
    pub(crate) attempt: u32,
    /// Who has the lease, run out or not.
    pub(crate) holder: Option<NodeId>,
    pub(crate) lease_until: Timestamp,
    /// Whether it takes up its thread and one of its user's places.
    pub(crate) placed: bool,
    pub(crate) head: u64,
    pub(crate) oldest: u64,
    /// The size of the events that are kept.
    pub(crate) bytes: u64,
    pub(crate) last_batch: Option<BatchId>,
    pub(crate) signals: Signals,
    /// Whether there are signals that no writer has been told of.
    pub(crate) unseen: bool,
    /// When it is queued again, should it only wait until then.
    pub(crate) wake_at: Option<Timestamp>,
}

/// What a run was asked; read at a claim only.
#[derive(Debug, Clone)]
pub(crate) struct RunInput {
    pub(crate) text: String,
    pub(crate) attachments: Vec<FileId>,
}

/// What is left to a backend after a record has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The state to enter into the user's inbox.
    pub(crate) inbox: Option<RunState>,
    /// Whom to wake after the commit.
    pub(crate) wakes: Vec<Topic>,
}

/// Whether and how a run can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimable {
    /// Not now.
    No,
    /// Without a place of its own: it is to be cancelled, or its parent has the place.
    AtOnce,
    /// When its thread and its user have a place.
    WithPlace,
    /// Its holder has lost it.
    Lost,
}

impl RunRecord {
    /// A run as it goes on record, with its first event. `begins` is the state that the event tells: running when
    /// the run can be claimed at once.
    pub(crate) fn start(
        principal: &Principal,
        new: &NewRun,
        begins: RunState,
        clock: &dyn Clock,
    ) -> Result<(Self, Recorded)> {
        let now = clock.now();
        let mut record = Self {
            run: new.run,
            thread: new.thread,
            parent: new.parent,
            user: principal.user(),
            scopes: recorded_scopes(principal),
            request: new.request,
            digest: new.digest,
            started_at: now,
            ended_at: None,
            state: RunState::Queued,
            epoch: Epoch::new(clock),
            fence: 0,
            attempt: 1,
            holder: None,
            lease_until: Timestamp::from_millis(0),
            placed: false,
            head: 1,
            oldest: 1,
            bytes: 0,
            last_batch: None,
            signals: Signals::default(),
            unseen: false,
            wake_at: None,
        };
        let first = Recorded::encode(&Envelope {
            v: PROTOCOL_VERSION,
            run: record.run,
            thread: record.thread,
            parent: record.parent,
            epoch: record.epoch,
            seq: Some(1),
            at: now,
            event: Event::RunStarted {
                request_id: new.request,
                state: begins,
                agents: new.agents.clone(),
                budget: new.budget,
                trace: new.trace,
            },
        })?;
        record.bytes = first.json.len() as u64;
        Ok((record, first))
    }

    /// What a start does besides.
    pub(crate) fn start_effects(&self, begins: RunState) -> Effects {
        Effects { inbox: Some(begins), wakes: vec![Topic::Work, Topic::Inbox(self.user)] }
    }

    /// The answer to a request that is on record already.
    pub(crate) fn started_before(&self, new: &NewRun) -> Result<Started> {
        if self.digest != new.digest {
            return Err(Error::new(
                Kind::Conflict,
                "run_log.start",
                "another message was sent under this request id; send a new message under a new id",
            )
            .with("request", new.request));
        }
        Ok(Started { run: self.run, thread: self.thread, created: false })
    }

    /// Whether a node may take it now.
    pub(crate) fn claimable(&self, now: Timestamp) -> Claimable {
        match (self.holder, self.state) {
            (_, state) if state.is_terminal() => Claimable::No,
            (Some(_), _) if self.lease_until <= now => Claimable::Lost,
            (Some(_), _) | (None, RunState::Waiting) => Claimable::No,
            (None, RunState::Queued) if self.parent.is_none() => Claimable::WithPlace,
            (None, _) => Claimable::AtOnce,
        }
    }

    /// Queues it again when it has waited as long as it was to; whether it did.
    pub(crate) fn wake(&mut self, now: Timestamp) -> bool {
        let due = self.state == RunState::Waiting && self.wake_at.is_some_and(|at| at <= now);
        if due {
            (self.state, self.wake_at) = (RunState::Queued, None);
        }
        due
    }

    /// Gives it to a node. Only a run that was lost begins a new attempt: one that waited was given back in order.
    pub(crate) fn claim(&mut self, node: NodeId, now: Timestamp, limits: &RunLimits) {
        self.fence += 1;
        if self.holder.is_some() {
            self.attempt += 1;
        }
        if self.state == RunState::Queued {
            self.state = RunState::Running;
            self.placed = self.parent.is_none();
        }
        self.holder = Some(node);
        self.lease_until = now.plus(limits.lease);
        self.unseen = false;
    }

    /// The answer to a claim, for a record that has just been claimed.
    pub(crate) fn claimed(
        &self,
        node: NodeId,
        input: RunInput,
        checkpoint: Option<Checkpoint>,
    ) -> Claimed {
        Claimed {
            lease: Lease {
                run: self.run,
                thread: self.thread,
                parent: self.parent,
                user: self.user,
                node,
                fence: self.fence,
                epoch: self.epoch,
                head: self.head,
            },
            principal: Principal::vouched(self.user, self.scopes),
            request: self.request,
            text: input.text,
            attachments: input.attachments,
            started_at: self.started_at,
            attempt: self.attempt,
            checkpoint,
            signals: self.signals.clone(),
        }
    }

    /// Takes a batch in; `None` when it is the one that was taken in last.
    pub(crate) fn append(
        &mut self,
        lease: &Lease,
        batch: &Append,
        now: Timestamp,
        limits: &RunLimits,
    ) -> Result<Option<Effects>> {
        if self.last_batch == Some(batch.batch) {
            return Ok(None);
        }
        self.check_lease(lease)?;
        if batch.after != self.head {
            return Err(Error::new(
                Kind::Conflict,
                "run_log.append",
                "the batch does not follow the log's head; claim the run again",
            )
            .with("run", self.run)
            .with("after", batch.after)
            .with("head", self.head));
        }
        check_batch(batch)?;
        let state = self.next_state(batch)?;
        self.signals.lapse(&batch.lapsed)?;
        let given_back = matches!(batch.transition, Some(RunState::Waiting | RunState::Queued));
        let released = given_back || state.is_terminal();
        let mut effects = Effects::default();
        if !batch.events.is_empty() || state != self.state {
            effects.wakes.push(Topic::Run(self.run));
        }
        if state.is_terminal() || (state == RunState::Waiting && self.state != state) {
            effects.inbox = Some(state);
            effects.wakes.push(Topic::Inbox(self.user));
        }
        if released {
            effects.wakes.push(Topic::Work);
            (self.holder, self.placed) = (None, false);
        } else {
            self.lease_until = now.plus(limits.lease);
        }
        if state.is_terminal() {
            self.ended_at = Some(now);
            effects.wakes.push(Topic::Ended(self.run));
        }
        self.state = state;
        self.wake_at = batch.wake_at.filter(|_| state == RunState::Waiting);
        self.head += batch.events.len() as u64;
        self.bytes += batch.events.iter().map(|event| event.json.len() as u64).sum::<u64>();
        self.last_batch = Some(batch.batch);
        self.unseen = false;
        Ok(Some(effects))
    }

    /// The answer to an append.
    pub(crate) fn appended(&self) -> Appended {
        Appended { head: self.head, epoch: self.epoch, signals: self.signals.clone() }
    }

    /// Notes a user's wish.
    pub(crate) fn signal(&mut self, by: UserId, signal: Signal) -> Result<Effects> {
        if self.state.is_terminal() {
            return Ok(Effects::default());
        }
        self.signals.note(by, signal)?;
        if self.signals.cancelled_by.is_some() {
            self.state = RunState::Cancelling;
        } else if self.state == RunState::Waiting {
            self.state = RunState::Queued;
        }
        self.wake_at = None;
        self.unseen = true;
        let mut effects = Effects::default();
        effects.wakes.push(Topic::Signals(self.run));
        if self.holder.is_none() {
            effects.wakes.push(Topic::Work);
        }
        Ok(effects)
    }

    /// How far the log is to be trimmed: the new oldest number and the bytes that stay. `sizes` are those of the
    /// events that are kept, oldest first. The last event always stays, so the outcome does.
    pub(crate) fn trim(&mut self, limits: &RunLimits, sizes: impl Iterator<Item = u64>) {
        for size in sizes {
            // Room for an eighth is made at once, so that a long log is not trimmed at every append.
            let few = self.head + 1 - self.oldest <= with_room(limits.history_events as u64);
            let small = self.bytes <= with_room(limits.history_bytes as u64);
            if (few && small) || self.oldest >= self.head {
                break;
            }
            self.oldest += 1;
            self.bytes = self.bytes.saturating_sub(size);
        }
    }

    /// Drops all events; for a run that ended long ago.
    pub(crate) fn drop_history(&mut self) {
        (self.oldest, self.bytes) = (self.head + 1, 0);
    }

    /// The run as its user sees it, from the kept snapshot and the events after it.
    pub(crate) fn view(&self, mut snapshot: Snapshot, unfolded: &[Recorded]) -> RunView {
        for event in unfolded {
            fold(&mut snapshot, event);
        }
        // Claims and signals change the state without an event.
        snapshot.state = self.state;
        let settled: Vec<ApprovalId> = self.signals.settled().collect();
        snapshot.approvals.retain(|open| !settled.contains(&open.approval));
        RunView {
            run: self.run,
            thread: self.thread,
            state: self.state,
            epoch: self.epoch,
            head: self.head,
            oldest: self.oldest,
            attempt: self.attempt,
            started_at: self.started_at,
            ended_at: self.ended_at,
            settled,
            snapshot,
        }
    }

    /// A page of its log.
    pub(crate) fn page(&self, events: Vec<Recorded>) -> Page {
        Page {
            epoch: self.epoch,
            events,
            head: self.head,
            oldest: self.oldest,
            ended: self.state.is_terminal(),
        }
    }

    /// Whether the log is past a limit and [`Self::trim`] has something to do.
    pub(crate) fn is_past_limits(&self, limits: &RunLimits) -> bool {
        self.head + 1 - self.oldest > limits.history_events as u64
            || self.bytes > limits.history_bytes as u64
    }

    /// Up to which number events are to be folded into the kept snapshot, if `folded` is no longer enough: all that
    /// are trimmed have to be, and a view should not have to read too many.
    pub(crate) fn fold_to(&self, folded: u64) -> Option<u64> {
        if self.head - folded > MAX_UNFOLDED {
            return Some(self.head);
        }
        // Everything that is no longer kept has to be in the snapshot.
        (self.oldest > folded + 1).then(|| self.oldest - 1)
    }

    fn check_lease(&self, lease: &Lease) -> Result<()> {
        let why = if self.state.is_terminal() {
            "the run has ended; nothing can be added to it"
        } else if self.fence != lease.fence || self.epoch != lease.epoch {
            "another node has taken this run over; this writer must stop"
        } else if self.holder.is_none() {
            "the run was given back; it must be claimed again"
        } else {
            return Ok(());
        };
        Err(fenced(lease, why).with("fence", self.fence))
    }

    fn next_state(&self, batch: &Append) -> Result<RunState> {
        let terminal = match batch.events.last() {
            Some(last) if last.terminal => last.event()?.terminal_state(),
            _ => None,
        };
        let asked = batch.transition.unwrap_or(self.state);
        match terminal {
            Some(state) if batch.transition == Some(state) => Ok(state),
            None if !asked.is_terminal() => Ok(match asked {
                // A cancel stays a cancel until the run has ended.
                _ if self.state == RunState::Cancelling => RunState::Cancelling,
                // What was asked in the meantime has to be looked at before the run can wait.
                RunState::Waiting if self.unseen => RunState::Queued,
                state => state,
            }),
            _ => Err(malformed("a terminal event and the change to its state go together")),
        }
    }
}

impl Signals {
    fn note(&mut self, by: UserId, signal: Signal) -> Result<()> {
        let full = |len: usize| -> Result<()> {
            if len < MAX_SIGNALS {
                return Ok(());
            }
            Err(Error::new(
                Kind::RateLimited,
                "run_log.signal",
                "too much was asked of this run; cancel it",
            ))
        };
        match signal {
            Signal::Cancel => {
                self.cancelled_by.get_or_insert(by);
            }
            Signal::Stop(step) if self.stopped.contains(&step) => {}
            Signal::Stop(step) => {
                full(self.stopped.len())?;
                self.stopped.push(step);
            }
            Signal::Decide { approval, decision, .. } => {
                if self.settled().any(|known| known == approval) {
                    return Err(Error::new(
                        Kind::Conflict,
                        "run_log.signal",
                        "this approval is decided already, or its time is over",
                    )
                    .with("approval", approval));
                }
                full(self.decided.len())?;
                self.decided.push((approval, decision, by));
            }
        }
        Ok(())
    }

    /// Notes that nobody decided these in time, but for those that somebody did.
    fn lapse(&mut self, approvals: &[ApprovalId]) -> Result<()> {
        for approval in approvals {
            if self.settled().any(|known| known == *approval) {
                continue;
            }
            if self.lapsed.len() >= MAX_SIGNALS {
                return Err(Error::new(Kind::TooLarge, "run_log.append", "too many approvals"));
            }
            self.lapsed.push(*approval);
        }
        Ok(())
    }

    /// The approvals that can no longer be decided.
    fn settled(&self) -> impl Iterator<Item = ApprovalId> {
        let decided = self.decided.iter().map(|(approval, ..)| *approval);
        decided.chain(self.lapsed.iter().copied())
    }
}

/// Goes on by one recorded event. One that this version does not know changes nothing.
pub(crate) fn fold(snapshot: &mut Snapshot, event: &Recorded) {
    match event.event() {
        Ok(event) => snapshot.apply(&event),
        Err(error) => {
            tracing::warn!(seq = event.seq, %error, "an event was left out of a snapshot");
        }
    }
}

/// The refusal of a writer that no longer has the run.
pub(crate) fn fenced(lease: &Lease, why: &'static str) -> Error {
    Error::new(Kind::Fenced, "run_log.append", why)
        .with("run", lease.run)
        .with("lease", lease.fence)
}

/// Passes for events that are numbered without holes and not too large.
pub(crate) fn check_batch(batch: &Append) -> Result<()> {
    let checkpoint = batch.checkpoint.as_ref().map_or(0, |c| c.state.len());
    if checkpoint > MAX_CHECKPOINT {
        return Err(Error::new(
            Kind::TooLarge,
            "run_log.append",
            "the run's saved state is too large; keep large values as artifacts",
        )
        .with("bytes", checkpoint)
        .with("limit", MAX_CHECKPOINT));
    }
    if batch.events.len() > MAX_BATCH {
        return Err(Error::new(Kind::TooLarge, "run_log.append", "too many events in one batch")
            .with("events", batch.events.len())
            .with("limit", MAX_BATCH));
    }
    let last = batch.events.len().saturating_sub(1);
    for (place, event) in batch.events.iter().enumerate() {
        if event.seq != batch.after + 1 + place as u64 {
            return Err(malformed("the events are not numbered without holes"));
        }
        if event.terminal && place != last {
            return Err(malformed("something follows a terminal event"));
        }
        if event.json.len() > MAX_ENVELOPE {
            return Err(malformed("an event is larger than an envelope may be"));
        }
    }
    Ok(())
}

fn malformed(what: &'static str) -> Error {
    Error::new(Kind::BadRequest, "run_log.append", what)
}

fn with_room(limit: u64) -> u64 {
    limit - limit / 8
}
