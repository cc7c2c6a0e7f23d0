//! What several nodes do at the same time.

use crate::support::{issue, open, options};
use apex_core::auth::TokenHash;
use apex_core::clock::SystemClock;
use apex_core::id::NodeId;
use apex_core::resilience::BreakerHint;
use apex_test_services::{Kind as Service, Options, Server};

/// A thousand callers on three nodes, and one ticket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_callers_on_three_nodes_one_gets_the_ticket() {
    let mut ran = Vec::new();
    for kind in [Service::Redis, Service::Sentinel, Service::Cluster] {
        let Some(server) = Server::start_or_skip(kind, &Options::default()) else { continue };
        // A thousand at once on two cores take longer than a host would wait.
        let options = apex_core::store::redis::RedisOptions {
            answer: std::time::Duration::from_secs(10),
            ..options(server.url())
        };
        let nodes = [open(&options).await, open(&options).await, open(&options).await];
        for round in 0..3 {
            let token = format!("token {round}");
            issue(&nodes[0], &token).await.unwrap();
            let callers: Vec<_> = (0..1_000)
                .map(|caller| {
                    let (node, hash) = (nodes[caller % 3].clone(), TokenHash::of(&token));
                    tokio::spawn(async move { node.tickets.redeem(&hash).await.unwrap() })
                })
                .collect();
            let mut winners = 0;
            for caller in callers {
                winners += usize::from(caller.await.unwrap().is_some());
            }
            assert_eq!(winners, 1, "{kind:?}");
        }
        ran.push(kind.name());
    }
    println!("1,000 callers on three nodes, one winner: {}", ran.join(", "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_of_breakers_reach_the_other_nodes_and_are_taken_back() {
    let Some(server) = Server::start_or_skip(Service::Redis, &Options::default()) else { return };
    let options = options(server.url());
    let (one, two) = (open(&options).await, open(&options).await);
    let node = NodeId::new(&SystemClock);
    let hint = |probing| BreakerHint { dependency: "postgres".into(), node, probing };
    assert_eq!(two.breakers.hints().await.unwrap(), []);
    for hints in [vec![hint(false)], vec![hint(true)]] {
        one.breakers.publish(node, hints.clone()).await.unwrap();
        assert_eq!(two.breakers.hints().await.unwrap(), hints);
    }
    one.breakers.publish(node, Vec::new()).await.unwrap();
    assert_eq!(two.breakers.hints().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_of_breakers_lapse() {
    let Some(server) = Server::start_or_skip(Service::Redis, &Options::default()) else { return };
    let redis = open(&options(server.url())).await;
    let node = NodeId::new(&SystemClock);
    let hint = BreakerHint { dependency: "postgres".into(), node, probing: false };
    redis.breakers.publish(node, vec![hint]).await.unwrap();
    tokio::time::sleep(apex_core::resilience::HINT_LIFE).await;
    assert_eq!(redis.breakers.hints().await.unwrap(), []);
}
