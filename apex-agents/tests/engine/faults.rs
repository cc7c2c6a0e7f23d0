//! Random plans of agents that succeed, fail, panic, hang, flood and return nonsense.

use crate::traces::Spans;
use apex_agents::testkit::{Node, fault, names, runtime};
use apex_agents::{
    Agent, Context, Effect, Engine, EngineOptions, Plan, PlanStep, Registry, Request, ToolContext,
    agent_fn, tool_fn,
};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{Decision, Envelope, Event};
use apex_core::id::RunId;
use apex_core::principal::Principal;
use apex_core::run::Runner;
use apex_core::store::{Stores, memory};
use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Fine,
    Quiet,
    CallsInTurn,
    CallsAtOnce,
    Asks,
    AsksAtOnce,
    MakesMuch,
    ToolFails,
    ToolPanics,
    ToolHangs,
    Fails,
    Panics,
    Hangs,
    IsDeaf,
    FloodsNotes,
    FloodsCalls,
    ReturnsNonsense,
}

const ACTS: [Act; 17] = [
    Act::Fine,
    Act::Quiet,
    Act::CallsInTurn,
    Act::CallsAtOnce,
    Act::Asks,
    Act::AsksAtOnce,
    Act::MakesMuch,
    Act::ToolFails,
    Act::ToolPanics,
    Act::ToolHangs,
    Act::Fails,
    Act::Panics,
    Act::Hangs,
    Act::IsDeaf,
    Act::FloodsNotes,
    Act::FloodsCalls,
    Act::ReturnsNonsense,
];

impl Act {
    /// The code with which its step ends, if it is not ok.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Fails | Self::FloodsNotes | Self::FloodsCalls => Some("agent_failed"),
            Self::Panics => Some("agent_panicked"),
            Self::Hangs | Self::IsDeaf => Some("deadline_exceeded"),
            Self::ReturnsNonsense => Some("bad_output"),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Actor {
    name: String,
    act: Act,
}

#[async_trait]
impl Agent for Actor {
    type Input = Value;
    type Output = Value;

    fn name(&self) -> &str {
        &self.name
    }

    fn purpose(&self) -> &'static str {
        "Does what the test wants."
    }

    fn output_schema(&self) -> Value {
        json!({"type": "object", "required": ["made"]})
    }

    async fn run(&self, input: Value, run: Context) -> Result<Value> {
        assert!(input["text"].is_string(), "{input}");
        match self.act {
            Act::Fine => run.think("fine").await?,
            Act::Quiet => {}
            Act::CallsInTurn => {
                for n in 0..3 {
                    let got: u64 = run.call("give", n).await?;
                    assert_eq!(got, n);
                }
            }
            Act::CallsAtOnce => {
                let calls = (0..5_u64).map(|n| run.call::<u64>("give", n));
                let got = futures_util::future::try_join_all(calls).await?;
                assert_eq!(got, [0, 1, 2, 3, 4]);
            }
            Act::Asks => {
                run.think("I ask first").await?;
                decided(run.call("ask", 1).await, 1);
                run.think("and once more").await?;
                decided(run.call("ask", 2).await, 2);
            }
            Act::AsksAtOnce => {
                let calls = (0..4_u64).map(|n| run.call::<u64>("ask", n));
                let got = futures_util::future::join_all(calls).await;
                for (n, got) in (0..).zip(got) {
                    decided(got, n);
                }
            }
            Act::MakesMuch => {
                let much: String = run.call("much", ()).await?;
                return Ok(json!({ "made": much }));
            }
            Act::ToolFails => assert_eq!(refused(&run, "fail").await, Kind::NotFound),
            Act::ToolPanics => assert_eq!(refused(&run, "panic").await, Kind::ToolFailed),
            Act::ToolHangs => assert_eq!(refused(&run, "hang").await, Kind::DeadlineExceeded),
            Act::Fails => return Err(Error::new(Kind::AgentFailed, "test", "I cannot")),
            Act::Panics => panic!("I am gone"),
            Act::Hangs => std::future::pending().await,
            Act::IsDeaf => loop {
                let _ = run.is_cancelled();
                tokio::time::sleep(Duration::from_secs(1)).await;
            },
            Act::FloodsNotes => loop {
                let _ = run.think("x".repeat(100_000)).await;
            },
            Act::FloodsCalls => loop {
                let _ = run.call::<u64>("give", 1).await;
            },
            Act::ReturnsNonsense => return Ok(json!({"nonsense": true})),
        }
        Ok(json!({ "made": self.name }))
    }
}

