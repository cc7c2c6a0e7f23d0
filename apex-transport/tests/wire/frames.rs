//! Every frame and every close code over a real socket.

use crate::support::runner::ScriptedRunner;
use crate::support::socket::assert_whole;
use crate::support::{Settings, Wire, bearer};
use apex_core::clock::SystemClock;
use apex_core::id::{RequestId, RunId};
use apex_core::run::RunLimits;
use serde_json::{Value, json};
use std::time::Duration;

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn welcome_tells_the_limits() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let (_socket, welcome) = wire.welcomed(&token).await;
    assert_eq!(welcome["heartbeat_s"], 20);
    assert!(welcome["connection"].is_string() && welcome["user"].is_string());
    assert!(welcome["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(welcome.get("id"), None);
    let limits = &welcome["limits"];
    assert_eq!(limits["frame_bytes"], 65_536);
    assert_eq!((&limits["running_runs"], &limits["queued_runs"]), (&json!(4), &json!(16)));
}

#[tokio::test]
async fn a_message_is_accepted_and_its_run_seen_live_to_the_end() {
    let wire = Wire::start().await;
    let mut socket = wire.socket(&wire.token("ada").await).await;
    let accepted = socket.start("thoughts 3").await;
    let events = socket.events(&accepted["run"]).await;
    assert_whole(&events);
    assert_eq!(
        kinds(&events),
        [
            "run_started",
            "agent_started",
            "agent_thinking",
            "agent_thinking",
            "agent_thinking",
            "agent_completed",
            "run_completed"
        ]
    );
    assert_eq!(events[0]["thread"], accepted["thread"]);
    assert_eq!(events[0]["v"], 1);
    drop(socket);
    wire.emptied().await;
}

#[tokio::test]
async fn the_same_message_again_is_the_same_run_and_another_one_a_conflict() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let message = |text: &str, request: RequestId| json!({"frame": "message", "request_id": request, "text": text});
    let request = RequestId::new(&SystemClock);
    let mut socket = wire.socket(&token).await;
    let first = socket.call(message("hello", request)).await;
    let mut other = wire.socket(&token).await;
    let again = other.call(message("hello", request)).await;
    assert_eq!((&again["run"], &again["thread"]), (&first["run"], &first["thread"]));
    assert_whole(&other.events(&first["run"]).await);
    let conflict = other.call(message("something else", request)).await;
    assert_eq!(conflict["code"], "conflict");
}

#[tokio::test]
async fn a_subscription_brings_the_complete_rest_or_a_reset() {
    let wire = Wire::start_with(Settings {
        memory: apex_core::store::memory::MemoryOptions {
            runs: RunLimits { history_events: 6, ..RunLimits::default() },
            ..Default::default()
        },
        ..Settings::default()
    })
    .await;
    let token = wire.token("ada").await;
    let mut socket = wire.socket(&token).await;
    let accepted = socket.start("thoughts 9").await;
    let run = &accepted["run"];
    let all = loop {
        // The history is short, so that a slow reader may be reset; then it has seen the end all the same.
        let frame = socket.frame().await;
        if frame["frame"] == "reset" || frame["type"] == "run_completed" {
            break frame;
        }
    };
    let epoch = &all["epoch"];
    let mut socket = wire.socket(&token).await;
    let subscribe = json!({"frame": "subscribe", "run": run, "epoch": epoch, "after": 10});
    let subscribed = socket.call(subscribe).await;
    assert_eq!(subscribed["frame"], "subscribed", "{subscribed}");
    assert_eq!((&subscribed["head"], &subscribed["recovered"]), (&json!(13), &json!(true)));
    assert_eq!(subscribed["state"], "completed");
    let rest = socket.events(run).await;
    let numbers: Vec<u64> = rest.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [11, 12, 13]);

    for (from, reason) in [
        (json!({"epoch": epoch, "after": 1}), "trimmed"),
        (json!({}), "trimmed"),
        (json!({"epoch": RunId::new(&SystemClock), "after": 12}), "epoch"),
        (json!({"epoch": epoch, "after": 99}), "epoch"),
    ] {
        let mut subscribe = json!({"frame": "subscribe", "run": run});
        subscribe.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
        let reset = socket.call(subscribe).await;
        assert_eq!(
            (&reset["frame"], &reset["reason"]),
            (&json!("reset"), &json!(reason)),
            "{from}"
        );
        assert_eq!((&reset["head"], &reset["epoch"]), (&json!(13), epoch));
        assert_eq!(reset["snapshot"]["state"], "completed");
        assert_eq!(reset["snapshot"]["result"]["text"], "done");
    }
}

