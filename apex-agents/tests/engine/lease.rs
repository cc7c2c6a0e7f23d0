//! A node that cannot reach its store any more, and a conversation that cannot be written to.

use apex_agents::testkit::{Asks, Gate, Node, behind, clock, fault, names};
use apex_agents::{Context, EngineOptions, Registry, Request, agent_fn};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Event;
use apex_core::run::RunState;
use apex_core::store::{Stores, memory};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Stores that can be away: the runs, or the conversations with an error of this kind.
#[derive(Debug, Default)]
struct Away {
    runs: AtomicBool,
    threads: Mutex<Option<Kind>>,
}

#[async_trait]
impl Gate for Away {
    async fn enter(&self, asks: Asks) -> Result<()> {
        let kind = match asks {
            Asks::Say => *self.threads.lock(),
            _ => self.runs.load(Ordering::SeqCst).then_some(Kind::Unavailable),
        };
        kind.map_or(Ok(()), |kind| Err(Error::new(kind, "test", "the store is away")))
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
        let clock = clock();
        Self {
            stores: memory::open(memory::MemoryOptions::default(), Arc::clone(&clock)),
            clock,
            begun: Arc::default(),
            stopped: Arc::default(),
        }
    }

    fn node(&self, stores: &Stores) -> Node {
        let registry = slow(&self.begun, &self.stopped);
        Node::on(stores.clone(), Arc::clone(&self.clock), registry, EngineOptions::default())
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_cut_off_gives_its_run_up_before_another_takes_it() {
    let world = World::new();
    let away = Arc::new(Away::default());
    let cut = behind(&world.stores, Arc::<Away>::clone(&away) as _);
    let first = world.node(&cut);
    let user = first.user();
    let accepted = first.ask(&user, "go").await;
    first.until(&user, accepted.run, |event| matches!(event, Event::AgentStarted { .. })).await;
    let began = Instant::now();
    away.runs.store(true, Ordering::SeqCst);
    let second = world.node(&world.stores);
    let resumed = |event: &Event| matches!(event, Event::RunResumed { .. });
    second.until(&user, accepted.run, resumed).await;
    let stopped = world.stopped.lock().expect("the first node works on").duration_since(began);
    assert!(stopped <= Duration::from_secs(10), "{stopped:?}");
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(first.engine.running(), 0);
    let events = second.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    assert_eq!(world.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_costs_nothing() {
    let world = World::new();
    let away = Arc::new(Away::default());
    let cut = behind(&world.stores, Arc::<Away>::clone(&away) as _);
    let node = world.node(&cut);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    node.until(&user, accepted.run, |event| matches!(event, Event::AgentStarted { .. })).await;
    away.runs.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(8)).await;
    away.runs.store(false, Ordering::SeqCst);
    let events = node.ended(&user, accepted.run).await;
    assert!(!names(&events).contains(&"run_resumed"), "{:?}", names(&events));
    assert_eq!(world.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_cannot_be_written_to_keeps_no_run_from_ending() {
    for kind in [Kind::NotFound, Kind::Unavailable] {
        let world = World::new();
        let away = Arc::new(Away::default());
        let cut = behind(&world.stores, Arc::<Away>::clone(&away) as _);
        let node = world.node(&cut);
        let user = node.user();
        let accepted = node.ask(&user, "go").await;
        node.until(&user, accepted.run, |event| matches!(event, Event::AgentStarted { .. })).await;
        *away.threads.lock() = Some(kind);
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        assert_eq!(events.last().unwrap().event.terminal_state(), Some(RunState::Completed));
        assert_eq!(world.begun.load(Ordering::SeqCst), 1, "{kind:?}");
    }
}
