//! A node that cannot reach its store any more, and a conversation that cannot be written to.

use crate::order;
use crate::support::{Node, RuntimeClock, names};
use apex_agents::{Context, EngineOptions, Registry, Request, agent_fn};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Event;
use apex_core::id::{RunId, ThreadId};
use apex_core::principal::Principal;
use apex_core::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLog, RunState, RunView,
    Signal, Started,
};
use apex_core::store::{Stores, memory};
use apex_core::thread::{Paged, Thread, ThreadMessage, ThreadStore};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Stores that can be away: what is written to them is then refused as `unavailable`, or `not_found` for messages.
#[derive(Debug)]
struct Flaky {
    stores: Stores,
    runs_away: AtomicBool,
    threads: Mutex<Option<Kind>>,
}

impl Flaky {
    fn wrap(stores: &Stores) -> (Stores, Arc<Self>) {
        let flaky = Arc::new(Self {
            stores: stores.clone(),
            runs_away: AtomicBool::new(false),
            threads: Mutex::new(None),
        });
        let wrapped = Stores {
            runs: Arc::<Self>::clone(&flaky) as _,
            threads: Arc::<Self>::clone(&flaky) as _,
            ..stores.clone()
        };
        (wrapped, flaky)
    }

    fn reach_runs(&self) -> Result<()> {
        match self.runs_away.load(Ordering::SeqCst) {
            true => Err(Error::new(Kind::Unavailable, "test", "the store is away")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl RunLog for Flaky {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        self.stores.runs.start(principal, run).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.reach_runs()?;
        self.stores.runs.claim(claim).await
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        self.reach_runs()?;
        self.stores.runs.append(lease, batch).await
    }

    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        self.stores.runs.signal(principal, run, signal).await
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        self.stores.runs.view(principal, run).await
    }

    async fn read(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        self.stores.runs.read(principal, run, after, max).await
    }

    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        self.stores.runs.inbox(principal, after, max).await
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        self.stores.runs.forget(principal, thread).await
    }
}

#[async_trait]
impl ThreadStore for Flaky {
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()> {
        if let Some(kind) = *self.threads.lock() {
            return Err(Error::new(
                kind,
                "test",
                "the conversation cannot be written to",
            ));
        }
        self.stores.threads.add(principal, thread, message).await
    }

    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread> {
        self.stores.threads.thread(principal, thread).await
    }

    async fn threads(
        &self,
        principal: &Principal,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        self.stores.threads.threads(principal, cursor, max).await
    }

    async fn messages(
        &self,
        principal: &Principal,
        thread: ThreadId,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<ThreadMessage>> {
        self.stores
            .threads
            .messages(principal, thread, cursor, max)
            .await
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        self.stores.threads.delete(principal, thread).await
    }
}

/// Notes when it is dropped.
struct Until(Arc<Mutex<Option<Instant>>>);

impl Drop for Until {
    fn drop(&mut self) {
        *self.0.lock() = Some(Instant::now());
    }
}

/// An agent that works for half a minute, each begin counted, and notes when it was last stopped.
fn slow(begun: &Arc<AtomicUsize>, stopped: &Arc<Mutex<Option<Instant>>>) -> Registry {
    let (begun, stopped) = (Arc::clone(begun), Arc::clone(stopped));
    let agent = agent_fn("slow", "Takes its time.", move |_: Request, _: Context| {
        let until = Until(Arc::clone(&stopped));
        begun.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(until);
            Ok("done".to_owned())
        }
    });
    Registry::default().agent(agent)
}

struct World {
    clock: Arc<dyn Clock>,
    stores: Stores,
    begun: Arc<AtomicUsize>,
    stopped: Arc<Mutex<Option<Instant>>>,
}

impl World {
    fn new() -> Self {
        let clock = RuntimeClock::shared();
        Self {
            stores: memory::open(memory::MemoryOptions::default(), Arc::clone(&clock)),
            clock,
            begun: Arc::default(),
            stopped: Arc::default(),
        }
    }

    fn node(&self, stores: &Stores) -> Node {
        let registry = slow(&self.begun, &self.stopped);
        Node::on(
            stores.clone(),
            Arc::clone(&self.clock),
            registry,
            EngineOptions::default(),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_cut_off_gives_its_run_up_before_another_takes_it() {
    let world = World::new();
    let (cut, flaky) = Flaky::wrap(&world.stores);
    let first = world.node(&cut);
    let user = first.user();
    let accepted = first.ask(&user, "go").await;
    first
        .until(&user, accepted.run, |event| {
            matches!(event, Event::AgentStarted { .. })
        })
        .await;
    let began = Instant::now();
    flaky.runs_away.store(true, Ordering::SeqCst);
    let second = world.node(&world.stores);
    let resumed = |event: &Event| matches!(event, Event::RunResumed { .. });
    second.until(&user, accepted.run, resumed).await;
    let stopped = world
        .stopped
        .lock()
        .expect("the first node works on")
        .duration_since(began);
    assert!(stopped <= Duration::from_secs(10), "{stopped:?}");
    assert!(
        began.elapsed() >= Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(first.engine.running(), 0);
    let events = second.ended(&user, accepted.run).await;
    assert_eq!(order::fault(&events), None, "{:?}", names(&events));
    assert_eq!(world.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_costs_nothing() {
    let world = World::new();
    let (cut, flaky) = Flaky::wrap(&world.stores);
    let node = world.node(&cut);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    node.until(&user, accepted.run, |event| {
        matches!(event, Event::AgentStarted { .. })
    })
    .await;
    flaky.runs_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(8)).await;
    flaky.runs_away.store(false, Ordering::SeqCst);
    let events = node.ended(&user, accepted.run).await;
    assert!(
        !names(&events).contains(&"run_resumed"),
        "{:?}",
        names(&events)
    );
    assert_eq!(world.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_cannot_be_written_to_keeps_no_run_from_ending() {
    for kind in [Kind::NotFound, Kind::Unavailable] {
        let world = World::new();
        let (cut, flaky) = Flaky::wrap(&world.stores);
        let node = world.node(&cut);
        let user = node.user();
        let accepted = node.ask(&user, "go").await;
        node.until(&user, accepted.run, |event| {
            matches!(event, Event::AgentStarted { .. })
        })
        .await;
        *flaky.threads.lock() = Some(kind);
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(order::fault(&events), None, "{:?}", names(&events));
        assert_eq!(
            events.last().unwrap().event.terminal_state(),
            Some(RunState::Completed)
        );
        assert_eq!(world.begun.load(Ordering::SeqCst), 1, "{kind:?}");
    }
}
