//! Delivery with the events of runs in Redis, each a server of the group's own.

use super::crowd::{Group, Size};
use super::servers::tell;
use super::{SECOND, a_node_dies};
use apex_test_services::{Kind, Options, Server, shared};
use tokio::time::sleep;

/// Two nodes over PostgreSQL and a Redis of their own that has the events, which suffer `harm`.
async fn over_event_log(
    kind: Kind,
    options: &Options,
    harm: impl AsyncFnOnce(&mut Group, &mut Server),
) {
    let Some(postgres) = shared("postgres") else { return };
    let Some(mut redis) = Server::start_or_skip(kind, options) else { return };
    let url = redis.url().to_owned();
    let harm = async |group: &mut Group| {
        sleep(SECOND).await;
        harm(group, &mut redis).await;
        sleep(SECOND).await;
    };
    Group::start_with(&postgres, Some(&url), true).judge(Size::told(), harm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong_with_events_in_redis() {
    over_event_log(Kind::Redis, &Options::default(), async |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed_with_the_events_in_it() {
    over_event_log(Kind::Redis, &Options::default(), async |_, redis| {
        redis.kill("redis");
        sleep(3 * SECOND).await;
        redis.restart("redis").unwrap();
        tell(redis, "FLUSHALL");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_with_the_events_is_killed() {
    let options = Options { replicas: 1, ..Options::default() };
    over_event_log(Kind::Sentinel, &options, async |_, redis| {
        redis.kill("primary");
        sleep(4 * SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_with_events_in_redis() {
    over_event_log(Kind::Redis, &Options::default(), async |group, _| a_node_dies(group).await)
        .await;
}