#[tokio::test]
async fn unsubscribing_ends_the_stream() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let mut socket = wire.socket(&token).await;
    let accepted = socket.start("hold").await;
    let run = &accepted["run"];
    assert_eq!(socket.call(json!({"frame": "unsubscribe", "run": run})).await["frame"], "ok");
    // Unsubscribing from what is not followed is no error: the client wants it gone, and it is.
    assert_eq!(socket.call(json!({"frame": "unsubscribe", "run": run})).await["frame"], "ok");
    assert_eq!(socket.call(json!({"frame": "cancel", "run": run})).await["frame"], "ok");
    tokio::time::sleep(Duration::from_millis(100)).await;
    socket.say(json!({"frame": "ping", "n": 1})).await;
    assert_eq!(socket.frame().await["frame"], "pong");
}

#[tokio::test]
async fn cancel_and_stop_reach_the_run() {
    let wire = Wire::start().await;
    let mut socket = wire.socket(&wire.token("ada").await).await;
    let run = socket.start("hold").await["run"].clone();
    let cancel = json!({"frame": "cancel", "run": run});
    socket.say(cancel.clone()).await;
    assert_eq!(kinds(&socket.events(&run).await).last(), Some(&"run_cancelled"));
    // A run that has ended stays as it is.
    assert_eq!(socket.call(cancel).await["frame"], "ok");
    let run = socket.start("hold").await["run"].clone();
    socket.say(json!({"frame": "stop", "run": run, "step": "s1"})).await;
    assert_eq!(kinds(&socket.events(&run).await).last(), Some(&"run_completed"));
}

#[tokio::test]
async fn the_first_decision_wins() {
    let wire = Wire::start().await;
    let mut socket = wire.socket(&wire.token("ada").await).await;
    let run = socket.start("ask hold").await["run"].clone();
    let requested = loop {
        let event = socket.expect("event").await;
        if event["type"] == "approval_requested" {
            break event;
        }
    };
    let approval = &requested["data"]["approval"];
    let run_id: RunId = serde_json::from_value(run.clone()).unwrap();
    assert_eq!(*approval, json!(ScriptedRunner::approval(run_id)));
    let decide = |digest: &str, decision: &str| json!({"frame": "decide", "run": run, "approval": approval, "digest": digest, "decision": decision});
    assert_eq!(socket.call(decide("another", "approve")).await["code"], "conflict");
    assert_eq!(socket.call(decide("d1", "deny")).await["frame"], "ok");
    let other = socket.call(decide("d1", "approve")).await;
    assert_eq!(other["code"], "conflict");
}

#[tokio::test]
async fn the_inbox_shows_a_new_tab_what_goes_on() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let mut first = wire.socket(&token).await;
    let run = first.start("hold").await["run"].clone();
    let mut tab = wire.socket(&token).await;
    let subscribed = tab.call(json!({"frame": "inbox"})).await;
    assert_eq!(subscribed["frame"], "subscribed");
    assert_eq!((subscribed.get("run"), subscribed.get("state")), (None, None));
    let entry = tab.expect("inbox").await;
    assert_eq!((&entry["run"], &entry["seq"]), (&run, &json!(1)));
    assert_eq!(entry["epoch"], subscribed["epoch"]);
    first.say(json!({"frame": "cancel", "run": run})).await;
    let end = loop {
        let entry = tab.expect("inbox").await;
        if entry["state"] == "cancelled" {
            break entry;
        }
    };
    let again = json!({"frame": "inbox", "epoch": subscribed["epoch"], "after": end["seq"]});
    let mut other = wire.socket(&token).await;
    assert_eq!(other.call(again).await["recovered"], true);
    let elsewhere = json!({"frame": "inbox", "epoch": run, "after": 1});
    let reset = other.call(elsewhere).await;
    assert_eq!((&reset["frame"], &reset["reason"]), (&json!("reset"), &json!("epoch")));
    assert_eq!(reset.get("snapshot"), None);
    // What is kept follows the reset.
    assert_eq!(other.expect("inbox").await["seq"], 1);
}

