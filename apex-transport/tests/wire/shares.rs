//! A conversation that is shared: read and followed, and nothing more.

use crate::support::http::Answer;
use crate::support::listener::Listener;
use crate::support::runner::ScriptedRunner;
use crate::support::{Wire, bearer};
use apex_core::clock::SystemClock;
use apex_core::id::{RequestId, RunId, UserId};
use serde_json::{Value, json};
use std::time::Duration;

/// A user with a login.
struct User {
    token: String,
    auth: String,
    id: UserId,
}

impl User {
    async fn log_in(wire: &Wire, name: &str) -> Self {
        let token = wire.token(name).await;
        let id = wire.principal(&token).await.user();
        Self { auth: bearer(&token), token, id }
    }

    async fn ask(&self, wire: &Wire, method: &str, path: &str, body: &str) -> Answer {
        wire.ask(method, path, &[("authorization", &self.auth)], body.as_bytes()).await
    }

    async fn json(&self, wire: &Wire, path: &str) -> Value {
        let answer = self.ask(wire, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    async fn share(&self, wire: &Wire, thread: &str, with: UserId) -> Answer {
        let body = json!({"user": with}).to_string();
        self.ask(wire, "POST", &format!("/threads/{thread}/shares"), &body).await
    }
}

#[tokio::test]
async fn who_a_thread_is_shared_with_reads_and_follows_it_and_changes_nothing() {
    let wire = Wire::start().await;
    let (ada, bob) = (User::log_in(&wire, "ada").await, User::log_in(&wire, "bob").await);
    let mut socket = wire.socket(&ada.token).await;
    let done = socket.start("report thoughts 1").await;
    socket.events(&done["run"]).await;
    let (run, thread) = (done["run"].as_str().unwrap(), done["thread"].as_str().unwrap());
    let message = json!({"request_id": RequestId::new(&SystemClock), "text": "ask"}).to_string();
    let next = ada.ask(&wire, "POST", &format!("/threads/{thread}/messages"), &message).await;
    let open = next.json()["run"].as_str().unwrap().to_owned();
    let approval = ScriptedRunner::approval(open.parse::<RunId>().unwrap());

    for _ in 0..2 {
        assert_eq!(ada.share(&wire, thread, bob.id).await.status, 204);
    }
    let shares = ada.json(&wire, &format!("/threads/{thread}/shares")).await;
    assert_eq!(shares["items"][0]["user"], bob.id.to_string());
    assert_eq!(shares["items"].as_array().unwrap().len(), 1);

    assert_eq!(bob.json(&wire, "/threads").await["items"], json!([]));
    let listed = bob.json(&wire, "/threads?shared=true").await;
    assert_eq!(listed["items"][0]["thread"], thread);
    assert_eq!(listed["items"][0]["owner"], ada.id.to_string());
    let read = bob.json(&wire, &format!("/threads/{thread}")).await;
    assert!(read["messages"]["items"].as_array().unwrap().len() >= 2);
    assert_eq!(bob.json(&wire, &format!("/runs/{run}")).await["state"], "completed");
    let report = bob.ask(&wire, "GET", &format!("/runs/{run}/report.json"), "").await;
    assert_eq!(report.status, 200, "{}", report.text());
    let mut reader = wire.socket(&bob.token).await;
    let followed = reader.call(json!({"frame": "subscribe", "run": run})).await;
    assert_eq!(
        (&followed["frame"], &followed["state"]),
        (&json!("subscribed"), &json!("completed"))
    );
    reader.events(&json!(run)).await;

    // All else is as if it were not there.
    let decision = r#"{"digest":"d1","decision":"approve"}"#;
    let other = UserId::new(&SystemClock);
    for (method, path, body) in [
        ("POST", format!("/threads/{thread}/messages"), message.as_str()),
        ("DELETE", format!("/threads/{thread}"), ""),
        ("GET", format!("/threads/{thread}/shares"), ""),
        ("POST", format!("/threads/{thread}/shares"), &json!({"user": other}).to_string()),
        ("DELETE", format!("/threads/{thread}/shares/{other}"), ""),
        ("POST", format!("/runs/{open}/cancel"), ""),
        ("POST", format!("/runs/{open}/approvals/{approval}"), decision),
    ] {
        let refused = bob.ask(&wire, method, &path, body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (404, "not_found"),
            "{method} {path}"
        );
    }
    for frame in [
        json!({"frame": "cancel", "run": open}),
        json!({"frame": "stop", "run": open, "step": "s1"}),
        json!({"frame": "decide", "run": open, "approval": approval, "digest": "d1", "decision": "approve"}),
        json!({"frame": "message", "request_id": RequestId::new(&SystemClock), "text": "x", "thread": thread}),
    ] {
        assert_eq!(reader.call(frame.clone()).await["code"], "not_found", "{frame}");
    }
    assert_eq!(ada.json(&wire, &format!("/runs/{open}")).await["ended_at"], Value::Null);
    // Nor is it in the reader's own lists.
    assert_eq!(reader.call(json!({"frame": "inbox"})).await["head"], 0);
    let none = ada.share(&wire, thread, ada.id).await;
    assert_eq!((none.status, none.code().as_str()), (400, "bad_request"));
    // Who does not want it any more leaves.
    let leave = format!("/threads/{thread}/shares/{}", bob.id);
    assert_eq!(bob.ask(&wire, "DELETE", &leave, "").await.status, 204);
    assert_eq!(bob.ask(&wire, "GET", &format!("/threads/{thread}"), "").await.status, 404);
    ada.ask(&wire, "POST", &format!("/runs/{open}/cancel"), "").await;
}

#[tokio::test]
async fn what_is_taken_back_is_followed_no_further() {
    let wire = Wire::start().await;
    let (ada, bob) = (User::log_in(&wire, "ada").await, User::log_in(&wire, "bob").await);
    let mut socket = wire.socket(&ada.token).await;
    let begun = socket.start("ask").await;
    let (run, thread) = (begun["run"].as_str().unwrap(), begun["thread"].as_str().unwrap());
    assert_eq!(ada.share(&wire, thread, bob.id).await.status, 204);
    let mut reader = wire.socket(&bob.token).await;
    let id = reader.say(json!({"frame": "subscribe", "run": run})).await;
    assert_eq!(reader.expect("subscribed").await["id"], id);
    let events = format!("/runs/{run}/events");
    let headers = [("authorization", bob.auth.as_str())];
    let mut listener = Listener::open(&wire, &events, &headers).await;
    assert_eq!(listener.status, 200);

    let taken = format!("/threads/{thread}/shares/{}", bob.id);
    assert_eq!(ada.ask(&wire, "DELETE", &taken, "").await.status, 204);
    let ended = reader.expect("error").await;
    assert_eq!((&ended["id"], &ended["code"]), (&json!(id), &json!("not_found")));
    // Long before the look that needs no wake-up.
    let rest = tokio::time::timeout(Duration::from_secs(10), listener.rest()).await;
    assert!(rest.expect("the stream goes on").len() < 10);
    assert_eq!(bob.ask(&wire, "GET", &events, "").await.status, 404);
    // The connection itself is the reader's own, and stays.
    assert_eq!(reader.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    assert_eq!(ada.ask(&wire, "DELETE", &taken, "").await.status, 404);
    ada.ask(&wire, "POST", &format!("/runs/{run}/cancel"), "").await;
}
