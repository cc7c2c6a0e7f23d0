//! Delivery while real networks, nodes and servers fail, decided by a judge of histories: 20 runs for each fault, 1,000
//! runs of 100 users with `APEX_FULL=1`.

mod connections;
mod crowd;
mod event_log;
mod node;
mod servers;

use apex_test_services::{Proxy, Replies, shared};
use crowd::{Group, Size};
use std::time::Duration;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// The shared servers, or a note that there are none.
fn servers() -> Option<(String, String)> {
    Some((shared("postgres")?, shared("redis")?))
}

/// Two nodes over PostgreSQL and Redis, whose users live through `harm`.
async fn over_both(harm: impl AsyncFnOnce(&mut Group)) {
    let Some((postgres, redis)) = servers() else { return };
    Group::start(&postgres, Some(&redis)).judge(Size::told(), harm).await;
}

/// Two nodes over PostgreSQL alone, whose users live through `harm`.
async fn over_postgres(harm: impl AsyncFnOnce(&mut Group)) {
    let Some(postgres) = shared("postgres") else { return };
    Group::start(&postgres, None).judge(Size::told(), harm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong() {
    over_both(async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_reset_in_the_middle_of_a_frame() {
    over_both(async |group| {
        for round in 0..8 {
            for proxy in &group.proxies {
                proxy.replies(Replies::CutAfter(700 + 331 * round));
            }
            sleep(SECOND / 2).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_half_closed() {
    over_both(async |group| {
        for _ in 0..4 {
            group.proxies.iter().for_each(Proxy::half_close);
            sleep(SECOND).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_one_byte_at_a_time() {
    over_both(async |group| {
        group.proxies.iter().for_each(|proxy| proxy.slice(1));
        sleep(4 * SECOND).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_stands_still_and_goes_on() {
    over_both(async |group| {
        for _ in 0..2 {
            group.proxies.iter().for_each(Proxy::freeze);
            sleep(2 * SECOND).await;
            group.proxies.iter().for_each(Proxy::pass);
            sleep(SECOND / 2).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_cuts_every_three_seconds_and_all_come_back_at_once() {
    over_both(async |group| {
        for _ in 0..3 {
            group.proxies.iter().for_each(Proxy::cut);
            sleep(3 * SECOND).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_reconnects_does_not_end() {
    over_both(async |group| {
        for _ in 0..40 {
            group.proxies.iter().for_each(Proxy::cut);
            sleep(SECOND / 10).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_one_node_go_on_at_the_other() {
    over_both(async |group| {
        let ports = [group.nodes[0].port, group.nodes[1].port];
        for round in 0..6 {
            for (number, proxy) in group.proxies.iter().enumerate() {
                proxy.redirect(ports[(number + round + 1) % 2]);
                proxy.cut();
            }
            sleep(SECOND / 2).await;
        }
    })
    .await;
}

/// A node is killed, its clients are sent to the other one and to one that is new.
async fn a_node_dies(group: &mut Group) {
    sleep(SECOND).await;
    group.nodes[0].kill();
    group.proxies[0].redirect(group.nodes[1].port);
    sleep(2 * SECOND).await;
    group.replace(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_over_both() {
    over_both(a_node_dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_over_postgres() {
    over_postgres(a_node_dies).await;
}

/// A node stands still for longer than its lease while the other takes its runs over, and then goes on writing.
async fn a_node_comes_back_from_the_dead(group: &mut Group) {
    sleep(SECOND).await;
    group.nodes[0].pause();
    group.proxies[0].redirect(group.nodes[1].port);
    group.proxies[0].cut();
    sleep(3 * node::LEASE).await;
    group.nodes[0].go_on();
    sleep(SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_writes_nothing_over_both() {
    over_both(a_node_comes_back_from_the_dead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_writes_nothing_over_postgres() {
    over_postgres(a_node_comes_back_from_the_dead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_one_after_the_other_under_load() {
    over_both(async |group| {
        for number in 0..2 {
            sleep(SECOND).await;
            let old = &mut group.nodes[number];
            old.leave();
            group.replace(number);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_connections_are_limited_over_all_nodes_over_both() {
    let Some((postgres, redis)) = servers() else { return };
    Group::start(&postgres, Some(&redis)).fill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_connections_are_limited_over_all_nodes_over_postgres() {
    let Some(postgres) = shared("postgres") else { return };
    Group::start(&postgres, None).fill().await;
}
