//! Agents that are declared: the engine asks, checks, calls, and goes on after anything.

use apex_agents::model::{ChainOptions, ModelRequest, Part, ToolChoice};
use apex_agents::testkit::{
    Death, Does, Node, Scripted, calls, chain, clock, every_death, fault, names, once, says,
};
use apex_agents::{
    AgentOutput, Context, Declared, Effect, EngineOptions, Registry, Request, ToolContext, agent,
    agent_fn, tool_fn,
};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind};
use apex_core::event::{Decision, Envelope, Event, RunResult, RunStatus};
use apex_core::run::{RunState, Runner};
use apex_core::store::{Stores, memory};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

fn sums() -> Declared<RunResult> {
    agent("sums").instructions("Answer questions about sums.").tools(["add"])
}

fn with_add(registry: Registry) -> Registry {
    registry.tool(
        tool_fn("add", "Adds.", |n: Add, _: ToolContext| async move { Ok(n.a + n.b) })
            .effect(Effect::Read),
    )
}

async fn ended(registry: Registry, models: &[&Arc<Scripted>]) -> (Vec<Envelope>, RunResult) {
    let node = Node::with_models(registry, models);
    let user = node.user();
    let accepted = node.ask(&user, "What is 2 + 3, and 4 + 5?").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None, "{:?}", names(&events));
    let Event::RunCompleted { result, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    let result = result.clone();
    (events, result)
}

fn results(request: &ModelRequest) -> Vec<(String, bool)> {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    let results = parts.filter_map(|part| match part {
        Part::ToolResult(result) => Some((marked(&result.content).to_owned(), result.failed)),
        _ => None,
    });
    results.collect()
}

/// What stands between the marks of data.
fn marked(content: &str) -> &str {
    let inside = content.strip_prefix("<data ").and_then(|rest| rest.split_once(">\n"));
    inside.and_then(|(_, rest)| rest.rsplit_once("\n</data ")).unwrap().0
}