#[tokio::test]
async fn volatile_events_come_without_a_number_and_before_what_follows_them() {
    let wire = Wire::start().await;
    let mut socket = wire.socket(&wire.token("ada").await).await;
    let run = socket.start("slow 50 thoughts 2 deltas 20").await["run"].clone();
    let mut text = String::new();
    loop {
        let event = socket.expect("event").await;
        assert_eq!(event["run"], run);
        match event["type"].as_str().unwrap() {
            "delta" => {
                assert_eq!(event.get("seq"), None);
                let offset = usize::try_from(event["data"]["offset"].as_u64().unwrap()).unwrap();
                // A reader may miss pieces, but what it has is in its place.
                assert!(offset >= text.len());
                text = " ".repeat(offset);
                text.push_str(event["data"]["text"].as_str().unwrap());
            }
            "run_completed" => break,
            _ => {}
        }
    }
    assert!(text.ends_with("piece 19 "), "{text:?}");
}

#[tokio::test]
async fn a_panic_in_the_hosts_code_is_an_error_of_that_call() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let mut socket = wire.socket(&token).await;
    let message =
        json!({"frame": "message", "request_id": RequestId::new(&SystemClock), "text": "panic"});
    let answer = socket.call(message.clone()).await;
    assert_eq!(answer["code"], "internal");
    assert!(answer["correlation"].is_string());
    assert_eq!(socket.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    let answer =
        wire.post("/messages", &[("authorization", &bearer(&token))], &message.to_string()).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
}

#[tokio::test]
async fn the_credential_runs_out_unless_it_is_renewed() {
    let mut settings = Settings::default();
    settings.auth.token_life = Duration::from_secs(62);
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let mut renewed = wire.socket(&token).await;
    let mut lapses = wire.socket(&token).await;
    for socket in [&mut renewed, &mut lapses] {
        assert!(socket.expect("expiring").await["at"].is_string());
    }
    let fresh = wire.token("ada").await;
    let welcome = renewed.call(json!({"frame": "hello", "token": fresh})).await;
    assert_eq!(welcome["frame"], "welcome");
    wire.clock.advance(Duration::from_secs(60));
    // Something has to wake the conversation, since the clock of the wall has jumped.
    lapses.say(json!({"frame": "ping", "n": 1})).await;
    assert_eq!(lapses.closed().await.0, 4501);
    assert_eq!(renewed.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    let other = wire.token("bob").await;
    renewed.say(json!({"frame": "hello", "token": other})).await;
    assert_eq!(renewed.closed().await.0, 4403);
    drop((lapses, renewed));
    wire.emptied().await;
}

#[tokio::test]
async fn a_shutdown_tells_everybody_and_ends() {
    let mut wire = Wire::start().await;
    let token = wire.token("ada").await;
    let mut socket = wire.socket(&token).await;
    let ended = wire.stop();
    let draining = socket.expect("draining").await;
    assert_eq!((&draining["after_ms"], &draining["jitter_ms"]), (&json!(1_000), &json!(4_000)));
    let message =
        json!({"frame": "message", "request_id": RequestId::new(&SystemClock), "text": "x"});
    assert_eq!(socket.call(message).await["code"], "draining");
    assert_eq!(socket.closed().await.0, 1012);
    drop(socket);
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(wire.address).await.is_err());
    wire.emptied().await;
}

#[tokio::test]
async fn silence_is_closed_by_the_clock() {
    let mut settings = Settings::default();
    settings.transport.connection.hello_within = Duration::from_secs(1);
    settings.transport.connection.heartbeat = Duration::from_secs(1);
    settings.transport.connection.close_within = Duration::from_millis(200);
    let wire = Wire::start_with(settings).await;
    let mut unknown = wire.unknown().await;
    assert_eq!(unknown.closed().await.0, 4504);
    drop(unknown);
    wire.emptied().await;
    // A socket whose owner never reads answers no ping.
    let deaf = wire.socket(&wire.token("ada").await).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(wire.statistics().connections, 1);
    wire.emptied().await;
    drop(deaf);
}