/// What comes of a call that somebody decides on: approved, denied, or not waited for to the end.
fn decided(got: Result<u64>, n: u64) {
    match got {
        Ok(got) => assert_eq!(got, n),
        Err(error) => assert_eq!(error.kind(), Kind::Denied, "{error}"),
    }
}

async fn refused(run: &Context, tool: &str) -> Kind {
    run.call::<Value>(tool, ()).await.unwrap_err().kind()
}

fn tools(registry: Registry) -> Registry {
    registry
        .tool(tool_fn("give", "Gives it back.", |n: u64, _: ToolContext| async move { Ok(n) }))
        .tool(
            tool_fn("ask", "Gives it back.", |n: u64, _: ToolContext| async move { Ok(n) })
                .needs_approval(|n| *n > 0),
        )
        .tool(tool_fn("much", "Gives much.", |_: (), _: ToolContext| async {
            Ok("m".repeat(200_000))
        }))
        .tool(tool_fn("fail", "Fails.", |_: (), _: ToolContext| async {
            Err::<(), _>(Error::new(Kind::NotFound, "test", "nothing there"))
        }))
        .tool(tool_fn("panic", "Panics.", |n: (), _: ToolContext| async move {
            assert_ne!(n, (), "the tool is gone");
            Ok(())
        }))
        .tool(
            tool_fn("hang", "Hangs.", |_: (), _: ToolContext| std::future::pending::<Result<()>>())
                .effect(Effect::Read),
        )
}

/// An agent of the plan: what it does, whether the run can do without it, and on how many of those before it waits.
#[derive(Debug, Clone)]
struct Cast {
    act: Act,
    optional: bool,
    waits: usize,
}

fn registry(cast: &[Cast]) -> Registry {
    let mut steps = Vec::new();
    let mut registry = Registry::default();
    let names: Vec<String> = (0..cast.len()).map(|n| format!("a{n}")).collect();
    for (n, Cast { optional, waits, .. }) in cast.iter().enumerate() {
        let mut step = PlanStep::new(names[n].clone());
        step.needs = names[n.saturating_sub(*waits)..n].to_vec();
        step.optional = *optional;
        steps.push(step);
    }
    let mut last = PlanStep::new("closer");
    last.needs.clone_from(&names);
    steps.push(last);
    let plan = Plan::from(steps);
    registry = registry
        .agent(agent_fn("planner", "Plans.", move |_: Request, _: Context| {
            let plan = plan.clone();
            async move { Ok(plan) }
        }))
        .agent(agent_fn("closer", "Closes.", |input: Value, _: Context| async move {
            let handed = input.as_object().map_or(0, serde_json::Map::len) - 2;
            Ok(format!("{handed} results"))
        }));
    for (name, Cast { act, .. }) in names.iter().zip(cast) {
        let actor = Actor { name: name.clone(), act: *act };
        registry = registry.agent(actor);
    }
    tools(registry)
}

