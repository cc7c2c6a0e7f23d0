//! Runs again from their records: the same agents do the same, and the first difference of others is named.

use apex_agents::replay::{Recording, Replay};
use apex_agents::testkit::{Node, Scripted, calls, chain, clock, once, says};
use apex_agents::{
    Context, EngineOptions, Plan, PlanStep, Registry, Request, ToolContext, agent, agent_fn,
    tool_fn,
};
use apex_core::error::Kind;
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Runner};
use apex_core::store::memory;
use apex_core::thread::Share;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A planner that asks for everything there is, an agent that is asked much, and a declared one that answers.
fn registry(made: &Arc<AtomicUsize>, second: &'static str, instructions: &str) -> Registry {
    let made = Arc::clone(made);
    let planner = agent_fn("planner", "Plans.", |_: Request, run: Context| async move {
        let (_, _) = (run.now().await?, run.random().await?);
        let _: Value = run.call("note", "plan").await?;
        let steps = vec![PlanStep::new("worker"), PlanStep::new("teller").needs(["worker"])];
        Ok(Plan::from(steps))
    });
    let worker = agent_fn("worker", "Works.", move |_: Value, run: Context| async move {
        let first: String = run.call("note", "first").await?;
        let second: String = run.call("note", second).await?;
        let long: String = run.call("note", "x".repeat(6_000)).await?;
        Ok(json!([first, second, long.len()]))
    });
    let note = tool_fn("note", "Notes.", move |what: String, _: ToolContext| {
        let number = made.fetch_add(1, Ordering::SeqCst);
        async move { Ok(format!("{what} {number}")) }
    });
    let teller = agent("teller").instructions(instructions).tools(["note"]).needs(["worker"]);
    Registry::default().agent(planner).agent(worker).agent(teller).tool(note)
}

const INSTRUCTIONS: &str = "Tell what was done.";

fn model(answer: &'static str) -> Arc<Scripted> {
    Scripted::new("openai", move |request, _| match request.messages.len() {
        1 => calls([("note", json!("told"))]),
        _ => says(answer),
    })
}

/// A run, and its record.
async fn recorded(record: bool) -> (Node, Principal, Accepted, Arc<AtomicUsize>) {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let model = model("All of it was done.");
    let models = Some(chain(&stores, &clock, &[&model], once()));
    let options = EngineOptions { models, record, ..EngineOptions::default() };
    let made = Arc::new(AtomicUsize::new(0));
    let node = Node::on(stores, clock, registry(&made, "second", INSTRUCTIONS), options);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    node.ended(&user, accepted.run).await;
    (node, user, accepted, made)
}

