use super::{Backend, VirtualClock};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::{
    AgentOutcome, Envelope, Event, PROTOCOL_VERSION, Recorded, RunResult, RunStatus,
};
use crate::file::{Body, FileLimits};
use crate::id::{BatchId, NodeId, RequestId, RunId, StepId, ThreadId, UserId};
use crate::money::Usage;
use crate::principal::{Principal, Scopes};
use crate::run::{
    Append, Appended, Claim, Claimed, Lease, Live, NewRun, Page, Position, RunLimits, RunState,
    Started, Subscription,
};
use crate::store::Stores;
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;

/// What the stores under test allow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Of runs, logs and inboxes.
    pub runs: RunLimits,
    /// Of files.
    pub files: FileLimits,
}

/// Stores under test, with the clock that they go by and short ways to use them.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The stores.
    pub stores: Stores,
    /// Their clock.
    pub clock: Arc<VirtualClock>,
    /// What its readers share.
    pub live: Live,
}

impl Bench {
    /// New stores with the default limits.
    ///
    /// # Panics
    /// When they cannot be opened; so does everything here that cannot be done.
    pub async fn open(backend: &dyn Backend) -> Self {
        Self::with(backend, Limits::default()).await
    }

    /// New stores with limits for runs.
    pub async fn with_runs(backend: &dyn Backend, runs: RunLimits) -> Self {
        let limits = Limits { runs, ..Limits::default() };
        Self::with(backend, limits).await
    }

    /// New stores with limits.
    pub async fn with(backend: &dyn Backend, limits: Limits) -> Self {
        let clock = Arc::new(VirtualClock::still());
        let stores = backend
            .open(limits, Arc::clone(&clock) as Arc<dyn Clock>)
            .await
            .expect("the backend opens");
        Self::of(stores, clock)
    }

    /// Stores that are open already.
    #[must_use]
    pub fn of(stores: Stores, clock: Arc<VirtualClock>) -> Self {
        Self { stores, clock, live: Live::default() }
    }

    /// Lets time pass, for stores that go by the bench's clock and for those that go by a server's.
    pub async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::sleep(time).await;
    }

    /// A new user.
    #[must_use]
    pub fn user(&self) -> Principal {
        Principal::vouched(UserId::new(&*self.clock), Scopes::USER)
    }

    /// A new conversation.
    #[must_use]
    pub fn thread(&self) -> ThreadId {
        ThreadId::new(&*self.clock)
    }

    /// A new node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::new(&*self.clock)
    }

    /// A new run in `thread`.
    #[must_use]
    pub fn new_run(&self, thread: ThreadId) -> NewRun {
        NewRun {
            run: RunId::new(&*self.clock),
            request: RequestId::new(&*self.clock),
            digest: [7; 32],
            thread,
            parent: None,
            text: "where does it go?".into(),
            attachments: Vec::new(),
            agents: vec!["triage".into()],
            budget: None,
            trace: None,
        }
    }

    /// Puts a new run on record in a new conversation.
    pub async fn start(&self, principal: &Principal) -> Started {
        self.start_in(principal, self.thread()).await
    }

    /// Puts a new run on record.
    pub async fn start_in(&self, principal: &Principal, thread: ThreadId) -> Started {
        let new = self.new_run(thread);
        self.stores.runs.start(principal, new).await.expect("the run starts")
    }

    /// What a node can claim.
    pub async fn claim(&self, node: NodeId, max: usize) -> Vec<Claimed> {
        self.stores.runs.claim(Claim { node, max }).await.expect("a claim is answered")
    }

    /// Puts a run on record and claims it.
    pub async fn running(&self, principal: &Principal) -> Claimed {
        let started = self.start(principal).await;
        let claimed = self.claim(self.stores.node, 100).await;
        claimed
            .into_iter()
            .find(|claimed| claimed.lease.run == started.run)
            .expect("the run can be claimed")
    }

    /// The batch of the events after `after`.
    #[must_use]
    pub fn batch(
        &self,
        lease: &Lease,
        after: u64,
        events: Vec<Event>,
        transition: Option<RunState>,
    ) -> Append {
        Append {
            batch: BatchId::new(&*self.clock),
            after,
            events: (after + 1..)
                .zip(events)
                .map(|(seq, event)| recorded(&*self.clock, lease, seq, event))
                .collect(),
            checkpoint: None,
            transition,
            wake_at: None,
            lapsed: Vec::new(),
        }
    }

    /// Appends events after `after`.
    ///
    /// # Errors
    /// What the log says.
    pub async fn append(
        &self,
        lease: &Lease,
        after: u64,
        events: Vec<Event>,
        transition: Option<RunState>,
    ) -> Result<Appended> {
        let batch = self.batch(lease, after, events, transition);
        self.stores.runs.append(lease, batch).await
    }

    /// Ends a run whose head is `after`.
    ///
    /// # Errors
    /// What the log says.
    pub async fn complete(&self, lease: &Lease, after: u64) -> Result<Appended> {
        self.append(lease, after, vec![completed()], Some(RunState::Completed)).await
    }

    /// The whole log that is kept, page by page.
    pub async fn log(&self, principal: &Principal, run: RunId) -> Vec<Recorded> {
        let mut all: Vec<Recorded> = Vec::new();
        loop {
            let after = all.last().map_or(0, |event| event.seq);
            let Page { events, .. } =
                self.stores.runs.read(principal, run, after, 100).await.expect("the log is read");
            if events.is_empty() {
                return all;
            }
            all.extend(events);
        }
    }

    /// A subscription from `position`.
    pub async fn subscribe(
        &self,
        principal: &Principal,
        run: RunId,
        position: Position,
    ) -> Subscription {
        let (log, wakeup) = (Arc::clone(&self.stores.runs), &*self.stores.wakeup);
        Subscription::open(log, wakeup, &self.live, principal.clone(), run, position)
            .await
            .expect("the subscription opens")
            .1
    }
}

