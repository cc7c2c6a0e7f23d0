//! What the dispatcher and the contexts promise to tools and agents.

use apex_agents::testkit::{Node, clock};
use apex_agents::{Context, EngineOptions, Registry, Request, ToolContext, agent_fn, tool_fn};
use apex_core::error::Kind;
use apex_core::event::Event;
use apex_core::run::{Delivery, Live, Position, Subscription};
use apex_core::store::memory;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn what_is_large_is_kept_as_an_artifact_and_comes_back_whole() {
    let much = tool_fn("much", "Gives much.", |n: usize, call: ToolContext| async move {
        call.put_artifact("own.txt", "text/plain", "mine").await?;
        Ok("m".repeat(n))
    });
    let agent = agent_fn("a", "Asks for much.", |_: Request, run: Context| async move {
        let much: String = run.call("much", 1_000_000).await?;
        Ok(json!([much.len(), much]))
    });
    let closer = agent_fn("closer", "Answers.", |input: Value, _: Context| async move {
        Ok(format!("{} of {}", input["a"][1].as_str().unwrap().len(), input["a"][0]))
    });
    let planner = agent_fn("planner", "Plans.", |_: Request, _: Context| async {
        let steps = vec![
            apex_agents::PlanStep::new("a"),
            apex_agents::PlanStep::new("closer").needs(["a"]),
        ];
        Ok(apex_agents::Plan::from(steps))
    });
    let node = Node::new(Registry::default().agent(planner).agent(agent).agent(closer).tool(much));
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    let events = node.ended(&user, accepted.run).await;
    assert_eq!(node.answer(&user, accepted).await, "1000000 of 1000000");
    let output = events.iter().find_map(|envelope| match &envelope.event {
        Event::AgentCompleted { agent, output, .. } if agent == "a" => Some(output.clone()),
        _ => None,
    });
    let output = output.unwrap();
    assert!(
        output["bytes"].as_u64().unwrap() > 1_000_000 && output["artifact"].is_string(),
        "{output}"
    );
    let kept = node.stores.artifacts.list(&user, accepted.run).await.unwrap();
    let names: Vec<&str> = kept.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["c1-much.json", "own.txt", "s2-a.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_is_refused_with_what_to_do() {
    let agent = agent_fn("a", "Tries.", |_: Request, run: Context| async move {
        let unknown = run.call::<Value>("ad", json!({})).await.unwrap_err();
        let large = run.call::<Value>("echo", "x".repeat(40_000)).await.unwrap_err();
        let other = run.call::<u64>("echo", "text").await.unwrap_err();
        assert_eq!(
            [unknown.kind(), large.kind(), other.kind()],
            [Kind::BadArguments, Kind::TooLarge, Kind::BadOutput]
        );
        Ok(format!("{unknown}; {large}"))
    });
    let echo =
        tool_fn("echo", "Gives it back.", |text: String, _: ToolContext| async move { Ok(text) });
    let node = Node::new(Registry::default().agent(agent).tool(echo));
    let user = node.user();
    let accepted = node.ask(&user, "go").await;
    node.ended(&user, accepted.run).await;
    let told = node.answer(&user, accepted).await;
    assert!(told.contains("there is no tool ad; there are: echo"), "{told}");
    assert!(told.contains("hand over an artifact"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_to_those_who_watch_and_never_recorded() {
    let work = tool_fn("work", "Works.", |_: (), call: ToolContext| async move {
        for done in 0..=1_000 {
            call.progress(done, Some(1_000), "rows");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    });
    let agent = agent_fn("a", "Has it done.", |_: Request, run: Context| async move {
        run.call::<()>("work", ()).await?;
        Ok(String::new())
    });
    let clock = apex_agents::testkit::clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let live = Live::default();
    let registry = Registry::default().agent(agent).tool(work);
    let options = apex_agents::EngineOptions::default();
    let observer = apex_core::health::Observer::quiet(Arc::clone(&clock));
    let engine = apex_agents::Engine::new(
        stores.clone(),
        live.clone(),
        Arc::clone(&clock),
        registry,
        observer,
        options,
    )
    .unwrap();
    let node = Node { stores, clock, engine, live: Live::default() };
    let user = node.user();
    let run = node.ask(&user, "go").await.run;
    let log = Arc::clone(&node.stores.runs);
    let (_, mut watch) = Subscription::open(
        log,
        &*node.stores.wakeup,
        &live,
        user.clone(),
        run,
        Position::default(),
    )
    .await
    .unwrap();
    node.engine.launch();
    let mut shown = Vec::new();
    loop {
        match watch.next().await.unwrap() {
            Delivery::Live(event) => match event.decode().unwrap().event {
                Event::Progress { done, total, .. } => shown.push((done, total)),
                other => panic!("{other:?}"),
            },
            Delivery::Events(events) => {
                assert!(events.iter().all(|event| !event.decode().unwrap().event.is_volatile()));
            }
            Delivery::End(_) => break,
            Delivery::Reset { .. } => panic!("a reset"),
        }
    }
    // Ten seconds of work, at most ten notes in each.
    assert!((90..=102).contains(&shown.len()), "{}", shown.len());
    assert!(shown.is_sorted());
    assert_eq!(shown.last(), Some(&(1_000, Some(1_000))));
}

#[tokio::test(start_paused = true)]
async fn a_user_makes_so_many_calls_a_minute_over_all_runs_and_others_have_their_own() {
    let agent = agent_fn("a", "Calls.", |_: Request, run: Context| async move {
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(match run.call::<u32>("echo", 1).await {
                Ok(_) => "called".to_owned(),
                Err(error) => error.code().to_owned(),
            });
        }
        Ok(told.join(" "))
    });
    let echo = tool_fn("echo", "Echoes.", |n: u32, _: ToolContext| async move { Ok(n) });
    let registry = Registry::default().agent(agent).tool(echo);
    let options = EngineOptions { user_calls_per_minute: Some(4), ..EngineOptions::default() };
    let clock = clock();
    let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
    let node = Node::on(stores, clock, registry, options);
    let (ada, bob) = (node.user(), node.user());
    for (user, told) in [
        (&ada, "called called called"),
        (&ada, "called rate_limited rate_limited"),
        (&bob, "called called called"),
    ] {
        let accepted = node.ask(user, "go").await;
        node.ended(user, accepted.run).await;
        assert_eq!(node.answer(user, accepted).await, told);
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let accepted = node.ask(&ada, "go").await;
    node.ended(&ada, accepted.run).await;
    assert_eq!(node.answer(&ada, accepted).await, "called called rate_limited");
}
