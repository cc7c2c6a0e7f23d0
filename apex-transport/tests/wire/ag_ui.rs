//! The AG-UI protocol over the same runs.

use crate::support::listener::{Listener, Seen, uuid};
use crate::support::{Wire, bearer};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A front end with its own conversation.
struct Front<'a> {
    wire: &'a Wire,
    authorization: String,
    thread: String,
    messages: Vec<Value>,
}

impl<'a> Front<'a> {
    async fn new(wire: &'a Wire, user: &str) -> Self {
        let authorization = bearer(&wire.token(user).await);
        Self { wire, authorization, thread: uuid(), messages: Vec::new() }
    }

    fn say(&mut self, text: &str) -> Value {
        self.messages.push(json!({"id": uuid(), "role": "user", "content": text}));
        json!({
            "threadId": self.thread, "runId": uuid(), "messages": self.messages, "state": {}, "tools": [],
            "context": [], "forwardedProps": {},
        })
    }

    async fn post(&self, input: &Value, last: Option<&str>) -> Listener {
        let mut headers = vec![("authorization", self.authorization.as_str())];
        headers.extend(last.map(|last| ("last-event-id", last)));
        Listener::ask(self.wire, "POST /ag-ui", &headers, &input.to_string()).await
    }

    async fn run(&mut self, input: &Value) -> Vec<Seen> {
        let mut listener = self.post(input, None).await;
        assert_eq!(listener.status, 200, "{}", listener.head);
        let seen = listener.rest().await;
        for event in types_and(&seen, "TEXT_MESSAGE_CONTENT") {
            self.messages.push(json!({
                "id": event["messageId"], "role": "assistant", "content": event["delta"],
            }));
        }
        seen
    }
}

fn types(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|event| event.data.as_ref().unwrap()["type"].as_str().unwrap()).collect()
}

fn types_and<'a>(seen: &'a [Seen], kind: &str) -> Vec<&'a Value> {
    seen.iter()
        .filter_map(|event| event.data.as_ref())
        .filter(|data| data["type"] == kind)
        .collect()
}