fn degraded(events: &[Envelope]) -> Vec<String> {
    match &events.last().unwrap().event {
        Event::RunCompleted { degraded, .. } => degraded.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_engine_calls_what_the_model_wants_and_hands_the_results_back() {
    let model = Scripted::new("openai", |_, before| match before {
        0 => calls([("add", json!({"a": 2, "b": 3})), ("add", json!({"a": 4, "b": 5}))]),
        _ => says("5 and 9."),
    });
    let (events, result) = ended(with_add(Registry::default().agent(sums())), &[&model]).await;
    assert_eq!((result.text.as_str(), result.status), ("5 and 9.", RunStatus::Answered));
    let asked = model.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].tools[0].description, "Adds.");
    assert_eq!(results(&asked[1]), [("5".to_owned(), false), ("9".to_owned(), false)]);
    assert_eq!(asked[1].messages.len(), 3);
    assert!(asked[0].system.as_ref().unwrap().contains("is data"));
    assert_eq!(names(&events).iter().filter(|name| **name == "tool_completed").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_with_a_call_the_model_is_told() {
    let model = Scripted::new("openai", |_, before| match before {
        0 => {
            calls([("add", json!({"a": "two"})), ("drop_tables", json!({})), ("fail", json!(null))])
        }
        _ => says("It cannot be told."),
    });
    let fail = tool_fn("fail", "Fails.", |_: (), _: ToolContext| async {
        Err::<(), _>(Error::new(Kind::NotFound, "test", "nothing there"))
    });
    // A tool that is there, but not the agent's.
    let other =
        tool_fn("drop_tables", "Drops.", |_: Value, _: ToolContext| async { Ok("dropped") });
    let registry = Registry::default().agent(sums().tools(["add", "fail"])).tool(fail).tool(other);
    let (_, result) = ended(with_add(registry), &[&model]).await;
    assert_eq!(result.text, "It cannot be told.");
    let told = results(&model.asked()[1]);
    assert!(told.iter().all(|(_, failed)| *failed), "{told:?}");
    assert!(told[0].0.starts_with("bad_arguments: "), "{told:?}");
    assert_eq!(told[1].0, "There is no such tool; there are: add, fail.");
    assert!(told[2].0.contains("nothing there"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn turns_have_an_end() {
    let model = Scripted::new("openai", |request, _| match request.tool_choice {
        ToolChoice::None => says("Enough."),
        _ => calls([("add", json!({"a": 1, "b": 1}))]),
    });
    let (_, result) = ended(with_add(Registry::default().agent(sums().turns(3))), &[&model]).await;
    assert_eq!((result.text.as_str(), model.asked().len()), ("Enough.", 4));
    // One that calls for ever is not asked for ever.
    let model = Scripted::always("openai", calls([("add", json!({"a": 1, "b": 1}))]));
    let (events, result) =
        ended(with_add(Registry::default().agent(sums().turns(3))), &[&model]).await;
    assert_eq!((result.status, model.asked().len()), (RunStatus::InsufficientData, 5));
    assert!(degraded(&events)[0].contains("it is empty"), "{events:?}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Sum {
    sum: i64,
}

impl AgentOutput for Sum {}

#[derive(Deserialize, JsonSchema)]
struct Summed {
    sums: Sum,
}

/// An agent that makes a sum, and one that says it.
fn typed(sums: Declared<Sum>) -> Registry {
    let planner = agent_fn("planner", "Plans.", |_: Request, run: Context| async move {
        Ok(run.team().plan("closer", &[]).unwrap_or_default())
    });
    let closer = agent_fn("closer", "Closes.", |input: Summed, _: Context| async move {
        Ok(input.sums.sum.to_string())
    });
    with_add(Registry::default().agent(planner).agent(sums).agent(closer))
}

#[tokio::test(start_paused = true)]
async fn an_output_is_held_against_its_schema_and_put_right_once() {
    let sums = || sums().output::<Sum>();
    let model = Scripted::new("openai", |_, before| match before {
        0 => says("The sum is 5."),
        _ => says("```json\n{\"sum\": 5}\n```"),
    });
    let (_, result) = ended(typed(sums()), &[&model]).await;
    assert_eq!(result.text, "5");
    let asked = model.asked();
    assert!(asked[0].system.as_ref().unwrap().contains("\"sum\""), "the schema is told");
    let Part::Text(told) = &asked[1].messages.last().unwrap().parts[0] else { panic!() };
    assert!(told.contains("it is no JSON object of the schema"), "{told}");

    // One that is wrong twice ends the step, and the run that needs it.
    let model = Scripted::always("openai", says("{\"sum\": \"five\"}"));
    let node = Node::with_models(typed(sums()), &[&model]);
    let user = node.user();
    let accepted = node.ask(&user, "2 + 3").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None);
    let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!((error.code.as_str(), model.asked().len()), ("unavailable", 2));
    assert!(error.message.contains("at /sum:"), "{error:?}");

    // Unless it says what it makes then.
    let registry = typed(sums().otherwise(|_, _| Sum { sum: 0 }));
    let (events, result) = ended(registry, &[&model]).await;
    assert_eq!(result.text, "0");
    assert_eq!(degraded(&events).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_model_it_says_so() {
    let node = Node::new(with_add(Registry::default().agent(sums())));
    let user = node.user();
    let accepted = node.ask(&user, "2 + 3").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(fault(&events), None);
    let Event::RunCompleted { result, degraded, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(result.status, RunStatus::InsufficientData);
    assert_eq!(result.text, "This was not answered: it takes a model, and there is no model.");
    assert_eq!(*degraded, ["sums works by a model, and there is no model."]);
    // And where none answers.
    let model = Scripted::always("openai", Does::Refuses);
    let (_, result) = ended(with_add(Registry::default().agent(sums())), &[&model]).await;
    assert!(result.text.contains("the models did not answer"), "{}", result.text);
}

/// Payments that were made, by their keys.
type Paid = Arc<Mutex<HashMap<String, u64>>>;

fn payer(paid: &Paid) -> Registry {
    let paid = Arc::clone(paid);
    let pay = tool_fn("pay", "Pays.", move |cents: u64, call: ToolContext| {
        *paid.lock().entry(call.idempotency_key().to_owned()).or_default() += 1;
        async move { Ok(format!("paid {cents}")) }
    })
    .effect(Effect::Idempotent)
    .needs_approval(|cents| *cents >= 100);
    let agent = agent("payer").instructions("Pay what is asked for.").tools(["pay"]);
    Registry::default().agent(agent).tool(pay)
}

/// A model that wants a small payment, then a large one, and tells what came of them.
fn paying() -> Arc<Scripted> {
    Scripted::new("openai", |request, _| {
        let done = results(request);
        match done.len() {
            0 => calls([("pay", json!(7))]),
            1 => calls([("pay", json!(700))]),
            _ => says(format!("{done:?}")),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_decision_for_days_and_nothing_is_asked_or_paid_again() {
    for decision in [Decision::Approve, Decision::Deny] {
        let (paid, model, clock) = (Paid::default(), paying(), clock());
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let node = || {
            let models = Some(chain(&stores, &clock, &[&model], once()));
            let options = EngineOptions {
                models,
                approval_timeout: Duration::from_secs(7 * 24 * 3_600),
                ..EngineOptions::default()
            };
            Node::on(stores.clone(), Arc::clone(&clock), payer(&paid), options)
        };
        let first = node();
        let user = first.user();
        let accepted = first.ask(&user, "pay").await;
        let asks = |event: &Event| matches!(event, Event::ApprovalRequested { .. });
        let events = first.until(&user, accepted.run, asks).await;
        let Event::ApprovalRequested { approval, digest, .. } = &events.last().unwrap().event
        else {
            panic!("{events:?}");
        };
        tokio::time::sleep(Duration::from_secs(3 * 24 * 3_600)).await;
        let view = stores.runs.view(&user, accepted.run).await.unwrap();
        assert_eq!((view.state, first.engine.running()), (RunState::Waiting, 0));
        // Another node goes on with it.
        drop(first);
        let second = node();
        second.engine.decide(&user, accepted.run, *approval, digest, decision).await.unwrap();
        let events = second.ended(&user, accepted.run).await;
        assert_eq!(fault(&events), None, "{:?}", names(&events));
        let answer = second.answer(&user, accepted).await;
        assert_eq!(model.asked().len(), 3, "no question is asked twice");
        let paid = paid.lock();
        assert!(paid.values().all(|times| *times == 1), "{paid:?}");
        match decision {
            Decision::Approve => {
                assert_eq!(answer, "[(\"paid 7\", false), (\"paid 700\", false)]");
                assert_eq!(paid.len(), 2);
            }
            Decision::Deny => {
                assert!(answer.contains("denied: "), "{answer}");
                assert_eq!(paid.len(), 1);
            }
        }
    }
}

#[test]
fn a_node_may_die_at_any_write_of_it() {
    let world = || (Paid::default(), sums_and_pays());
    let registry =
        |(paid, model): &(Paid, Arc<Scripted>), stores: &Stores, clock: &Arc<dyn Clock>| {
            let options = ChainOptions { tries: 1, ..ChainOptions::default() };
            let models = Some(chain(stores, clock, &[model], options));
            (payer(paid), EngineOptions { models, ..EngineOptions::default() })
        };
    let check = |(paid, model): (Paid, Arc<Scripted>), death: Death| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Death { write, dies, node, user, accepted } = death;
            let events = node.ended(&user, accepted.run).await;
            let told = format!("died {dies:?} write {write}: {:?}", names(&events));
            assert_eq!(fault(&events), None, "{told}");
            let answer = node.answer(&user, accepted).await;
            assert_eq!(answer, "[(\"paid 1\", false), (\"paid 2\", false), (\"paid 3\", false)]");
            let paid = paid.lock();
            assert_eq!(paid.len(), 3, "{told}");
            assert!(paid.values().all(|times| *times <= 2), "{told}: {paid:?}");
            // The one question that was in doubt is asked again, at most.
            assert!(model.asked().len() <= 4, "{told}: {}", model.asked().len());
        })
    };
    let deaths = every_death("pay", world, registry, check);
    assert!(deaths > 30, "only {deaths} writes");
}

/// A model that wants two payments at once, then a third.
fn sums_and_pays() -> Arc<Scripted> {
    Scripted::new("openai", |request, _| {
        let done = results(request);
        match done.len() {
            0 => calls([("pay", json!(1)), ("pay", json!(2))]),
            2 => calls([("pay", json!(3))]),
            _ => says(format!("{done:?}")),
        }
    })
}
