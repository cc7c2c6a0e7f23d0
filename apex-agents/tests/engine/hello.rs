//! A hello with one tool of one's own.

use apex_agents::testkit::{Node, names};
use apex_agents::{Context, Registry, Request, ToolContext, agent_fn, tool_fn};
use apex_core::event::{Event, ToolOutcome};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

fn hello(arguments: Value) -> Registry {
    let add =
        tool_fn("add", "Adds two numbers.", |n: Add, _: ToolContext| async move { Ok(n.a + n.b) });
    let hello = agent_fn("hello", "Adds.", move |_: Request, run: Context| {
        let arguments = arguments.clone();
        async move {
            let sum: i64 = run.call("add", arguments).await?;
            Ok(format!("the sum is {sum}"))
        }
    });
    Registry::default().tool(add).agent(hello)
}

#[tokio::test(start_paused = true)]
async fn one_agent_with_one_tool_answers() {
    let node = Node::new(hello(json!({"a": 2, "b": 3})));
    let user = node.user();
    let accepted = node.ask(&user, "add").await;
    let events = node.ended(&user, accepted.run).await;
    let expected = [
        "run_started",
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names(&events), expected);
    let Event::RunCompleted { result, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(result.text, "the sum is 5");
    assert_eq!(node.answer(&user, accepted).await, "the sum is 5");
}

#[tokio::test(start_paused = true)]
async fn arguments_that_do_not_fit_never_reach_the_tool_and_say_where() {
    let node = Node::new(hello(json!({"a": "two", "b": 3, "password": "hunter2"})));
    let user = node.user();
    let run = node.ask(&user, "add").await.run;
    let events = node.ended(&user, run).await;
    let completed = events.iter().find_map(|envelope| match &envelope.event {
        Event::ToolCompleted { outcome, summary, .. } => Some((*outcome, summary.clone())),
        _ => None,
    });
    let (outcome, summary) = completed.unwrap();
    assert_eq!(outcome, ToolOutcome::Error);
    assert!(summary.contains("arguments of add do not fit: at /a:"), "{summary}");
    let all = format!("{events:?}");
    assert!(!all.contains("hunter2") && !all.contains("\"two\" is"), "{all}");
    let Event::RunFailed { error, .. } = &events.last().unwrap().event else {
        panic!("{events:?}");
    };
    assert_eq!(error.code, "bad_arguments");
}
