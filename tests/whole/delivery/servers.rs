//! Faults of the servers that nodes share, each a server of the group's own, so that nobody else is harmed.

use super::SECOND;
use super::crowd::{Group, Size};
use apex_test_services::{Kind, Options, Proxy, Server, shared};
use std::process::Command;
use tokio::time::sleep;

/// Two nodes over a Redis of their own, which suffers `harm`.
async fn over_own_redis(kind: Kind, replicas: u32, harm: impl AsyncFnOnce(&mut Server)) {
    let Some(postgres) = shared("postgres") else { return };
    let options = Options { replicas, ..Options::default() };
    let Some(mut redis) = Server::start_or_skip(kind, &options) else { return };
    let url = redis.url().to_owned();
    let harm = async |_: &mut Group| {
        sleep(SECOND).await;
        harm(&mut redis).await;
        sleep(SECOND).await;
    };
    Group::start(&postgres, Some(&url)).judge(Size::told(), harm).await;
}

pub(super) fn tell(redis: &Server, command: &str) {
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", &redis.port().to_string()]).args(command.split(' '));
    let said = cli.output().unwrap();
    assert!(said.status.success(), "{command}: {}", crate::support::text(&said.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_and_comes_back_empty() {
    over_own_redis(Kind::Redis, 0, async |redis| {
        redis.kill("redis");
        sleep(3 * SECOND).await;
        redis.restart("redis").unwrap();
        tell(redis, "FLUSHALL");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stands_still() {
    over_own_redis(Kind::Redis, 0, async |redis| {
        redis.pause("redis");
        sleep(4 * SECOND).await;
        redis.resume("redis");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_has_no_memory_left() {
    over_own_redis(Kind::Redis, 0, async |redis| {
        tell(redis, "CONFIG SET maxmemory 1");
        sleep(4 * SECOND).await;
        tell(redis, "CONFIG SET maxmemory 0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_forgets_scripts_and_cuts_connections() {
    over_own_redis(Kind::Redis, 0, async |redis| {
        for _ in 0..8 {
            tell(redis, "SCRIPT FLUSH");
            tell(redis, "CLIENT KILL TYPE pubsub");
            sleep(SECOND / 4).await;
            tell(redis, "CLIENT KILL TYPE normal");
            sleep(SECOND / 4).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_under_sentinel_is_killed() {
    over_own_redis(Kind::Sentinel, 1, async |redis| {
        redis.kill("primary");
        sleep(4 * SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_a_cluster_is_killed() {
    over_own_redis(Kind::Cluster, 1, async |redis| {
        redis.kill("node1");
        sleep(4 * SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_killed_and_started_again() {
    let Some(mut postgres) = Server::start_or_skip(Kind::Postgres, &Options::default()) else {
        return;
    };
    let url = postgres.url().to_owned();
    let harm = async |_: &mut Group| {
        sleep(SECOND).await;
        postgres.kill("postgres");
        sleep(SECOND).await;
        postgres.restart("postgres").unwrap();
    };
    Group::start(&url, None).judge(Size::told(), harm).await;
}

/// Two nodes that reach PostgreSQL, which wakes them too, through a network that suffers `harm`.
async fn over_a_bad_network(harm: impl AsyncFnOnce(&Proxy)) {
    let Some(postgres) = shared("postgres") else { return };
    let port = postgres.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()).unwrap();
    let proxy = Proxy::start(port.parse().unwrap()).unwrap();
    let url = postgres.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
    let harm = async |_: &mut Group| {
        harm(&proxy).await;
        proxy.pass();
    };
    Group::start(&url, None).judge(Size::told(), harm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_to_postgres_are_cut() {
    over_a_bad_network(async |proxy| {
        for _ in 0..6 {
            sleep(SECOND / 2).await;
            proxy.cut();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_to_postgres_die_without_a_word() {
    over_a_bad_network(async |proxy| {
        for _ in 0..2 {
            sleep(SECOND).await;
            proxy.abandon();
        }
    })
    .await;
}
