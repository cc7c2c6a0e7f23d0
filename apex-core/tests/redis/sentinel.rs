//! A primary under Sentinel.

use crate::support::{back, connections, open, options, refusal, say, until, works};
use apex_core::error::{Failure, Kind};
use apex_test_services::{Kind as Service, Options, Server};
use std::time::Duration;

fn group() -> Option<Server> {
    Server::start_or_skip(Service::Sentinel, &Options::default())
}

/// What the sentinels need to notice, choose and promote: 1 s of silence in these tests, and about as much again.
const FAILOVER: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_followed_by_the_new_one() {
    let Some(mut group) = group() else { return };
    let redis = open(&options(group.url())).await;
    works(&redis).await.unwrap();
    group.kill("primary");
    let replica = group.node("replica1").port;
    let promoted = async || say(replica, "ROLE").starts_with("*3");
    until("promoted", promoted).await;
    let (took, said) = back(&redis, FAILOVER).await;
    println!("after the promotion it took {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?} {said:?}");
    assert!(connections(replica) >= 1);
    until("the probe passes", async || redis.probe.probe().await.is_ok()).await;
    // The old one comes back as a replica; nothing goes there.
    group.restart("primary").unwrap();
    let port = group.node("primary").port;
    until("it follows", async || say(port, "ROLE").starts_with("*5")).await;
    works(&redis).await.unwrap();
    assert!(say(replica, "ROLE").starts_with("*3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_is_followed() {
    let Some(group) = group() else { return };
    let redis = open(&options(group.url())).await;
    works(&redis).await.unwrap();
    let sentinel = group.node("sentinel1").port;
    until("begun", async || say(sentinel, "SENTINEL FAILOVER apex") == "+OK").await;
    let (primary, replica) = (group.node("primary").port, group.node("replica1").port);
    until("promoted", async || say(replica, "ROLE").starts_with("*3")).await;
    until("demoted", async || say(primary, "ROLE").starts_with("*5")).await;
    let (took, said) = back(&redis, FAILOVER).await;
    assert!(took < Duration::from_secs(1), "{took:?} {said:?}");
    until("followed", async || connections(replica) >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_primary_is_followed_by_the_new_one() {
    let Some(group) = group() else { return };
    let redis = open(&options(group.url())).await;
    works(&redis).await.unwrap();
    group.pause("primary");
    let replica = group.node("replica1").port;
    until("promoted", async || say(replica, "ROLE").starts_with("*3")).await;
    let (took, said) = back(&redis, FAILOVER).await;
    assert!(took < Duration::from_secs(3), "{took:?} {said:?}");
    group.resume("primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_may_be_gone_but_not_all() {
    let Some(group) = group() else { return };
    let redis = open(&options(group.url())).await;
    for gone in ["sentinel1", "sentinel2"] {
        group.kill(gone);
        works(&redis).await.unwrap();
        works(&open(&options(group.url())).await).await.unwrap();
    }
    group.kill("sentinel3");
    works(&redis).await.unwrap();
    let error = refusal(&options(group.url())).await;
    assert_eq!((error.kind(), error.failure()), (Kind::Unavailable, Some(Failure::Connection)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_sentinel_knows_is_said() {
    let Some(group) = group() else { return };
    let error = refusal(&options(&group.url().replace("sentinel=apex", "sentinel=nobody"))).await;
    assert!(error.message().contains("no primary of that name"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_without_the_servers_password_are_asked_all_the_same() {
    let settings = Options::default().set("requirepass", "s3cret");
    let Some(group) = Server::start_or_skip(Service::Sentinel, &settings) else { return };
    works(&open(&options(group.url())).await).await.unwrap();
}