/// What AG-UI's own client demands of a stream: begun first, ended once and last, nothing open at the end.
fn check_course(seen: &[Seen]) {
    let mut open = HashSet::new();
    for (n, event) in seen.iter().enumerate() {
        let data = event.data.as_ref().unwrap();
        let (kind, last) = (data["type"].as_str().unwrap(), n + 1 == seen.len());
        assert_eq!(kind == "RUN_STARTED", n == 0, "{n}: {data}");
        assert_eq!(matches!(kind, "RUN_FINISHED" | "RUN_ERROR"), last, "{n}: {data}");
        let key = |name: &str| format!("{name} {}", data[name].as_str().unwrap());
        match kind {
            "STEP_STARTED" => assert!(open.insert(key("stepName"))),
            "STEP_FINISHED" => assert!(open.remove(&key("stepName"))),
            "SUBAGENT_STARTED" => assert!(open.insert(key("subagentRunId"))),
            "SUBAGENT_FINISHED" | "SUBAGENT_ERROR" => assert!(open.remove(&key("subagentRunId"))),
            "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START" => {
                assert!(open.insert(key("messageId")));
            }
            "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END" => assert!(open.remove(&key("messageId"))),
            "TOOL_CALL_START" => assert!(open.insert(key("toolCallId"))),
            "TOOL_CALL_END" => assert!(open.remove(&key("toolCallId"))),
            "RUN_FINISHED" => assert!(open.is_empty(), "{open:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_sees_a_run_in_its_own_terms() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let input = front.say("thoughts 2 deltas 3");
    let seen = front.run(&input).await;
    check_course(&seen);
    let started = seen[0].data.as_ref().unwrap();
    assert_eq!((&started["threadId"], &started["runId"]), (&input["threadId"], &input["runId"]));
    let thoughts: Vec<_> = types_and(&seen, "REASONING_MESSAGE_CONTENT")
        .iter()
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(thoughts, ["thought 0", "thought 1"]);
    let finished = types_and(&seen, "RUN_FINISHED")[0];
    assert_eq!(finished["outcome"], json!({"type": "success"}));
    assert_eq!(finished["result"]["status"], "answered");
    assert_eq!(front.messages.last().unwrap()["content"], "done");
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conversation_goes_on_and_the_same_run_is_the_same_run() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let first = front.say("thoughts 1");
    let seen = front.run(&first).await;
    // The same run again: told again, not done again.
    let mut again = front.post(&first, None).await;
    assert_eq!(types(&again.rest().await), types(&seen));
    let second = front.say("thoughts 2");
    front.run(&second).await;
    let headers = [("authorization", front.authorization.as_str())];
    let threads = wire.get("/threads", &headers).await.json();
    assert_eq!(threads["items"].as_array().unwrap().len(), 1, "{threads}");
    // One that knows the thread by its own name goes on in it too.
    let thread = threads["items"][0]["thread"].as_str().unwrap().to_owned();
    let mut other = Front { thread: thread.clone(), messages: Vec::new(), ..front };
    let third = other.say("thoughts 1");
    other.run(&third).await;
    let headers = [("authorization", other.authorization.as_str())];
    let thread = wire.get(&format!("/threads/{thread}"), &headers).await.json();
    assert_eq!(thread["messages"]["items"].as_array().unwrap().len(), 3, "{thread}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_after_any_event_the_rest_follows() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let input = front.say("thoughts 4");
    let seen = front.run(&input).await;
    assert!(seen.iter().all(|event| event.id.is_some()));
    for cut in 0..seen.len() - 1 {
        let mut listener = front.post(&input, seen[cut].id.as_deref()).await;
        let rest = listener.rest().await;
        assert_eq!(rest, seen[cut + 1..], "after {cut}");
    }
    // In another life of the log nothing can be gone on from: where things stand is told.
    let id = "0190d1c2-0000-7000-8000-000000000000:3:1";
    let rest = front.post(&input, Some(id)).await.rest().await;
    let expected = [
        "CUSTOM",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ];
    assert_eq!(types(&rest), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_an_interrupt_and_resume_decides_it() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let input = front.say("ask");
    let seen = front.run(&input).await;
    check_course(&seen);
    let outcome = &types_and(&seen, "RUN_FINISHED")[0]["outcome"];
    assert_eq!(outcome["type"], "interrupt");
    let interrupt = outcome["interrupts"][0]["id"].clone();
    let resume = |status: &str, payload: Value| {
        let mut resume = input.clone();
        resume["runId"] = uuid().into();
        resume["resume"] =
            json!([{"interruptId": interrupt, "status": status, "payload": payload}]);
        resume
    };
    // Somebody else cannot decide it, and nothing decides it by accident.
    let stranger = Front::new(&wire, "bob").await;
    let approve = resume("resolved", json!({"decision": "approve"}));
    assert_eq!(stranger.post(&approve, None).await.status, 404);
    assert_eq!(front.post(&resume("resolved", json!({})), None).await.status, 400);
    let seen = front.run(&approve).await;
    check_course(&seen);
    assert_eq!(types_and(&seen, "RUN_FINISHED")[0]["outcome"]["type"], "success");
    assert_eq!(types_and(&seen, "CUSTOM")[0]["name"], "approval_decided");
    assert_eq!(seen[0].data.as_ref().unwrap()["runId"], approve["runId"]);
    // Cut and asked for again, the decision stays the one that was made.
    for cut in 0..seen.len() - 1 {
        let rest = front.post(&approve, seen[cut].id.as_deref()).await.rest().await;
        assert_eq!(rest, seen[cut + 1..], "after {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_says_so() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let input = front.say("hold");
    let mut listener = front.post(&input, None).await;
    let mut seen = Vec::new();
    while let Some(event) = listener.next().await {
        let Some(data) = &event.data else { continue };
        if data["type"] == "SUBAGENT_STARTED" {
            let run = data["subagentRunId"].as_str().unwrap().split(':').next().unwrap().to_owned();
            let headers = [("authorization", front.authorization.as_str())];
            let answer = wire.post(&format!("/runs/{run}/cancel"), &headers, "").await;
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        seen.push(event);
    }
    check_course(&seen);
    assert_eq!(types_and(&seen, "RUN_FINISHED")[0]["outcome"], json!({"type": "cancelled"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_cannot_be_run_gets_a_status_and_starts_nothing() {
    let wire = Wire::start().await;
    let mut front = Front::new(&wire, "ada").await;
    let input = front.say("thoughts 1");
    assert_eq!(wire.post("/ag-ui", &[], &input.to_string()).await.status, 401);
    let cookie = format!("__Host-apex_session={}", wire.token("ada").await);
    let from_elsewhere = wire.post("/ag-ui", &[("cookie", &cookie)], &input.to_string()).await;
    assert_eq!(from_elsewhere.code(), "csrf");
    let headers = [("authorization", front.authorization.as_str())];
    for (name, value) in [
        ("messages", json!([])),
        ("messages", json!([{"id": "1", "role": "user", "content": [{"type": "image"}]}])),
        ("messages", json!([{"id": "1", "role": "user"}])),
        ("runId", json!("")),
        ("runId", json!("x".repeat(300))),
        ("threadId", json!(7)),
        ("resume", json!([{"interruptId": "a.b.c", "status": "cancelled"}])),
    ] {
        let mut bad = input.clone();
        bad[name] = value;
        let answer = wire.post("/ag-ui", &headers, &bad.to_string()).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{name}");
    }
    let last = [headers[0], ("last-event-id", "17")];
    assert_eq!(wire.post("/ag-ui", &last, &input.to_string()).await.code(), "bad_request");
    assert_eq!(wire.get("/threads", &headers).await.json()["items"], json!([]));
    wire.emptied().await;
}
