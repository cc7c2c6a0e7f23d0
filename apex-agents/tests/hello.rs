//! A hello with one tool of one's own.

use apex_agents::{
    Context, Engine, EngineOptions, Registry, Request, ToolContext, agent_fn, tool_fn,
};
use apex_core::clock::SystemClock;
use apex_core::event::Event;
use apex_core::id::{RequestId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Delivery, Live, Message, Position, Runner, Subscription};
use apex_core::store::memory;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[tokio::test]
async fn hello() {
    let add = tool_fn(
        "add",
        "Adds two numbers.",
        |n: Add, _: ToolContext| async move { Ok(n.a + n.b) },
    );
    let hello = agent_fn("hello", "Adds.", |_: Request, run: Context| async move {
        let sum: i64 = run.call("add", json!({"a": 2, "b": 3})).await?;
        Ok(format!("2 + 3 = {sum}"))
    });
    let stores = memory::open(memory::MemoryOptions::default(), Arc::new(SystemClock));
    let registry = Registry::default().tool(add).agent(hello);
    let engine = Engine::new(
        stores.clone(),
        Live::default(),
        Arc::new(SystemClock),
        registry,
        EngineOptions::default(),
    )
    .unwrap();
    engine.launch();
    let user = Principal::vouched(UserId::new(&SystemClock), Scopes::USER);
    let message = Message {
        request_id: RequestId::new(&SystemClock),
        thread: None,
        text: "add".into(),
        attachments: Vec::new(),
    };
    let accepted = engine.start(&user, message).await.unwrap();
    let (_, mut events) = Subscription::open(
        Arc::clone(&stores.runs),
        &*stores.wakeup,
        &Live::default(),
        user,
        accepted.run,
        Position::default(),
    )
    .await
    .unwrap();
    let mut seen = Vec::new();
    loop {
        match events.next().await.unwrap() {
            Delivery::Events(recorded) => {
                seen.extend(recorded.iter().map(|event| event.decode().unwrap().event))
            }
            Delivery::End(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let names: Vec<_> = seen.iter().map(Event::name).collect();
    assert_eq!(
        names,
        [
            "run_started",
            "agent_started",
            "agent_thinking",
            "tool_executing",
            "tool_completed",
            "agent_completed",
            "run_completed"
        ]
    );
    let Some(Event::RunCompleted { result, .. }) = seen.last() else {
        panic!()
    };
    assert_eq!(result.text, "2 + 3 = 5");
}