/// A thought of the first step, of about `bytes` bytes.
#[must_use]
pub fn thought(bytes: usize) -> Event {
    Event::AgentThinking { step: StepId(1), agent: "triage".into(), note: "x".repeat(bytes) }
}

/// A step that begins.
pub(super) fn begun(step: u32) -> Event {
    Event::AgentStarted {
        step: StepId(step),
        agent: "triage".into(),
        purpose: "read the question".into(),
        attempt: 1,
        needs: Vec::new(),
    }
}

/// A step that ends.
pub(super) fn ended(step: u32) -> Event {
    Event::AgentCompleted {
        step: StepId(step),
        agent: "triage".into(),
        outcome: AgentOutcome::Ok,
        elapsed_ms: 5,
        output: serde_json::json!({"sufficient": true}),
        usage: Usage::default(),
        models: Vec::new(),
        plan: Vec::new(),
    }
}

/// A run that ends well.
#[must_use]
pub fn completed() -> Event {
    Event::RunCompleted {
        elapsed_ms: 12,
        usage: Usage::default(),
        degraded: Vec::new(),
        result: RunResult {
            status: RunStatus::Answered,
            text: "there".into(),
            artifacts: Vec::new(),
        },
    }
}

/// A run that was cancelled.
pub(super) fn cancelled(by: UserId) -> Event {
    Event::RunCancelled { elapsed_ms: 12, usage: Usage::default(), by }
}

/// A body in pieces.
pub(super) fn body(pieces: &[&'static [u8]]) -> Body {
    let pieces: Vec<Result<Bytes>> = pieces.iter().map(|p| Ok(Bytes::from_static(p))).collect();
    Box::pin(stream::iter(pieces))
}

fn recorded(clock: &dyn Clock, lease: &Lease, seq: u64, event: Event) -> Recorded {
    Recorded::encode(&Envelope {
        v: PROTOCOL_VERSION,
        run: lease.run,
        thread: lease.thread,
        parent: lease.parent,
        epoch: lease.epoch,
        seq: Some(seq),
        at: clock.now(),
        event,
    })
    .expect("the event is encoded")
}
