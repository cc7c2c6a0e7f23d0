//! What every transport keeps.

use super::clients::{Client, Transport, Update};
use crate::support::listener::{begin, ended};
use crate::support::{Settings, Wire, bearer};
use apex_core::id::RunId;
use apex_core::run::RunLimits;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// A run of the user's that has ended, and the life of its log.
async fn over(wire: &Wire, token: &str, text: &str) -> (String, String) {
    let run = begin(wire, token, text).await;
    let view = ended(wire, token, run).await;
    (run.to_string(), view.epoch.to_string())
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

async fn enter<'a>(wire: &'a Wire, transport: Transport, token: &str) -> Client<'a> {
    Client::enter(wire, transport, token)
        .await
        .unwrap_or_else(|code| panic!("{transport:?}: {code}"))
}

/// Waits until nobody is connected.
async fn left(wire: &Wire, transport: Transport) {
    let emptied = wire.service.hub().emptied();
    let Ok(()) = timeout(PATIENCE, emptied).await else {
        panic!("{transport:?}: {:?}", wire.statistics());
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_seen_from_its_beginning_to_its_end() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for transport in Transport::ALL {
        let mut client = enter(&wire, transport, &token).await;
        let run = client.start("slow 10 thoughts 3").await;
        let events = client.rest().await;
        assert_eq!(numbers(&events), (1..=7).collect::<Vec<_>>(), "{transport:?}");
        let expected = [
            "run_started",
            "agent_started",
            "agent_thinking",
            "agent_thinking",
            "agent_thinking",
            "agent_completed",
            "run_completed",
        ];
        assert_eq!(kinds(&events), expected, "{transport:?}");
        assert!(events.iter().all(|event| event["run"] == run.as_str()));
        drop(client);
        left(&wire, transport).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volatile_events_have_no_number_and_are_in_their_place() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for transport in Transport::ALL {
        let mut client = enter(&wire, transport, &token).await;
        client.start("slow 100 thoughts 3 deltas 20").await;
        let (mut last, mut shown) = (0, String::new());
        loop {
            match client.next().await {
                Update::Event(event) => {
                    last += 1;
                    assert_eq!(event["seq"], last, "{transport:?}");
                    if event["type"] == "run_completed" {
                        break;
                    }
                }
                Update::Live(event) => {
                    // What is shown of a step comes after its thoughts and before its end.
                    assert_eq!((event["type"].as_str(), last), (Some("delta"), 5), "{transport:?}");
                    shown = event["data"]["text"].as_str().unwrap().to_owned();
                }
                other => panic!("{transport:?}: {other:?}"),
            }
        }
        assert!(shown.ends_with("piece 19 "), "{transport:?}: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_gets_exactly_the_rest() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let (run, epoch) = over(&wire, &token, "thoughts 600").await;
    for transport in Transport::ALL {
        // Before the first page's end, at it, after it, and at the last but one.
        for after in [0, 1, 255, 256, 257, 603] {
            let mut client = enter(&wire, transport, &token).await;
            client.follow(&run, Some((&epoch, after))).await;
            let events = client.rest().await;
            assert_eq!(numbers(&events), (after + 1..=604).collect::<Vec<_>>(), "{transport:?}");
            assert!(events.iter().all(|event| event["epoch"] == epoch.as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_a_run_that_goes_on_misses_nothing() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for transport in Transport::ALL {
        let mut client = enter(&wire, transport, &token).await;
        let run = client.start("slow 5 thoughts 40").await;
        let (mut seen, mut epoch): (Vec<Value>, String) = Default::default();
        while seen.last().is_none_or(|event| event["type"] != "run_completed") {
            if seen.len() % 7 == 3 {
                client = enter(&wire, transport, &token).await;
                client.follow(&run, Some((&epoch, seen.len() as u64))).await;
            }
            let Update::Event(event) = client.next().await else { panic!("{transport:?}") };
            epoch = event["epoch"].as_str().unwrap().to_owned();
            seen.push(event);
        }
        assert_eq!(numbers(&seen), (1..=44).collect::<Vec<_>>(), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_none_is_answered_by_one_reset() {
    let mut settings = Settings::default();
    settings.memory.runs = RunLimits { history_events: 20, ..RunLimits::default() };
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let (run, epoch) = over(&wire, &token, "thoughts 100").await;
    let another = "0190d1c2-0000-7000-8000-000000000000";
    for transport in Transport::ALL {
        for (after, reason) in [
            (None, "trimmed"),
            (Some((epoch.as_str(), 1)), "trimmed"),
            (Some((epoch.as_str(), 105)), "epoch"),
            (Some((another, 100)), "epoch"),
        ] {
            let mut client = enter(&wire, transport, &token).await;
            client.follow(&run, after).await;
            let Update::Reset(reset) = client.next().await else { panic!("{transport:?}") };
            let told = (&reset["reason"], &reset["epoch"], &reset["head"]);
            assert_eq!(told, (&json!(reason), &json!(epoch), &json!(104)), "{transport:?}");
            // Detail was lost, never the outcome.
            assert_eq!(reset["snapshot"]["state"], "completed", "{transport:?}");
            assert_eq!(reset["snapshot"]["result"]["text"], "done", "{transport:?}");
        }
        // What is left of the log is still a rest.
        let mut client = enter(&wire, transport, &token).await;
        client.follow(&run, Some((&epoch, 90))).await;
        assert_eq!(numbers(&client.rest().await), (91..=104).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_another_user_is_not_there() {
    let wire = Wire::start().await;
    let (ada, bob) = (wire.token("ada").await, wire.token("bob").await);
    let run = begin(&wire, &ada, "hold").await.to_string();
    for transport in Transport::ALL {
        let mut client = enter(&wire, transport, &bob).await;
        client.follow(&run, None).await;
        assert_eq!(client.next().await, Update::Refused("not_found".into()), "{transport:?}");
        client.cancel(&run).await;
        assert_eq!(client.next().await, Update::Refused("not_found".into()), "{transport:?}");
    }
    let id: RunId = run.parse().unwrap();
    let view = wire.stores.runs.view(&wire.principal(&ada).await, id).await.unwrap();
    assert!(!view.state.is_terminal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_as_cancelled() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for transport in Transport::ALL {
        let mut client = enter(&wire, transport, &token).await;
        let run = client.start("hold").await;
        client.cancel(&run).await;
        let events = client.rest().await;
        assert_eq!(kinds(&events).last(), Some(&"run_cancelled"), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_says_so_and_then_ends() {
    for transport in Transport::ALL {
        let wire = Wire::start().await;
        let token = wire.token("ada").await;
        let mut client = enter(&wire, transport, &token).await;
        client.start("hold").await;
        while !matches!(client.next().await, Update::Event(_)) {}
        wire.service.hub().drain();
        let mut told = false;
        let code = loop {
            match client.next().await {
                Update::Draining => told = true,
                Update::Over(code) => break code,
                _ => {}
            }
        };
        assert!(told, "{transport:?}");
        let sees_codes = transport != Transport::ServerSentEvents;
        assert_eq!(code, sees_codes.then_some(1012), "{transport:?}");
        let mut late = match Client::enter(&wire, transport, &token).await {
            Ok(client) => client,
            Err(code) => {
                assert_eq!(code, "draining", "{transport:?}");
                continue;
            }
        };
        let run = begin(&wire, &token, "thoughts 1").await.to_string();
        late.follow(&run, None).await;
        assert_eq!(late.next().await, Update::Refused("draining".into()), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_connections_are_limited_and_given_back() {
    for transport in Transport::ALL {
        let mut settings = Settings::default();
        settings.transport.hub.per_user = 2;
        let wire = Wire::start_with(settings).await;
        let token = wire.token("ada").await;
        let run = begin(&wire, &token, "hold").await.to_string();
        let follow = async || {
            let mut client = Client::enter(&wire, transport, &token).await?;
            client.follow(&run, None).await;
            match client.next().await {
                Update::Refused(code) => Err(code),
                _ => Ok(client),
            }
        };
        let (first, second) = (follow().await.unwrap(), follow().await.unwrap());
        let refused = follow().await.err();
        assert_eq!(refused.as_deref(), Some("too_many_connections"), "{transport:?}");
        drop(first);
        let third = timeout(PATIENCE, async {
            loop {
                match follow().await {
                    Ok(client) => break client,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let third = third.await.unwrap_or_else(|_| panic!("{transport:?}: no place came back"));
        drop((second, third));
        left(&wire, transport).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ends_ends_what_came_by_it() {
    let wire = Wire::start().await;
    for transport in Transport::ALL {
        // Whom the host vouches for came by no login that could end here.
        if transport == Transport::InProcess {
            continue;
        }
        let token = wire.token("ada").await;
        let mut client = enter(&wire, transport, &token).await;
        client.start("hold").await;
        while !matches!(client.next().await, Update::Event(_)) {}
        let auth = bearer(&token);
        assert_eq!(wire.post("/auth/logout", &[("authorization", &auth)], "").await.status, 204);
        let code = loop {
            if let Update::Over(code) = client.next().await {
                break code;
            }
        };
        let sees_codes = transport != Transport::ServerSentEvents;
        assert_eq!(code, sees_codes.then_some(4401), "{transport:?}");
        left(&wire, transport).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_let_go_and_slows_nobody() {
    futures_util::future::join_all(Transport::ALL.map(one_does_not_read)).await;
}

async fn one_does_not_read(transport: Transport) {
    let mut settings = Settings::default();
    // Long enough for the other one, who reads, on a busy machine.
    settings.transport.connection.outbound_wait = Duration::from_secs(5);
    settings.transport.connection.close_within = Duration::from_millis(100);
    // All of it is kept, also when the run has ended before anybody else reads.
    settings.memory.runs.history_bytes *= 2;
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let mut deaf = enter(&wire, transport, &token).await;
    let mut quick = enter(&wire, Transport::WebSocket, &token).await;
    // Far more than the buffers of two sockets and the bound together.
    let run = deaf.start("big 1000").await;
    quick.follow(&run, None).await;
    assert_eq!(quick.rest().await.len(), 1_005, "{transport:?}");
    drop(quick);
    left(&wire, transport).await;
    drop(deaf);
}
