use super::checkpoint::Checkpoint;
use super::ledger::Ledger;
use super::snapshot::Snapshot;
use super::state::RunState;
use crate::clock::Timestamp;
use crate::config::{HumanDuration, Section, duration};
use crate::error::Result;
use crate::event::{Decision, Recorded, RunBudget};
use crate::id::{
    ApprovalId, BatchId, Epoch, FileId, NodeId, RequestId, RunId, StepId, ThreadId, UserId,
};
use crate::principal::{Principal, Scope, Scopes};
use crate::trace::TraceParent;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The one seam that owns runs, leases, fences, checkpoints, events, idempotency and inboxes, so that what belongs
/// together is one transaction in one backend.
///
/// Reading and signalling take a [`Principal`] and answer `not_found` for whatever is not that user's. Writing
/// takes a [`Lease`], which only [`RunLog::claim`] gives out. The views and events of a run are read by those with whom
/// its owner shares its conversation, too (see [`ThreadStore`](crate::thread::ThreadStore)). Reading needs the scope
/// `read`, starting, deciding and forgetting `run`, cancelling and stopping `cancel`; without it, `forbidden`.
#[async_trait]
pub trait RunLog: fmt::Debug + Send + Sync {
    /// Puts a run on record as queued, with its first event and its entry in the user's inbox, in one transaction.
    /// The same request again gives the run that is there.
    ///
    /// # Errors
    /// `conflict` for other content under the same request id; `too_many_runs` past the user's queue.
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started>;

    /// The run that this request began, when it is on record; `None` also where a log cannot tell.
    ///
    /// # Errors
    /// `conflict` for other content under the same request id.
    async fn begun(&self, _principal: &Principal, _run: &NewRun) -> Result<Option<Started>> {
        Ok(None)
    }

    /// Gives this node up to `claim.max` runs to work on: queued ones whose thread and user have a place free
    /// (oldest first), then ones whose lease has run out or whose holder is known to be dead. Runs that nobody has
    /// and that are to be cancelled come first and need no place; a run with a parent uses its parent's. One that
    /// waits until a time that has come is queued before that. Each claim
    /// raises the run's fence and, when its holder had lost it, its attempt. Also drops histories that are past
    /// their age.
    ///
    /// # Errors
    /// `storage_failed`, `unavailable`.
    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>>;

    /// Appends events, saves a checkpoint and changes the run's state, all or nothing. The same batch again is
    /// answered as the first time. A terminal event releases the lease and frees the user's place; so does a change
    /// to waiting, or back to queued by a node that gives the run up in order. Any other batch, also an empty one,
    /// extends the lease. What users asked before the run could wait makes it queued instead.
    ///
    /// # Errors
    /// `fenced` when the lease is no longer this writer's or the run has ended; `conflict` when `after` is not the
    /// log's head; `bad_request` for events that are not numbered without holes or do not fit the change of state, and
    /// for a checkpoint that goes on where none is kept; `too_large` for more than 1,024 events or a checkpoint past 16 MiB.
    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended>;

    /// How many runs wait for a place, of all users; `None` where this log does not count them.
    ///
    /// # Errors
    /// `storage_failed`, `unavailable`.
    async fn queued(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Records a user's wish about a run and wakes its writer. A queued or waiting run that is cancelled becomes
    /// claimable at once; one that waits and is told anything else, as soon as it has a place. On a run that has
    /// ended it does nothing.
    ///
    /// # Errors
    /// `not_found`; `conflict` for an approval that is decided already; `rate_limited` when too much was asked.
    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState>;

    /// What a run is and where it stands.
    ///
    /// # Errors
    /// `not_found`.
    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView>;

    /// Recorded events after `after`, oldest first, at most `max` and about 256 KiB of them.
    ///
    /// # Errors
    /// `not_found`.
    async fn read(&self, principal: &Principal, run: RunId, after: u64, max: usize)
    -> Result<Page>;

    /// The user's inbox after `after`, oldest first.
    ///
    /// # Errors
    /// `storage_failed`, `unavailable`.
    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage>;

    /// Deletes the runs of a conversation, with their logs and request ids.
    ///
    /// # Errors
    /// `conflict` while one of them has not ended.
    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>>;

    /// What it takes to keep the events elsewhere; only the databases of this crate have it.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "only this crate implements and calls it")]
    fn ledger(&self) -> Option<&dyn Ledger> {
        None
    }
}

/// A run to be put on record.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id, made by the caller.
    pub run: RunId,
    /// The client's id of the message.
    pub request: RequestId,
    /// A digest of the message's content, to tell the same message from another one under the same id.
    pub digest: [u8; 32],
    /// The conversation.
    pub thread: ThreadId,
    /// The run that starts this one.
    pub parent: Option<RunId>,
    /// The words of the message.
    pub text: String,
    /// The files that belong to it.
    pub attachments: Vec<FileId>,
    /// The agents that it may use, for its first event.
    pub agents: Vec<String>,
    /// What it may use, for its first event.
    pub budget: Option<RunBudget>,
    /// The place in a trace from which it is asked for, for its first event.
    pub trace: Option<TraceParent>,
}

/// A run that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run; an earlier one when the request was known.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// Whether this call made it.
    pub created: bool,
}

/// What a node asks for when it looks for work.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// How many runs it can take.
    pub max: usize,
}

/// A run that this node is to work on.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to write.
    pub lease: Lease,
    /// The owner, as recorded at the start; all work is done in this name.
    pub principal: Principal,
    /// The client's id of the message.
    pub request: RequestId,
    /// The words of the message.
    pub text: String,
    /// The files that belong to it.
    pub attachments: Vec<FileId>,
    /// When the run was put on record.
    pub started_at: Timestamp,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Where the last attempt got to.
    pub checkpoint: Option<Checkpoint>,
    /// What users have asked of it so far.
    pub signals: Signals,
}

