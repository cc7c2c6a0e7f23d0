//! Wake-ups from node to node.

use crate::support::{back, open, options, say, until};
use apex_core::clock::SystemClock;
use apex_core::id::{RunId, UserId};
use apex_core::run::{Topic, Woken};
use apex_test_services::{Kind as Service, Options, Proxy, Server};
use std::time::{Duration, Instant};

async fn is_woken(woken: &mut Woken, within: Duration) -> bool {
    let began = Instant::now();
    woken.wait(within).await;
    began.elapsed() < within
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_wake_each_other_whatever_the_redis_is() {
    for kind in [Service::Redis, Service::Sentinel, Service::Cluster] {
        let Some(server) = Server::start_or_skip(kind, &Options::default()) else { continue };
        let options = options(server.url());
        let (one, two) = (open(&options).await, open(&options).await);
        for node in [&one, &two] {
            until("subscribed", async || node.probe.probe().await.is_ok()).await;
        }
        let topics = [
            Topic::Run(RunId::new(&SystemClock)),
            Topic::Inbox(UserId::new(&SystemClock)),
            Topic::Work,
        ];
        for topic in topics {
            let (mut here, mut there) = (one.wakeup.listen(topic), two.wakeup.listen(topic));
            let mut other = two.wakeup.listen(Topic::Run(RunId::new(&SystemClock)));
            // The first may still be due from the subscription itself.
            let _ = is_woken(&mut other, Duration::from_millis(50)).await;
            one.wakeup.wake(topic);
            assert!(is_woken(&mut here, SOON).await && is_woken(&mut there, SOON).await);
            assert!(!is_woken(&mut other, Duration::from_millis(100)).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_reach_everyone_in_bounds() {
    let Some(server) = Server::start_or_skip(Service::Redis, &Options::default()) else { return };
    let options = options(server.url());
    let (one, two) = (open(&options).await, open(&options).await);
    until("subscribed", async || two.probe.probe().await.is_ok()).await;
    let topics: Vec<Topic> = (0..20_000).map(|_| Topic::Run(RunId::new(&SystemClock))).collect();
    let mut listeners: Vec<Woken> = topics.iter().map(|topic| two.wakeup.listen(*topic)).collect();
    // From a thread that is none of the runtime's, as a writer of SQLite is.
    let wakeup = one.wakeup.clone();
    std::thread::spawn(move || topics.iter().for_each(|topic| wakeup.wake(*topic))).join().unwrap();
    for listener in &mut listeners {
        assert!(is_woken(listener, SOON).await);
    }
    let told = say(server.port(), "INFO commandstats");
    let publish = told.lines().find(|line| line.starts_with("cmdstat_publish:")).unwrap();
    let calls = publish.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap();
    assert!(calls < 1_000, "{calls} messages for 20,000 wake-ups");
}

/// The subscription dies alone, while calls go on as if nothing were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_subscription_fails_the_probe_and_comes_back() {
    let Some(server) = Server::start_or_skip(Service::Redis, &Options::default()) else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let mut options = options(server.url());
    let one = open(&options).await;
    options.url = server.url_at(proxy.port()).parse().unwrap();
    let two = open(&options).await;
    until("subscribed", async || two.probe.probe().await.is_ok()).await;
    let topic = Topic::Run(RunId::new(&SystemClock));
    let mut woken = two.wakeup.listen(topic);
    proxy.abandon();
    back(&two, Duration::from_secs(3)).await;
    one.wakeup.wake(topic);
    // Nobody knows what was missed, so everyone is woken when the subscription is back.
    assert!(is_woken(&mut woken, SOON).await);
    until("the probe passes", async || two.probe.probe().await.is_ok()).await;
    // While nothing can be heard the probe says so.
    proxy.freeze();
    assert!(two.probe.probe().await.is_err());
    proxy.pass();
    until("the probe passes", async || two.probe.probe().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_told_is_made_up_for() {
    let Some(mut server) = Server::start_or_skip(Service::Redis, &Options::default()) else {
        return;
    };
    let options = options(server.url());
    let (one, two) = (open(&options).await, open(&options).await);
    until("subscribed", async || two.probe.probe().await.is_ok()).await;
    let topic = Topic::Run(RunId::new(&SystemClock));
    let mut woken = two.wakeup.listen(topic);
    server.kill("redis");
    one.wakeup.wake(topic);
    assert!(!is_woken(&mut woken, Duration::from_millis(300)).await);
    server.restart("redis").unwrap();
    assert!(is_woken(&mut woken, SOON).await);
}
