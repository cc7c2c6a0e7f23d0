//! Many runs of many users at once, of agents that do what they should not: nobody else is touched, and nothing stays.

use apex_agents::testkit::{Node, clock, fault, names};
use apex_agents::{
    Context, Effect, EngineOptions, Registry, Request, ToolContext, agent_fn, tool_fn,
};
use apex_core::error::Result;
use apex_core::event::Event;
use apex_core::principal::Principal;
use apex_core::run::RunLimits;
use apex_core::store::memory::{self, MemoryOptions};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many users there are, and how many runs all of them have.
const USERS: usize = 20;

fn runs() -> usize {
    if std::env::var_os("APEX_FULL").is_some() { 1_000 } else { 200 }
}

/// What agents do, by what they are asked; every other run is a good one.
const BAD: [&str; 8] =
    ["panic", "hang", "flood notes", "flood calls", "garbage", "deaf", "tool panic", "tool hang"];

/// Counts what is alive of agents' work.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn registry(alive: &Arc<AtomicUsize>) -> Registry {
    let (here, there) = (Arc::clone(alive), Arc::clone(alive));
    let agent = agent_fn("any", "Does as it is told.", move |ask: Request, run: Context| {
        let alive = Alive::new(&here);
        async move {
            let _alive = alive;
            match ask.text.as_str() {
                "panic" => panic!("I am gone"),
                "hang" => std::future::pending().await,
                "flood notes" => loop {
                    let _ = run.think("x".repeat(10_000)).await;
                },
                "flood calls" => loop {
                    let _ = run.call::<u64>("give", 1).await;
                },
                "garbage" => return Ok(Value::from(vec![Value::Null])),
                "deaf" => loop {
                    let _ = run.is_cancelled();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                },
                "tool panic" => drop(run.call::<Value>("panic", ()).await),
                "tool hang" => drop(run.call::<Value>("hang", ()).await),
                _ => {}
            }
            let given: u64 = run.call("give", 7).await?;
            Ok(Value::from(format!("{} and {given}", ask.text)))
        }
    });
    let give = tool_fn("give", "Gives it back.", |n: u64, _: ToolContext| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(n)
    })
    .effect(Effect::Read);
    let panic = tool_fn("panic", "Panics.", |n: (), _: ToolContext| async move {
        assert_ne!(n, (), "the tool is gone");
        Ok(())
    });
    let hang = tool_fn("hang", "Hangs.", move |_: (), _: ToolContext| {
        let alive = Alive::new(&there);
        async move {
            let _alive = alive;
            std::future::pending::<Result<()>>().await
        }
    })
    .effect(Effect::Read);
    Registry::default().agent(Strict(agent)).tool(give).tool(panic).tool(hang)
}

/// An agent whose output has to be words.
#[derive(Debug)]
struct Strict<A>(A);

#[async_trait::async_trait]
impl<A: apex_agents::Agent<Input = Request, Output = Value>> apex_agents::Agent for Strict<A> {
    type Input = Request;
    type Output = Value;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn purpose(&self) -> &str {
        self.0.purpose()
    }

    fn output_schema(&self) -> Value {
        serde_json::json!({"type": "string"})
    }

    async fn run(&self, input: Request, context: Context) -> Result<Value> {
        self.0.run(input, context).await
    }
}

/// What a run is asked, and the code that it has to fail with, if it has to.
fn asked(n: usize) -> (String, Option<&'static str>) {
    if n.is_multiple_of(2) {
        return (format!("good {n}"), None);
    }
    let bad = BAD[n / 2 % BAD.len()];
    let code = match bad {
        "panic" => Some("agent_panicked"),
        "hang" | "deaf" => Some("deadline_exceeded"),
        "flood notes" | "flood calls" => Some("agent_failed"),
        "garbage" => Some("bad_output"),
        _ => None,
    };
    (bad.to_owned(), code)
}

#[tokio::test(start_paused = true)]
async fn nobody_is_touched_by_what_others_runs_do() {
    let clock = clock();
    let each = runs() / USERS;
    let limits = RunLimits { running: each, queued: each, ..RunLimits::default() };
    let stores = memory::open(
        MemoryOptions { runs: limits, ..MemoryOptions::default() },
        Arc::clone(&clock),
    );
    let options = EngineOptions {
        parallel_runs: 2_000,
        step_deadline: Duration::from_secs(2),
        tool_timeout: Duration::from_secs(1),
        runs: limits,
        ..EngineOptions::default()
    };
    let alive = Arc::new(AtomicUsize::new(0));
    let node = Node::on(stores, clock, registry(&alive), options);
    let users: Vec<Principal> = (0..USERS).map(|_| node.user()).collect();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let all = (0..runs()).map(|n| {
        let (node, user) = (&node, &users[n % USERS]);
        async move {
            let (text, code) = asked(n);
            let accepted = node.ask(user, &text).await;
            let events = node.ended(user, accepted.run).await;
            assert_eq!(fault(&events), None, "{text}: {:?}", names(&events));
            let all_own = events.iter().all(|event| event.run == accepted.run);
            assert!(all_own, "{text}: an event of another run");
            match (&events.last().unwrap().event, code) {
                (Event::RunCompleted { result, .. }, None) => {
                    assert_eq!(result.text, format!("{text} and 7"));
                }
                (Event::RunFailed { error, .. }, Some(code)) => assert_eq!(error.code, code),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    });
    futures_util::future::join_all(all).await;
    // The engine lets go of what the last run left within a moment.
    for _ in 0..100 {
        if node.engine.running() == 0 && alive.load(Ordering::SeqCst) == 0 && tasks() <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.engine.running(), 0, "leases are given back");
    assert_eq!(alive.load(Ordering::SeqCst), 0, "no agent and no call is left");
    assert!(tasks() <= before, "{} tasks were {before}", tasks());
}