/// The right to write to one run's log, until it runs out or a higher fence exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// The run that started it.
    pub parent: Option<RunId>,
    /// Its owner.
    pub user: UserId,
    /// The node that holds it.
    pub node: NodeId,
    /// The fencing number; the store refuses lower ones.
    pub fence: u64,
    /// The life of the log.
    pub epoch: Epoch,
    /// The last sequence number when the lease was given.
    pub head: u64,
}

/// What is appended in one transaction.
#[derive(Debug, Clone)]
pub struct Append {
    /// The batch's id, made by the caller.
    pub batch: BatchId,
    /// The head that the writer knows; the first event has the next number.
    pub after: u64,
    /// The events, encoded, numbered without holes.
    pub events: Vec<Recorded>,
    /// The state to resume from.
    pub checkpoint: Option<Checkpoint>,
    /// The state that the run changes to; a terminal event needs its own.
    pub transition: Option<RunState>,
    /// When a run that changes to waiting is queued again although nobody asked anything of it.
    pub wake_at: Option<Timestamp>,
    /// Approvals whose time is over: those that nobody has decided by now have lapsed, and cannot be decided any more.
    pub lapsed: Vec<ApprovalId>,
}

/// The answer to an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The log's last number now.
    pub head: u64,
    /// The life of the log, which may be a new one: the next events are written in it.
    pub epoch: Epoch,
    /// What users asked of the run so far.
    pub signals: Signals,
}

/// Who asked for something.
pub type By = UserId;

/// A user's wish about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Stop the run.
    Cancel,
    /// Stop one step.
    Stop(StepId),
    /// Decide an approval.
    Decide {
        /// Which.
        approval: ApprovalId,
        /// The digest of the call that the user saw.
        digest: String,
        /// What is decided.
        decision: Decision,
    },
}

/// Everything that users asked of a run so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Who cancelled it, if someone did.
    pub cancelled_by: Option<By>,
    /// The steps to stop.
    pub stopped: Vec<StepId>,
    /// The decisions made, the first for each approval.
    pub decided: Vec<(ApprovalId, Decision, By)>,
    /// The approvals that nobody decided in time.
    #[serde(default)]
    pub lapsed: Vec<ApprovalId>,
}

/// What a run is and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// Its state.
    pub state: RunState,
    /// The life of its log.
    pub epoch: Epoch,
    /// The log's last number; 0 for none.
    pub head: u64,
    /// The oldest number that is still there; `head + 1` when none is.
    pub oldest: u64,
    /// Which attempt is under way, from 1.
    pub attempt: u32,
    /// When it was put on record.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The approvals of which it is certain what came of them: decided, or lapsed.
    #[serde(skip)]
    pub settled: Vec<ApprovalId>,
    /// The outcome of everything up to the head, trimmed or not.
    pub snapshot: Snapshot,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The life of the log.
    pub epoch: Epoch,
    /// The events, oldest first.
    pub events: Vec<Recorded>,
    /// The log's last number when this was read.
    pub head: u64,
    /// The oldest number that is still there; `head + 1` when none is.
    pub oldest: u64,
    /// Whether the run has ended: with `events` empty and the cursor at the head, nothing will follow.
    pub ended: bool,
}

/// An entry of a user's inbox: a run that started, waits or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InboxEntry {
    /// Its place in the inbox, from 1 without holes.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// The state that it came to.
    pub state: RunState,
    /// When.
    pub at: Timestamp,
}

/// A piece of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPage {
    /// The life of the inbox.
    pub epoch: Epoch,
    /// The entries, oldest first.
    pub entries: Vec<InboxEntry>,
    /// The last number.
    pub head: u64,
    /// The oldest number that is still there; `head + 1` when none is.
    pub oldest: u64,
}

/// What runs and their logs may use; told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RunLimits {
    /// Runs of one user at work at the same time.
    #[schemars(range(min = 1, max = 1_000))]
    pub running: usize,
    /// Runs of one user that wait for a place.
    #[schemars(range(min = 0, max = 10_000))]
    pub queued: usize,
    /// How long a node holds a run without a sign of life before another node takes it over.
    // A late writer still counts while nobody has taken the run over.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "10m"))]
    pub lease: Duration,
    /// The attempts after which a run that keeps getting lost has failed.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// The events that one log keeps.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub history_events: usize,
    /// The bytes of events that one log keeps.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub history_bytes: usize,
    /// How long a log is kept after its run ended.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1m", "x-maximum" = "365d"))]
    pub history_age: Duration,
    /// The entries that one inbox keeps.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub inbox_entries: usize,
}

impl Section for RunLimits {}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            running: 4,
            queued: 16,
            lease: Duration::from_secs(15),
            attempts: 3,
            history_events: 10_000,
            history_bytes: 8 * 1024 * 1024,
            history_age: Duration::from_secs(24 * 60 * 60),
            inbox_entries: 1_000,
        }
    }
}

/// The rights with which a run's owner is recorded, so that the run can be resumed in the owner's name. Who may start
/// one lets it read what it works on, also where they may not see it themselves.
pub(crate) fn recorded_scopes(principal: &Principal) -> Scopes {
    principal.scopes().and(Scopes::USER).with(Scope::Read)
}

impl Signal {
    /// What a principal must be allowed for it.
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Cancel | Self::Stop(_) => Scope::Cancel,
            Self::Decide { .. } => Scope::Run,
        }
    }
}