/// Runs the cast; cancels after that time if one is given.
async fn run(cast: &[Cast], cancel: Option<Duration>) -> Vec<Envelope> {
    let spans = Spans::default();
    let _collecting = spans.collect();
    let node = Node::new(registry(cast));
    let user = node.user();
    let accepted = node.ask(&user, "play").await;
    let decider = tokio::spawn(decide_all(
        Arc::clone(&node.engine),
        node.stores.clone(),
        user.clone(),
        accepted.run,
    ));
    if let Some(after) = cancel {
        tokio::time::sleep(after).await;
        node.engine.cancel(&user, accepted.run).await.unwrap();
    }
    let events = node.ended(&user, accepted.run).await;
    decider.abort();
    node.answer(&user, accepted).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.engine.running(), 0);
    assert_eq!(spans.fault(accepted.run, &events), None);
    events
}

/// Decides on everything that waits, this way and that, some of it late.
async fn decide_all(engine: Arc<Engine>, stores: Stores, user: Principal, run: RunId) {
    for pause in (0..).map(|n| 300 + n * 977 % 7_000) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let open = stores.runs.view(&user, run).await.unwrap().snapshot.approvals;
        if let Some(open) = open.first() {
            let decision = if pause % 3 == 0 { Decision::Deny } else { Decision::Approve };
            // It may end in between.
            let _ = engine.decide(&user, run, open.approval, &open.digest, decision).await;
        }
    }
}

fn cast() -> impl Strategy<Value = Vec<Cast>> {
    let one = (proptest::sample::select(&ACTS[..]), any::<bool>(), 0_usize..3);
    let one = one.prop_map(|(act, optional, waits)| Cast { act, optional, waits });
    proptest::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_ends_in_order(cast in cast()) {
        let events = runtime().block_on(run(&cast, None));
        prop_assert_eq!(fault(&events), None, "{:?}", names(&events));
        let fatal: Vec<&str> = cast.iter().filter(|c| !c.optional).filter_map(|c| c.act.code()).collect();
        match &events.last().unwrap().event {
            Event::RunCompleted { result, degraded, .. } => {
                prop_assert!(fatal.is_empty());
                let lost = cast.iter().filter(|c| c.act.code().is_some()).count();
                prop_assert_eq!(&result.text, &format!("{} results", cast.len() - lost));
                prop_assert_eq!(degraded.len(), lost);
            }
            Event::RunFailed { error, .. } => prop_assert!(fatal.contains(&&*error.code), "{error:?}"),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn every_plan_is_cancelled_at_once_at_any_time(cast in cast(), after in 0_u64..400_000) {
        let after = Duration::from_millis(after);
        let events = runtime().block_on(run(&cast, Some(after)));
        prop_assert_eq!(fault(&events), None, "{:?}", names(&events));
        let last = events.last().unwrap();
        if let Event::RunCancelled { .. } = last.event {
            let took = last.at.since(events[0].at) - after;
            prop_assert!(took < Duration::from_secs(1), "{took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_past_its_deadline_fails_in_order() {
    let clock = apex_agents::testkit::clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let cast = [
        Cast { act: Act::Hangs, optional: true, waits: 0 },
        Cast { act: Act::ToolHangs, optional: true, waits: 0 },
    ];
    let options =
        EngineOptions { run_deadline: Duration::from_secs(3), ..EngineOptions::default() };
    let node = Node::on(stores, clock, registry(&cast), options);
    let user = node.user();
    let run = node.ask(&user, "play").await.run;
    let events = node.ended(&user, run).await;
    assert_eq!(fault(&events), None);
    let Event::RunFailed { error, elapsed_ms, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(error.code, "deadline_exceeded");
    assert_eq!(*elapsed_ms, 3_000);
    assert!(names(&events).contains(&"tool_completed"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_is_bad_output() {
    let registry =
        Registry::default().agent(agent_fn("planner", "Plans.", |_: Request, _: Context| async {
            Ok(Plan::from(vec![PlanStep::new("nobody")]))
        }));
    let node = Node::new(registry);
    let user = node.user();
    let run = node.ask(&user, "play").await.run;
    let events = node.ended(&user, run).await;
    let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(error.code, "bad_output");
    assert!(error.message.contains("there is no agent nobody"), "{error:?}");
}
