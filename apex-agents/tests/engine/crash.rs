//! Nodes that die at any write, and the nodes that go on after them.

use apex_agents::testkit::{
    Death, Dies, Dying, Node, behind, clock, every_death, fault, names, runtime,
};
use apex_agents::{
    Context, Effect, EngineOptions, Plan, PlanStep, Registry, Request, ToolContext, agent_fn,
    tool_fn,
};
use apex_core::clock::Clock;
use apex_core::event::{AgentOutcome, Envelope, Event, ToolOutcome};
use apex_core::id::{CallId, StepId};
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Checkpoint, Claim, Emitter, Live};
use apex_core::store::{Stores, memory};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What survives nodes: the stores, the user, and how often each call was made, by its idempotency key.
struct World {
    stores: Stores,
    clock: Arc<dyn Clock>,
    made: Made,
}

/// How often each call was made, by its idempotency key.
type Made = Arc<Mutex<HashMap<String, usize>>>;

impl World {
    fn new() -> Self {
        let clock = clock();
        Self {
            stores: memory::open(memory::MemoryOptions::default(), Arc::clone(&clock)),
            clock,
            made: Arc::default(),
        }
    }

    fn node(&self, stores: &Stores) -> Node {
        self.node_with(stores, registry(&self.made))
    }

    fn node_with(&self, stores: &Stores, registry: Registry) -> Node {
        Node::on(stores.clone(), Arc::clone(&self.clock), registry, EngineOptions::default())
    }

    /// Starts a run on a node that dies at its write number `at`. Says whether it died before the run had ended.
    async fn dies_at(&self, user: &Principal, accepted: Accepted, at: usize, dies: Dies) -> bool {
        let dying = Dying::at(at, dies);
        let node = self.node(&behind(&self.stores, Arc::<Dying>::clone(&dying) as _));
        tokio::select! {
            () = dying.dead.cancelled() => true,
            _ = node.ended(user, accepted.run) => false,
        }
    }
}

/// A planner, two agents side by side that call tools, look at the clock and draw numbers, and one that closes.
fn registry(made: &Made) -> Registry {
    let made = Arc::clone(made);
    let count = tool_fn("count", "Counts its calls.", move |n: u64, call: ToolContext| {
        *made.lock().entry(call.idempotency_key().to_owned()).or_default() += 1;
        async move {
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
            Ok(n)
        }
    })
    .effect(Effect::Idempotent);
    let much =
        tool_fn("much", "Gives much.", |_: (), _: ToolContext| async { Ok("m".repeat(10_000)) })
            .effect(Effect::Read);
    let planner = agent_fn("planner", "Plans.", |_: Request, run: Context| async move {
        let _: u64 = run.call("count", 1).await?;
        let steps = vec![
            PlanStep::new("left"),
            PlanStep::new("right"),
            PlanStep::new("closer").needs(["left", "right"]),
        ];
        Ok(Plan::from(steps))
    });
    let left = agent_fn("left", "Calls in turn.", |_: Value, run: Context| async move {
        let drawn = run.random().await?;
        let mut sum = 0_u64;
        for n in [drawn % 1_000, 2, 3] {
            run.think(format!("now {n}")).await?;
            sum += run.call::<u64>("count", n).await?;
        }
        assert_eq!(sum, drawn % 1_000 + 5);
        Ok(Value::from("left".len()))
    });
    let right = agent_fn("right", "Calls at once.", |_: Value, run: Context| async move {
        let at = run.now().await?.as_millis().unsigned_abs();
        let calls = [at, at + 1, at + 2].map(|n| run.call::<u64>("count", n));
        let sum: u64 = futures_util::future::try_join_all(calls).await?.into_iter().sum();
        assert_eq!(sum, 3 * at + 3);
        let much: String = run.call("much", ()).await?;
        Ok(Value::from(vec![much]))
    });
    let closer = agent_fn("closer", "Closes.", |input: Value, run: Context| async move {
        let _: u64 = run.call("count", 9).await?;
        Ok(format!("{} and {}", input["left"], input["right"][0].as_str().map_or(0, str::len)))
    });
    Registry::default().agent(planner).agent(left).agent(right).agent(closer).tool(count).tool(much)
}

/// A run on record that no node works on yet.
async fn queued(world: &World) -> (Principal, Accepted) {
    Node::queued(&world.stores, &world.clock, "go").await
}

/// The calls that are on record as completed.
fn completed(events: &[Envelope]) -> usize {
    let ok = |event: &Event| matches!(event, Event::ToolCompleted { outcome: ToolOutcome::Ok, tool, .. } if tool == "count");
    events.iter().filter(|envelope| ok(&envelope.event)).count()
}

