//! Nothing crosses users.

use crate::support::runner::ScriptedRunner;
use crate::support::socket::assert_whole;
use crate::support::{Settings, Wire, bearer};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::id::{RequestId, RunId, UserId};
use apex_core::memory::Note;
use futures_util::future::join_all;
use serde_json::{Value, json};

#[tokio::test]
async fn every_route_and_frame_with_another_users_ids_finds_nothing() {
    let wire = Wire::start().await;
    let (ada, eve) = (wire.token("ada").await, wire.token("eve").await);
    let of_ada = bearer(&ada);
    let owner = [("authorization", of_ada.as_str()), ("x-file-name", "a.csv")];
    let file = wire.ask("POST", "/files", &owner, b"a").await.json()["file"].clone();
    let mut socket = wire.socket(&ada).await;
    let done = socket.start("report thoughts 1").await;
    socket.events(&done["run"]).await;
    let open = socket.start("ask").await;
    let (run, thread) = (open["run"].as_str().unwrap(), done["thread"].as_str().unwrap());
    let approval = ScriptedRunner::approval(run.parse().unwrap());
    let finished = done["run"].as_str().unwrap();
    let artifact = apex_core::file::artifact_id(finished.parse().unwrap(), "report.json");
    // A note may be called as anything is.
    let called =
        Note { name: thread.to_owned(), text: "x".into(), run: None, at: SystemClock.now() };
    let ada_herself = wire.principal(&ada).await;
    wire.stores.memory.keep(&ada_herself, called).await.unwrap();
    let session =
        wire.get("/auth/sessions", &owner[..1]).await.json()["items"][0]["session"].clone();

    // That it is shared with somebody opens it to nobody else.
    let (me, reader) = (wire.principal(&eve).await.user(), UserId::new(&SystemClock));
    let with = json!({"user": reader}).to_string();
    let shared = wire.post(&format!("/threads/{thread}/shares"), &owner[..1], &with).await;
    assert_eq!(shared.status, 204, "{}", shared.text());

    let auth = bearer(&eve);
    let stranger = [("authorization", auth.as_str())];
    let message = |attachments: Value| {
        json!({"request_id": RequestId::new(&SystemClock), "text": "x", "attachments": attachments})
            .to_string()
    };
    let decision = r#"{"digest":"d1","decision":"approve"}"#.to_owned();
    let nothing = String::new;
    let tried = [
        ("DELETE", format!("/auth/sessions/{}", session.as_str().unwrap()), nothing()),
        ("DELETE", format!("/files/{}", file.as_str().unwrap()), nothing()),
        ("POST", "/messages".to_owned(), message(json!([{"file": file}]))),
        ("POST", format!("/threads/{thread}/messages"), message(json!([]))),
        ("GET", format!("/threads/{thread}"), nothing()),
        ("DELETE", format!("/threads/{thread}"), nothing()),
        ("GET", format!("/threads/{thread}/shares"), nothing()),
        ("POST", format!("/threads/{thread}/shares"), json!({"user": me}).to_string()),
        ("DELETE", format!("/threads/{thread}/shares/{reader}"), nothing()),
        ("GET", format!("/runs/{run}"), nothing()),
        ("GET", format!("/runs/{run}/events"), nothing()),
        ("POST", format!("/runs/{run}/cancel"), nothing()),
        ("POST", format!("/runs/{run}/approvals/{approval}"), decision),
        ("GET", format!("/runs/{finished}/report.json"), nothing()),
        ("GET", format!("/runs/{finished}/report.md"), nothing()),
        ("GET", format!("/runs/{finished}/report.html"), nothing()),
        ("GET", format!("/runs/{finished}/graph.json"), nothing()),
        ("GET", format!("/runs/{finished}/graph.mmd"), nothing()),
        ("GET", format!("/artifacts/{artifact}"), nothing()),
        ("DELETE", format!("/memory/{thread}"), nothing()),
    ];
    assert_none_is_forgotten(tried.iter().map(|(method, path, _)| (*method, path.as_str())));
    for (method, path, body) in tried {
        let answer = wire.ask(method, &path, &stranger, body.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{method} {path}");
        // What is there looks like what is not.
        let unknown = RunId::new(&SystemClock).to_string();
        let elsewhere =
            [thread, run, finished].iter().fold(path.clone(), |p, id| p.replace(id, &unknown));
        if elsewhere != path && !body.contains("attachments") {
            let other = wire.ask(method, &elsewhere, &stranger, body.as_bytes()).await;
            assert_eq!(answer.json()["message"], other.json()["message"], "{path}");
        }
    }
    for list in ["/files", "/threads", "/threads?shared=true"] {
        assert_eq!(wire.get(list, &stranger).await.json()["items"], json!([]), "{list}");
    }
    assert_eq!(wire.get("/inbox", &stranger).await.json()["entries"], json!([]));
    assert_eq!(wire.get("/memory", &stranger).await.json()["items"], json!([]));
    assert_eq!(wire.stores.memory.notes(&ada_herself).await.unwrap().len(), 1);

    let mut intruder = wire.socket(&eve).await;
    let request = RequestId::new(&SystemClock);
    for frame in [
        json!({"frame": "subscribe", "run": run}),
        json!({"frame": "cancel", "run": run}),
        json!({"frame": "stop", "run": run, "step": "s1"}),
        json!({"frame": "decide", "run": run, "approval": approval, "digest": "d1", "decision": "approve"}),
        json!({"frame": "message", "request_id": request, "text": "x", "thread": thread}),
        json!({"frame": "message", "request_id": request, "text": "x", "attachments": [{"file": file}]}),
    ] {
        let answer = intruder.call(frame.clone()).await;
        assert_eq!(answer["code"], "not_found", "{frame}");
    }
    // Leaving what one does not follow is no way to find out either.
    let left = intruder.call(json!({"frame": "unsubscribe", "run": run})).await;
    assert_eq!(left["frame"], "ok");
    assert_eq!(intruder.call(json!({"frame": "inbox"})).await["head"], 0);
    let view = wire.get(&format!("/runs/{run}"), &owner[..1]).await.json();
    assert_eq!(view["ended_at"], Value::Null);
    wire.post(&format!("/runs/{run}/cancel"), &owner[..1], "").await;
}

/// Fails when the table of routes has one with an id of a user's that was not tried.
fn assert_none_is_forgotten<'a>(tried: impl Iterator<Item = (&'a str, &'a str)>) {
    let shape = |segments: Vec<String>| segments.join("/");
    let is_id = |segment: &str| segment.len() == 36 && segment.matches('-').count() == 4;
    let tried: std::collections::HashSet<String> = tried
        .map(|(method, path)| {
            let segments = path.trim_start_matches('/').split('/');
            let segments = segments.map(|s| if is_id(s) { "*" } else { s }.to_owned());
            format!("{method} {}", shape(segments.collect()))
        })
        .collect();
    let table = include_str!("../../src/service/mod.rs");
    let mut routes = 0;
    for line in table.lines().filter_map(|line| line.trim().strip_prefix("(&Method::")) {
        let (method, rest) = line.split_once(", [").unwrap();
        let segments = rest.split_once("])").map_or(rest, |(segments, _)| segments).split(", ");
        let segments: Vec<String> = segments
            .map(|s| if s.starts_with('"') { s.trim_matches('"') } else { "*" }.to_owned())
            .collect();
        // Operators' routes take no user at all, and the name of a provider is nobody's.
        if !segments.contains(&"*".to_owned()) || segments[0] == "admin" || segments[1] == "oidc" {
            continue;
        }
        routes += 1;
        let route = format!("{method} {}", shape(segments));
        let report = route.replace("runs/*/*", "runs/*/report.json");
        assert!(tried.contains(&route) || tried.contains(&report), "{route} was not tried");
    }
    assert!(routes >= 14, "the table of routes is not read any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_users_at_once_see_their_own_runs_whole_and_no_other() {
    let wire = Wire::start_with(Settings::default()).await;
    let users = (0..200).map(|n| {
        let wire = &wire;
        async move {
            let token = wire.token(&format!("user {n}")).await;
            let mut socket = wire.socket(&token).await;
            let run = socket.start(&format!("slow 1 thoughts {}", 10 + n % 7)).await["run"].clone();
            let mut events = Vec::new();
            loop {
                let event = socket.expect("event").await;
                assert_eq!(event["run"], run, "user {n} sees another's run");
                let ends = event["type"] == "run_completed";
                events.push(event);
                if ends {
                    break;
                }
            }
            assert_whole(&events);
            assert_eq!(events.len(), 14 + n % 7);
            run.to_string()
        }
    });
    let runs: std::collections::HashSet<String> = join_all(users).await.into_iter().collect();
    assert_eq!(runs.len(), 200);
    wire.emptied().await;
}