#[tokio::test(start_paused = true)]
async fn the_same_agents_do_the_same_and_nothing_is_asked_or_called() {
    let (node, user, accepted, made) = recorded(true).await;
    let recording = node.engine.recording(&user, accepted.run).await.unwrap();
    // It is whole by itself: also as a file, without the stores.
    let json = serde_json::to_string(&recording).unwrap();
    let recording: Recording = serde_json::from_str(&json).unwrap();
    let before = made.load(Ordering::SeqCst);
    let replay = Replay::new(registry(&made, "second", INSTRUCTIONS)).unwrap();
    let replayed = replay.run(&recording, &user).await;
    assert_eq!(replayed.first(), None);
    assert_eq!(replayed.answer, replayed.recorded);
    assert_eq!(replayed.answer.unwrap().text, "All of it was done.");
    assert_eq!((replayed.answered, replayed.asked), (9, 0));
    assert_eq!(made.load(Ordering::SeqCst), before, "no tool was called");
    assert_eq!(replayed.usage.output_tokens, replayed.recorded_usage.output_tokens);
    let agents: Vec<&str> = recording.effects().map(|(agent, _)| agent).collect();
    assert_eq!(agents, ["planner", "worker", "teller"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_difference_is_named() {
    let (node, user, accepted, made) = recorded(true).await;
    let recording = node.engine.recording(&user, accepted.run).await.unwrap();
    let replay = Replay::new(registry(&made, "another", INSTRUCTIONS)).unwrap();
    let replayed = replay.run(&recording, &user).await;
    assert_eq!(replayed.differences.len(), 1);
    let told = replayed.first().unwrap().to_string();
    assert!(told.starts_with("worker: effect 2 was a call of note (arguments "), "{told}");
    assert_eq!(replayed.answer, None);
    // Other instructions are another question.
    let replay = Replay::new(registry(&made, "second", "Tell it briefly.")).unwrap();
    let replayed = replay.run(&recording, &user).await;
    let told = replayed.first().unwrap().to_string();
    assert!(told.starts_with("teller: effect 1 was a question to a model ("), "{told}");
}

#[tokio::test(start_paused = true)]
async fn with_another_model_it_tells_what_would_have_been() {
    let (node, user, accepted, made) = recorded(true).await;
    let recording = node.engine.recording(&user, accepted.run).await.unwrap();
    let before = made.load(Ordering::SeqCst);
    let other = model("It was done.");
    let models = chain(&node.stores, &node.clock, &[&other], once());
    let replay = Replay::new(registry(&made, "second", "Tell it briefly.")).unwrap();
    let replayed = replay.models(models).run(&recording, &user).await;
    assert_eq!(replayed.answer.as_ref().unwrap().text, "It was done.");
    assert_eq!(other.asked().len(), 2);
    assert!(other.asked()[0].system.as_ref().unwrap().starts_with("Tell it briefly."));
    assert_eq!((replayed.asked, made.load(Ordering::SeqCst)), (2, before), "no tool was called");
    let [difference] = &replayed.differences[..] else { panic!("{:?}", replayed.differences) };
    assert_eq!((difference.agent.as_str(), difference.effect), ("teller", None));
    assert_eq!(replayed.usage.output_tokens, 200);
    assert!(replayed.usage.cost_usd.is_some());

    // A model that wants another call than was made gets none.
    let curious = Scripted::new("openai", |request, _| match request.messages.len() {
        1 => calls([("note", json!("unheard of"))]),
        _ => says("It cannot be told."),
    });
    let models = chain(&node.stores, &node.clock, &[&curious], once());
    let replay = Replay::new(registry(&made, "second", INSTRUCTIONS)).unwrap();
    let replayed = replay.models(models).run(&recording, &user).await;
    assert_eq!(made.load(Ordering::SeqCst), 5, "no tool was called");
    let told = replayed.first().unwrap().to_string();
    assert!(told.starts_with("teller: effect 2 was a call of note"), "{told}");
    assert_eq!(replayed.answer.unwrap().text, "It cannot be told.");
}

#[tokio::test(start_paused = true)]
async fn a_record_is_its_users_and_only_there_where_it_is_kept() {
    let (node, user, accepted, _) = recorded(false).await;
    let error = node.engine.recording(&user, accepted.run).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let (node, user, accepted, _) = recorded(true).await;
    let other = node.user();
    let error = node.engine.recording(&other, accepted.run).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(node.engine.recording(&user, accepted.run).await.is_ok());
    // Who may read the conversation sees what was said and done, not what tools gave back.
    let share = Share { user: other.user(), at: node.clock.now() };
    node.stores.threads.share(&user, accepted.thread, share).await.unwrap();
    assert!(node.stores.runs.view(&other, accepted.run).await.is_ok());
    let error = node.engine.recording(&other, accepted.run).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_cancelled_is_replayed_up_to_there() {
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let stuck = || {
        let agent = agent_fn("stuck", "Hangs.", |_: Request, run: Context| async move {
            let _: String = run.call("note", "one").await?;
            let _: String = run.call("hang", ()).await?;
            Ok(String::new())
        });
        let note = tool_fn("note", "Notes.", |what: String, _: ToolContext| async { Ok(what) });
        let hang = tool_fn("hang", "Hangs.", |_: (), _: ToolContext| {
            std::future::pending::<apex_core::error::Result<String>>()
        });
        Registry::default().agent(agent).tool(note).tool(hang)
    };
    let options = EngineOptions { record: true, ..EngineOptions::default() };
    let node = Node::on(stores, clock, stuck(), options);
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    node.engine.cancel(&user, accepted.run).await.unwrap();
    node.ended(&user, accepted.run).await;
    let recording = node.engine.recording(&user, accepted.run).await.unwrap();
    let replayed = Replay::new(stuck()).unwrap().run(&recording, &user).await;
    assert_eq!((replayed.differences.len(), replayed.answered), (0, 1));
    assert_eq!(replayed.answer, None);
}
