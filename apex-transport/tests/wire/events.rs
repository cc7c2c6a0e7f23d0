//! Server-sent events: what follows a position, live, to the end, and nothing of anybody else's.

use crate::support::listener::{Listener, Seen, begin, ended};
use crate::support::{Settings, Wire, bearer};
use apex_core::run::RunLimits;
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn numbers(seen: &[Seen]) -> Vec<u64> {
    seen.iter().filter_map(|event| event.data.as_ref()?["seq"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_followed_from_its_beginning_to_its_end() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let run = begin(&wire, &token, "slow 5 thoughts 40 deltas 5").await;
    let path = format!("/runs/{run}/events");
    let mut listener = Listener::open(&wire, &path, &[("authorization", &bearer(&token))]).await;
    assert_eq!(listener.status, 200);
    for header in ["text/event-stream", "x-accel-buffering: no", "no-store, no-transform"] {
        assert!(listener.head.contains(header), "{}", listener.head);
    }
    assert_eq!(listener.next().await.unwrap().retry, Some(1_000));
    let seen = listener.rest().await;
    assert_eq!(numbers(&seen), (1..=44).collect::<Vec<_>>());
    let epoch = ended(&wire, &token, run).await.epoch;
    for event in &seen {
        let data = event.data.as_ref().unwrap();
        let id = data["seq"].as_u64().map(|seq| format!("{epoch}:{seq}"));
        assert_eq!((&event.id, &event.name), (&id, &None), "{data}");
        assert_eq!((data["run"].as_str(), data.get("frame")), (Some(&*run.to_string()), None));
    }
    assert_eq!(seen.last().unwrap().data.as_ref().unwrap()["type"], "run_completed");
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_gets_the_rest_and_after_the_end_nothing() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let run = begin(&wire, &token, "thoughts 30").await;
    let view = ended(&wire, &token, run).await;
    let (epoch, path) = (view.epoch, format!("/runs/{run}/events"));
    let authorization = bearer(&token);
    for after in [1, 17, 33] {
        // The header wins: a browser comes back with the address that it first had.
        let id = format!("{epoch}:{after}");
        let asked = format!("{path}?epoch={epoch}&after=2");
        let headers = [("authorization", &*authorization), ("last-event-id", &*id)];
        let mut listener = Listener::open(&wire, &asked, &headers).await;
        assert_eq!(numbers(&listener.rest().await), (after + 1..=34).collect::<Vec<_>>());
        let asked = format!("{path}?epoch={epoch}&after={after}");
        let mut listener = Listener::open(&wire, &asked, &headers[..1]).await;
        assert_eq!(numbers(&listener.rest().await), (after + 1..=34).collect::<Vec<_>>());
    }
    let id = format!("{epoch}:34");
    let headers = [("authorization", &*authorization), ("last-event-id", &*id)];
    assert_eq!(wire.get(&path, &headers).await.status, 204);
    // Ahead of the log's end, or in another life of it, is no position in it.
    for id in [format!("{epoch}:35"), "0190d1c2-0000-7000-8000-000000000000:3".to_owned()] {
        let headers = [("authorization", &*authorization), ("last-event-id", &*id)];
        let seen = Listener::open(&wire, &path, &headers).await.rest().await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].name.as_deref(), Some("reset"));
        assert_eq!(seen[0].id, Some(format!("{epoch}:34")));
        let data = seen[0].data.as_ref().unwrap();
        assert_eq!((&data["reason"], &data["head"]), (&json!("epoch"), &json!(34)));
        assert_eq!(data["snapshot"]["state"], "completed");
    }
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_is_a_reset() {
    let mut settings = Settings::default();
    settings.memory.runs = RunLimits { history_events: 20, ..RunLimits::default() };
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let run = begin(&wire, &token, "thoughts 100").await;
    ended(&wire, &token, run).await;
    let path = format!("/runs/{run}/events");
    let mut listener = Listener::open(&wire, &path, &[("authorization", &bearer(&token))]).await;
    let seen = listener.rest().await;
    assert_eq!((seen.len(), seen[0].name.as_deref()), (1, Some("reset")));
    assert_eq!(seen[0].data.as_ref().unwrap()["reason"], "trimmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_or_asks_wrongly_gets_a_status() {
    let wire = Wire::start().await;
    let (ada, bob) = (wire.token("ada").await, wire.token("bob").await);
    let run = begin(&wire, &ada, "thoughts 1").await;
    let path = format!("/runs/{run}/events");
    assert_eq!(wire.get(&path, &[]).await.status, 401);
    let (ada, bob) = (bearer(&ada), bearer(&bob));
    let foreign = wire.get(&path, &[("authorization", &bob)]).await;
    assert_eq!((foreign.status, &*foreign.code()), (404, "not_found"));
    for id in ["17", "x:1", ":", "0190d1c2-0000-7000-8000-000000000000:-1", "é:1"] {
        let headers = [("authorization", &*ada), ("last-event-id", id)];
        let answer = wire.get(&path, &headers).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{id}");
    }
    for query in ["after=3", "epoch=x&after=1", "after=many"] {
        let answer = wire.get(&format!("{path}?{query}"), &[("authorization", &ada)]).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{query}");
    }
    let elsewhere = [("authorization", &*ada), ("origin", "https://evil.example")];
    assert_eq!(wire.get(&path, &elsewhere).await.code(), "origin_denied");
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_count_as_connections_and_leave_no_trace() {
    let mut settings = Settings::default();
    settings.transport.hub.per_user = 2;
    settings.transport.connection.heartbeat = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let authorization = bearer(&token);
    let headers = [("authorization", &*authorization)];
    let run = begin(&wire, &token, "hold").await;
    let path = format!("/runs/{run}/events");
    let mut first = Listener::open(&wire, &path, &headers).await;
    let second = Listener::open(&wire, &path, &headers).await;
    let third = wire.get(&path, &headers).await;
    assert_eq!((third.status, &*third.code()), (429, "too_many_connections"));
    // A silent run still shows signs of life.
    while !first.next().await.unwrap().comment {}
    drop(second);
    tokio::time::timeout(PATIENCE, async {
        while wire.statistics().connections > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    drop(first);
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ends_and_a_node_that_drains_end_the_answer() {
    let mut wire = Wire::start().await;
    let (ada, bob) = (wire.token("ada").await, wire.token("bob").await);
    let (ada_says, bob_says) = (bearer(&ada), bearer(&bob));
    let mut open = Vec::new();
    for (token, says) in [(&ada, &ada_says), (&bob, &bob_says)] {
        let run = begin(&wire, token, "hold").await;
        let path = format!("/runs/{run}/events");
        let mut listener = Listener::open(&wire, &path, &[("authorization", says)]).await;
        while listener.next().await.unwrap().data.is_none() {}
        open.push(listener);
    }
    let left = wire.post("/auth/logout", &[("authorization", &ada_says)], "").await;
    assert_eq!(left.status, 204);
    open[0].rest().await;
    let server = wire.stop();
    let mut told = None;
    while let Some(event) = open[1].next().await {
        told = event.retry.or(told);
    }
    assert!(told.is_some_and(|wait| wait != 1_000), "told when to come back: {told:?}");
    server.await.unwrap();
}
