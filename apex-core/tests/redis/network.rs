//! Faults of the way to a server.

use crate::support::{back, connections, issue, open, options, until, works};
use apex_core::auth::TokenHash;
use apex_core::error::{Kind, Outcome};
use apex_core::store::redis::Redis;
use apex_test_services::{Kind as Service, Options, Proxy, Replies, Server};
use std::time::{Duration, Instant};

async fn behind_a_proxy() -> Option<(Server, Proxy, Redis)> {
    let server = Server::start_or_skip(Service::Redis, &Options::default())?;
    let proxy = Proxy::start(server.port()).unwrap();
    let redis = open(&options(&server.url_at(proxy.port()))).await;
    works(&redis).await.unwrap();
    until("subscribed", async || redis.probe.probe().await.is_ok()).await;
    Some((server, proxy, redis))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silently_dead_connections_are_replaced_within_a_second() {
    let Some((server, proxy, redis)) = behind_a_proxy().await else { return };
    let rounds = if std::env::var_os("APEX_FULL").is_some() { 20 } else { 5 };
    let (mut calls, mut all) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        proxy.abandon();
        let (took, said) = back(&redis, Duration::from_secs(3)).await;
        assert!(!said.is_empty());
        calls.push(took);
        until("what is published comes back", async || redis.probe.probe().await.is_ok()).await;
        all.push(began.elapsed());
    }
    for (what, mut took) in [("calls", calls), ("calls and wake-ups", all)] {
        took.sort_unstable();
        let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{what} work again after {median:?}, after {slowest:?} at most");
        assert!(median < Duration::from_secs(1), "{what}: {took:?}");
        assert!(slowest < Duration::from_millis(1_500), "{what}: {took:?}");
    }
    // The proxy keeps what it abandoned open towards the server; ours are two.
    assert!(connections(server.port()) >= 2);
    drop(redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_freezes_and_thaws_is_used_again() {
    let Some((server, proxy, redis)) = behind_a_proxy().await else { return };
    proxy.freeze();
    for _ in 0..3 {
        let began = Instant::now();
        assert!(works(&redis).await.is_err());
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    }
    proxy.pass();
    let (took, said) = back(&redis, Duration::from_secs(3)).await;
    assert!(took < Duration::from_millis(1_500), "{took:?} {said:?}");
    until("two connections", async || connections(server.port()) == 2).await;
    drop(redis);
    until("none", async || proxy.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_made_again() {
    let Some((_server, proxy, redis)) = behind_a_proxy().await else { return };
    for fault in [Proxy::cut as fn(&Proxy), Proxy::half_close] {
        fault(&proxy);
        let (took, said) = back(&redis, Duration::from_secs(2)).await;
        assert!(took < Duration::from_millis(500), "{took:?} {said:?}");
    }
    proxy.refuse();
    proxy.cut();
    assert!(works(&redis).await.is_err());
    proxy.pass();
    back(&redis, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_sliced_answers_are_answers() {
    let Some((_server, proxy, redis)) = behind_a_proxy().await else { return };
    proxy.slice(1);
    proxy.delay(Duration::from_millis(20));
    for _ in 0..5 {
        works(&redis).await.unwrap();
    }
}

/// Who does not hear whether a ticket was taken is not let in, and the ticket is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_an_unknown_outcome_and_nothing_is_done_twice() {
    let Some((_server, proxy, redis)) = behind_a_proxy().await else { return };
    for round in 0..20 {
        let token = format!("token {round}");
        issue(&redis, &token).await.unwrap();
        proxy.lose_reply_to(b"GETDEL");
        let error = redis.tickets.redeem(&TokenHash::of(&token)).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
        assert!(!error.may_repeat(false), "{error:?}");
        assert_eq!(redis.tickets.redeem(&TokenHash::of(&token)).await.unwrap(), None);
    }
    proxy.replies(Replies::DropAfter(0));
    let error = redis.tickets.redeem(&TokenHash::of("x")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::DeadlineExceeded, Outcome::Unknown));
    let error = redis.sessions.find(&TokenHash::of("x")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied, "it only reads");
    proxy.pass();
    back(&redis, Duration::from_secs(2)).await;
}