#[test]
fn a_node_may_die_at_any_write() {
    let made = Arc::<Mutex<HashMap<String, usize>>>::default;
    let registry =
        |made: &Made, _: &Stores, _: &Arc<dyn Clock>| (registry(made), EngineOptions::default());
    let check = |made: Made,
                 Death { write, dies, node, user, accepted }: Death|
     -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let events = node.ended(&user, accepted.run).await;
            let told = format!("died {dies:?} write {write}: {:?}", names(&events));
            assert_eq!(fault(&events), None, "{told}");
            let Event::RunCompleted { result, degraded, .. } = &events.last().unwrap().event else {
                panic!("{told}: {:?}", events.last());
            };
            assert_eq!((&*result.text, degraded.len()), ("4 and 10000", 0), "{told}");
            assert_eq!(node.answer(&user, accepted).await, result.text, "{told}");
            let made = made.lock().clone();
            assert_eq!(made.len(), 8, "{told}");
            assert_eq!(completed(&events), 8, "{told}");
            // Three calls at most are under way at the same time with one more of the other agent's.
            assert!(made.values().all(|times| *times <= 2), "{told}: {made:?}");
            assert!(made.values().filter(|times| **times == 2).count() <= 4, "{told}: {made:?}");
            let begun =
                events.iter().filter(|e| matches!(e.event, Event::RunResumed { .. })).count();
            let view = node.stores.runs.view(&user, accepted.run).await.unwrap();
            assert_eq!(begun as u32 + 1, view.attempt, "{told}");
        })
    };
    let deaths = every_death("go", made, registry, check);
    assert!(deaths > 40, "only {deaths} writes");
}

#[test]
fn a_run_that_is_lost_three_times_has_failed() {
    runtime().block_on(async {
        let world = World::new();
        let (user, accepted) = queued(&world).await;
        for _ in 0..3 {
            assert!(world.dies_at(&user, accepted, 4, Dies::After).await);
        }
        let node = world.node(&world.stores);
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
            panic!("{:?}", events.last());
        };
        assert_eq!(error.code, "crashed");
        assert!(node.answer(&user, accepted).await.contains("lost with its node 3 times"));
    });
}

#[test]
fn an_agent_that_asks_for_something_else_after_a_crash_fails_with_the_first_difference() {
    runtime().block_on(async {
        let world = World::new();
        let (user, accepted) = queued(&world).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let fickle = || {
            let runs = Arc::clone(&runs);
            let planner =
                agent_fn("planner", "Changes its mind.", move |_: Request, run: Context| {
                    let nth = runs.fetch_add(1, Ordering::SeqCst) as u64;
                    async move {
                        let _: u64 = run.call("count", 5).await?;
                        let _: u64 = run.call("count", nth).await?;
                        std::future::pending::<()>().await;
                        Ok(String::new())
                    }
                });
            let count =
                tool_fn("count", "Gives it back.", |n: u64, _: ToolContext| async move { Ok(n) });
            Registry::default().agent(planner).tool(count)
        };
        let first = world.node_with(&world.stores, fickle());
        let is_second =
            |event: &Event| matches!(event, Event::ToolCompleted { call: CallId(2), .. });
        first.until(&user, accepted.run, is_second).await;
        drop(first);
        let node = world.node_with(&world.stores, fickle());
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
            panic!("{:?}", events.last());
        };
        assert_eq!(error.code, "agent_failed");
        assert!(error.message.contains("effect 2 was a call of count"), "{error:?}");
    });
}

#[test]
fn a_checkpoint_of_another_version_is_refused_and_what_is_open_is_closed() {
    runtime().block_on(async {
        let world = World::new();
        let (user, accepted) = queued(&world).await;
        let log = &world.stores.runs;
        let claim = Claim { node: world.stores.node, max: 1 };
        let claimed = log.claim(claim).await.unwrap().remove(0);
        let mut emitter =
            Emitter::new(Arc::clone(log), Arc::clone(&world.clock), Live::default(), claimed.lease);
        let (step, call, agent) = (StepId(1), CallId(1), "from_tomorrow".to_owned());
        let events = vec![
            Event::AgentStarted {
                step,
                agent: agent.clone(),
                purpose: "p".into(),
                attempt: 1,
                needs: Vec::new(),
            },
            Event::AgentThinking { step, agent: agent.clone(), note: "n".into() },
            Event::ToolExecuting { step, agent, call, tool: "t".into(), arguments: Value::Null },
        ];
        let checkpoint = Checkpoint::whole(99, "{}");
        emitter.append(events, Some(checkpoint), None).await.unwrap();

        let node = world.node(&world.stores);
        let events = node.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let closed = events.iter().filter(|envelope| {
            matches!(
                envelope.event,
                Event::ToolCompleted { outcome: ToolOutcome::Interrupted, .. }
                    | Event::AgentCompleted { outcome: AgentOutcome::Interrupted, .. }
            )
        });
        assert_eq!(closed.count(), 2);
        let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
            panic!("{:?}", events.last());
        };
        assert_eq!(error.code, "bad_checkpoint");
        assert!(error.message.contains("format 99"), "{error:?}");
        assert!(node.answer(&user, accepted).await.contains("bad_checkpoint"));
    });
}
