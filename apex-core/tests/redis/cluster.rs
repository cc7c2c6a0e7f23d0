//! A cluster whose slots move and whose nodes fail.

use crate::support::{issue, open, options, say, until, works};
use apex_core::auth::TokenHash;
use apex_core::error::Kind;
use apex_test_services::{Kind as Service, Options, Server};
use std::time::{Duration, Instant};

fn cluster(replicas: u32) -> Option<Server> {
    Server::start_or_skip(Service::Cluster, &Options { replicas, ..Options::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_found_on_every_node() {
    let Some(cluster) = cluster(0) else { return };
    let redis = open(&options(cluster.url())).await;
    for _ in 0..100 {
        works(&redis).await.unwrap();
    }
    for node in cluster.nodes() {
        let commands = say(node.port, "INFO commandstats");
        assert!(commands.contains("cmdstat_getdel:"), "{} had no part", node.name);
    }
}

/// Each slot of a node moves to another one, while tickets are issued and taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_slots_are_followed() {
    let Some(cluster) = cluster(0) else { return };
    let redis = open(&options(cluster.url())).await;
    works(&redis).await.unwrap();
    let (from, to) = (cluster.node("node1").port, cluster.node("node2").port);
    let third = cluster.node("node3").port;
    let (old, new) = (say(from, "CLUSTER MYID"), say(to, "CLUSTER MYID"));
    // On their way: keys that the old node has not are asked for at the new one.
    for slot in (0..5_000).step_by(4) {
        assert_eq!(say(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {old}")), "+OK");
        assert_eq!(say(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {new}")), "+OK");
    }
    for round in 0..200 {
        let token = format!("on its way {round}");
        issue(&redis, &token).await.unwrap();
        assert!(redis.tickets.redeem(&TokenHash::of(&token)).await.unwrap().is_some());
    }
    // Moved for good: the map that the client has is wrong now.
    for slot in (0..5_000).step_by(4) {
        // A node does not give a slot away in which it has keys, such as the mark of the environment.
        if say(from, &format!("CLUSTER COUNTKEYSINSLOT {slot}")) != ":0" {
            for port in [to, from] {
                assert_eq!(say(port, &format!("CLUSTER SETSLOT {slot} STABLE")), "+OK");
            }
            continue;
        }
        for port in [to, from, third] {
            assert_eq!(say(port, &format!("CLUSTER SETSLOT {slot} NODE {new}")), "+OK");
        }
    }
    for _ in 0..200 {
        works(&redis).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_followed_by_its_replica() {
    let Some(mut cluster) = cluster(1) else { return };
    let redis = open(&options(cluster.url())).await;
    for _ in 0..20 {
        works(&redis).await.unwrap();
    }
    cluster.kill("node1");
    let mut refused = 0;
    for _ in 0..20 {
        if let Err(error) = works(&redis).await {
            assert_ne!(error.kind(), Kind::Internal, "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "a third of the keys was on it");
    let (dead, other) = (cluster.node("node1").port, cluster.node("node2").port);
    let promoted = async || {
        let nodes = say(other, "CLUSTER NODES");
        let is_dead = |line: &&str| line.contains("fail");
        let (gone, there): (Vec<&str>, Vec<&str>) = nodes.lines().partition(is_dead);
        gone.iter().any(|line| line.contains(&format!(":{dead}@")))
            && there.iter().filter(|line| line.contains("master")).count() == 3
            && say(other, "CLUSTER INFO").contains("cluster_state:ok")
    };
    until("promoted", promoted).await;
    let began = Instant::now();
    let mut bad = true;
    while bad && began.elapsed() < Duration::from_secs(5) {
        bad = false;
        for _ in 0..20 {
            bad |= works(&redis).await.is_err();
        }
    }
    let took = began.elapsed();
    println!("after the promotion it took {took:?}");
    assert!(!bad && took < Duration::from_secs(2), "{took:?}");
    until("the probe passes", async || redis.probe.probe().await.is_ok()).await;
    cluster.restart("node1").unwrap();
    for _ in 0..50 {
        works(&redis).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_down_says_so() {
    let Some(cluster) = cluster(0) else { return };
    let redis = open(&options(cluster.url())).await;
    works(&redis).await.unwrap();
    cluster.kill("node1");
    let mut said = Vec::new();
    for _ in 0..20 {
        said.extend(works(&redis).await.err());
    }
    assert!(!said.is_empty());
    for error in said {
        assert!(matches!(error.kind(), Kind::Unavailable | Kind::DeadlineExceeded), "{error:?}");
    }
}
