//! Calls that a person has to approve: runs that wait for it, whoever goes on with them.

use apex_agents::testkit::{Dies, Dying, Node, behind, clock, fault, names};
use apex_agents::{
    Context, Effect, EngineOptions, Plan, PlanStep, Registry, Request, ToolContext, agent_fn,
    tool_fn,
};
use apex_core::clock::Clock;
use apex_core::error::{Kind, Result};
use apex_core::event::{AgentOutcome, Decision, Envelope, Event};
use apex_core::id::{ApprovalId, RunId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Accepted, OpenApproval, RunState, RunView, Runner};
use apex_core::store::{Stores, memory};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What outlives nodes, with the payments that were made.
struct World {
    stores: Stores,
    clock: Arc<dyn Clock>,
    user: Principal,
    paid: Arc<Mutex<Vec<u64>>>,
    options: EngineOptions,
}

impl World {
    fn new() -> Self {
        let clock = clock();
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let user = Principal::vouched(UserId::new(&*clock), Scopes::USER);
        // Less than a person takes.
        let options =
            EngineOptions { run_deadline: Duration::from_secs(600), ..EngineOptions::default() };
        Self { stores, clock, user, paid: Arc::default(), options }
    }

    /// Pays whatever it is asked to, twice in turn or at once, and answers with what came of it.
    fn registry(&self, at_once: bool) -> Registry {
        let paid = Arc::clone(&self.paid);
        let pay = tool_fn("pay", "Pays.", move |usd: u64, _: ToolContext| {
            paid.lock().push(usd);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(usd)
            }
        })
        .needs_approval(|usd| *usd >= 100);
        let look = tool_fn("look", "Looks.", |n: u64, _: ToolContext| async move { Ok(n) })
            .effect(Effect::Read);
        let clerk = agent_fn("clerk", "Pays.", move |_: Request, run: Context| async move {
            run.think("I look first").await?;
            let _: u64 = run.call("look", 1).await?;
            run.think("and then I pay").await?;
            let pay = async |usd: u64| match run.call::<u64>("pay", usd).await {
                Ok(_) => format!("{usd} paid"),
                Err(error) => format!("{usd} {}", error.code()),
            };
            let told = match at_once {
                true => join_all([pay(5), pay(100), pay(200)]).await.join(", "),
                false => format!("{}, {}", pay(5).await, pay(100).await),
            };
            run.think(told.clone()).await?;
            Ok(told)
        });
        Registry::default().agent(clerk).tool(pay).tool(look)
    }

    fn node(&self, registry: Registry) -> Node {
        self.node_on(self.stores.clone(), registry)
    }

    fn node_on(&self, stores: Stores, registry: Registry) -> Node {
        Node::on(stores, Arc::clone(&self.clock), registry, self.options.clone())
    }

    async fn view(&self, run: RunId) -> RunView {
        self.stores.runs.view(&self.user, run).await.unwrap()
    }

    /// Waits until the run waits for nothing but decisions; what it waits for.
    async fn waiting(&self, run: RunId) -> Vec<OpenApproval> {
        for _ in 0..1_000 {
            let view = self.view(run).await;
            if view.state == RunState::Waiting {
                return view.snapshot.approvals;
            }
            assert!(!view.state.is_terminal(), "{view:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not wait: {:?}", self.view(run).await);
    }

    async fn decide(&self, node: &Node, run: RunId, open: &OpenApproval, decision: Decision) {
        node.engine.decide(&self.user, run, open.approval, &open.digest, decision).await.unwrap();
    }

    /// The end of a run, in order, in one attempt that nothing interrupted.
    async fn ended(&self, node: &Node, accepted: Accepted) -> (String, Vec<Envelope>) {
        let events = node.ended(&self.user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let count = |name| names(&events).iter().filter(|known| **known == name).count();
        assert_eq!((count("agent_started"), count("run_resumed")), (1, 0), "{:?}", names(&events));
        (node.answer(&self.user, accepted).await, events)
    }
}

fn notes(events: &[Envelope]) -> Vec<&str> {
    let note = |envelope: &'_ Envelope| match &envelope.event {
        Event::AgentThinking { note, .. } => Some(note.clone()),
        _ => None,
    };
    events.iter().filter_map(note).map(|note| &*note.leak()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_without_a_place_and_any_node_goes_on_in_the_same_step() {
    let world = World::new();
    let first = world.node(world.registry(false));
    let accepted = first.ask(&world.user, "pay").await;
    let open = world.waiting(accepted.run).await;
    assert_eq!(first.engine.running(), 0, "it takes up nothing");
    let [open] = &open[..] else { panic!("{open:?}") };
    assert_eq!((open.tool.as_str(), &open.arguments), ("pay", &json!(100)));
    assert_eq!(open.expires_at.since(world.clock.now()).as_secs(), 24 * 3_600 - 2);
    // Its conversation is free meanwhile.
    let next = first.message("pay");
    let next = apex_core::run::Message { thread: Some(accepted.thread), ..next };
    let next = first.engine.start(&world.user, next).await.unwrap();
    world.waiting(next.run).await;
    // Long after the deadline of the run, on another node.
    drop(first);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let second = world.node(world.registry(false));
    world.decide(&second, accepted.run, open, Decision::Approve).await;
    let events = second.ended(&world.user, accepted.run).await;
    assert_eq!(fault(&events), None);
    let step = [
        "run_started",
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "approval_requested",
        "approval_decided",
        "tool_executing",
        "tool_completed",
        "agent_thinking",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names(&events), step);
    assert_eq!(notes(&events), ["I look first", "and then I pay", "5 paid, 100 paid"]);
    assert_eq!(*world.paid.lock(), [5, 5, 100], "the other run has paid 5 as well");
    let inbox = world.stores.runs.inbox(&world.user, 0, 100).await.unwrap().entries;
    let states: Vec<RunState> =
        inbox.iter().filter(|entry| entry.run == accepted.run).map(|entry| entry.state).collect();
    assert_eq!(states, [RunState::Running, RunState::Waiting, RunState::Completed]);
}

#[tokio::test(start_paused = true)]
async fn a_decision_counts_once_for_the_exact_call_and_its_owner() {
    let world = World::new();
    let node = world.node(world.registry(false));
    let accepted = node.ask(&world.user, "pay").await;
    let open = world.waiting(accepted.run).await.remove(0);
    let decide = async |who: &Principal, approval, digest: &str| -> Result<(), Kind> {
        let decided = node.engine.decide(who, accepted.run, approval, digest, Decision::Approve);
        decided.await.map_err(|error| error.kind())
    };
    let other = ApprovalId::new(&*world.clock);
    assert_eq!(decide(&world.user, other, &open.digest).await, Err(Kind::NotFound));
    assert_eq!(decide(&world.user, open.approval, "00").await, Err(Kind::Conflict));
    assert_eq!(decide(&node.user(), open.approval, &open.digest).await, Err(Kind::NotFound));
    assert_eq!(world.view(accepted.run).await.state, RunState::Waiting);
    assert_eq!(decide(&world.user, open.approval, &open.digest).await, Ok(()));
    assert_eq!(decide(&world.user, open.approval, &open.digest).await, Err(Kind::Conflict));
    world.ended(&node, accepted).await;
    assert_eq!(decide(&world.user, open.approval, &open.digest).await, Err(Kind::Conflict));
    assert_eq!(*world.paid.lock(), [5, 100]);
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_is_told_and_goes_on() {
    let world = World::new();
    let node = world.node(world.registry(false));
    let accepted = node.ask(&world.user, "pay").await;
    let open = world.waiting(accepted.run).await.remove(0);
    world.decide(&node, accepted.run, &open, Decision::Deny).await;
    let (answer, events) = world.ended(&node, accepted).await;
    assert_eq!(answer, "5 paid, 100 denied");
    assert_eq!(*world.paid.lock(), [5]);
    let by = events.iter().find_map(|envelope| match envelope.event {
        Event::ApprovalDecided { decision: Decision::Deny, by, .. } => by,
        _ => None,
    });
    assert_eq!(by, Some(world.user.user()));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_decides_in_time_counts_as_denied() {
    let mut world = World::new();
    world.options.approval_timeout = Duration::from_secs(3_000);
    let first = world.node(world.registry(false));
    let accepted = first.ask(&world.user, "pay").await;
    let open = world.waiting(accepted.run).await.remove(0);
    drop(first);
    let second = world.node(world.registry(false));
    let (answer, events) = world.ended(&second, accepted).await;
    assert_eq!(answer, "5 paid, 100 denied");
    let lapsed = events.iter().find(|envelope| {
        matches!(envelope.event, Event::ApprovalDecided { decision: Decision::Deny, by: None, .. })
    });
    let late = lapsed.unwrap().at.since(open.expires_at);
    assert!(late <= Duration::from_secs(6), "{late:?} after it lapsed");
    let late = second.engine.decide(
        &world.user,
        accepted.run,
        open.approval,
        &open.digest,
        Decision::Approve,
    );
    assert_eq!(late.await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn several_requests_wait_side_by_side_each_for_its_own_decision() {
    let world = World::new();
    let node = world.node(world.registry(true));
    let accepted = node.ask(&world.user, "pay").await;
    let open = world.waiting(accepted.run).await;
    assert_eq!(open.len(), 2);
    assert_ne!(open[0].digest, open[1].digest);
    world.decide(&node, accepted.run, &open[1], Decision::Approve).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = world.waiting(accepted.run).await;
    assert_eq!(left, open[..1]);
    assert_eq!(*world.paid.lock(), [5, 200], "the one does not wait for the other");
    world.decide(&node, accepted.run, &open[0], Decision::Approve).await;
    let (answer, _) = world.ended(&node, accepted).await;
    assert_eq!(answer, "5 paid, 100 paid, 200 paid");
    assert_eq!(*world.paid.lock(), [5, 200, 100]);
}

#[tokio::test(start_paused = true)]
async fn other_branches_go_on_and_keep_the_run_at_work() {
    let world = World::new();
    let planner = agent_fn("planner", "Plans.", |_: Request, _: Context| async {
        let steps = vec![
            PlanStep::new("payer"),
            PlanStep::new("worker"),
            PlanStep::new("closer").needs(["payer", "worker"]),
        ];
        Ok(Plan::from(steps))
    });
    let payer = agent_fn("payer", "Pays.", |_: Value, run: Context| async move {
        Ok(json!({"paid": run.call::<u64>("pay", 100).await?}))
    });
    let worker = agent_fn("worker", "Works.", |_: Value, run: Context| async move {
        for n in 0..20_u64 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let _: u64 = run.call("look", n).await?;
        }
        Ok(json!({"worked": true}))
    });
    let closer = agent_fn("closer", "Closes.", |input: Value, _: Context| async move {
        Ok(format!("{} {}", input["payer"]["paid"], input["worker"]["worked"]))
    });
    let registry = || {
        let own = Registry::default().agent(planner).agent(payer).agent(worker).agent(closer);
        world.registry(false).with(own).entry("planner")
    };
    let node = world.node(registry());
    let accepted = node.ask(&world.user, "go").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let view = world.view(accepted.run).await;
    assert_eq!((view.state, view.snapshot.approvals.len()), (RunState::Running, 1));
    let open = world.waiting(accepted.run).await.remove(0);
    let took = world.clock.now().since(view.started_at);
    assert!(took >= Duration::from_secs(200), "{took:?}");
    world.decide(&node, accepted.run, &open, Decision::Approve).await;
    let events = node.ended(&world.user, accepted.run).await;
    assert_eq!(fault(&events), None);
    assert_eq!(node.answer(&world.user, accepted).await, "100 true");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_can_be_cancelled_and_its_step_stopped() {
    let world = World::new();
    let node = world.node(world.registry(false));
    let cancelled = node.ask(&world.user, "pay").await;
    world.waiting(cancelled.run).await;
    node.engine.cancel(&world.user, cancelled.run).await.unwrap();
    let (_, events) = world.ended(&node, cancelled).await;
    let end = ["approval_decided", "agent_completed", "run_cancelled"];
    assert_eq!(names(&events)[events.len() - 3..], end);
    let stopped = node.ask(&world.user, "pay").await;
    let open = world.waiting(stopped.run).await.remove(0);
    node.engine.stop(&world.user, stopped.run, open.step).await.unwrap();
    let (answer, events) = world.ended(&node, stopped).await;
    assert!(answer.contains("was stopped"), "{answer}");
    let outcome = events.iter().find_map(|envelope| match envelope.event {
        Event::AgentCompleted { outcome, .. } => Some(outcome),
        _ => None,
    });
    assert_eq!(outcome, Some(AgentOutcome::Cancelled));
    assert_eq!(*world.paid.lock(), [5, 5]);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_cannot_judge_is_refused() {
    let world = World::new();
    let much = tool_fn("much", "Does much.", |_: String, _: ToolContext| async { Ok(()) })
        .needs_approval(|_| true);
    let agent = agent_fn("a", "Asks.", |_: Request, run: Context| async move {
        let large = run.call::<()>("much", "x".repeat(5_000)).await.unwrap_err();
        let wrong = run.call::<()>("much", 7).await.unwrap_err();
        Ok(format!("{} {}", large.code(), wrong.code()))
    });
    let node = world.node(Registry::default().agent(agent).tool(much));
    let accepted = node.ask(&world.user, "go").await;
    let (answer, events) = world.ended(&node, accepted).await;
    assert_eq!(answer, "too_large bad_arguments", "what will be refused bothers nobody");
    assert!(!names(&events).contains(&"approval_requested"));
}

/// A node dies at each of its writes in turn, and others go on; somebody approves whatever waits.
#[tokio::test(start_paused = true)]
async fn whatever_node_is_lost_when_each_request_is_decided_once_and_no_payment_made_twice() {
    for dies in [Dies::Before, Dies::After] {
        for at in 1.. {
            let world = World::new();
            let dying = Dying::at(at, dies);
            let gated = behind(&world.stores, Arc::<Dying>::clone(&dying) as _);
            let first = world.node_on(gated, world.registry(true));
            let Ok(accepted) = tokio::time::timeout(
                Duration::from_secs(1),
                first.engine.start(&world.user, first.message("pay")),
            )
            .await
            else {
                continue;
            };
            let run = accepted.unwrap().run;
            let approve = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    for open in world.view(run).await.snapshot.approvals {
                        world.decide(&first, run, &open, Decision::Approve).await;
                    }
                }
            };
            let survivor = async {
                dying.dead.cancelled().await;
                let _second = world.node(world.registry(true));
                std::future::pending::<()>().await;
            };
            let events = tokio::select! {
                events = first.ended(&world.user, run) => events,
                () = approve => unreachable!(),
                () = survivor => unreachable!(),
            };
            let told = format!("{dies:?} write {at}: {:?}", names(&events));
            assert_eq!(fault(&events), None, "{told}");
            let Event::RunCompleted { result, .. } = &events.last().unwrap().event else {
                panic!("{told}");
            };
            let mut paid = world.paid.lock().clone();
            paid.sort_unstable();
            let twice = paid.windows(2).any(|pair| pair[0] == pair[1]);
            assert!(!twice, "{told}: {paid:?}");
            for usd in [5, 100, 200] {
                let (made, doubt) = (format!("{usd} paid"), format!("{usd} outcome_unknown"));
                assert!(result.text.contains(&made) || result.text.contains(&doubt), "{told}");
            }
            if !dying.dead.is_cancelled() {
                assert!(at > 10, "only {at} writes");
                break;
            }
        }
    }
}
