//! Cut at any byte, a client that follows the protocol sees every number once and in order.

use crate::support::proxy::{Faults, Proxy, Seeded};
use crate::support::{Settings, Wire};
use apex_core::error::Kind;
use apex_core::run::{Position, RunLimits};
use apex_transport::client::{Api, Client, ClientOptions, Update, Updates};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client that comes in through a proxy.
async fn through(wire: &Wire, proxy: &Proxy, user: &str) -> Client {
    let api = Api::new(&format!("http://{}", proxy.address)).unwrap();
    let api = api.log_in(user).await.unwrap();
    let mut options = ClientOptions::new(api, Arc::clone(&wire.clock) as _);
    options.first_pause = Duration::from_millis(10);
    // The first connection is not made again by itself: who asks for it is told.
    loop {
        match Client::connect(options.clone()).await {
            Ok(client) => return client,
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
        }
    }
}

/// Reads a run to its end; the numbers of its recorded events.
async fn numbers(updates: &mut Updates) -> Vec<u64> {
    let reading = async {
        let mut seen = Vec::new();
        while let Some(update) = updates.next().await {
            match update.unwrap() {
                Update::Event(event) => seen.extend(event.seq),
                Update::Reset(reset) => panic!("nothing was trimmed, and yet {reset:?}"),
            }
        }
        seen
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the end does not come")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_at_any_byte_each_number_comes_once_and_in_order() {
    let wire = Wire::start().await;
    for seed in 0..8 {
        let faults = Faults { cut_within: 6_000, cuts: 12, slice: 700 };
        let proxy = Proxy::start(wire.address, faults, seed * 1_000).await;
        let client = through(&wire, &proxy, &format!("user {seed}")).await;
        let (_, mut updates) = client.ask("slow 2 thoughts 60", None, Vec::new()).await.unwrap();
        let expected: Vec<u64> = (1..=64).collect();
        assert_eq!(numbers(&mut updates).await, expected, "seed {seed}");
        assert!(proxy.cut.load(Ordering::SeqCst) > 0, "seed {seed} cut nothing");
    }
    drop(wire);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_at_a_time_is_only_slow() {
    let wire = Wire::start().await;
    let faults = Faults { cut_within: 1, cuts: 0, slice: 1 };
    let proxy = Proxy::start(wire.address, faults, 7).await;
    let client = through(&wire, &proxy, "ada").await;
    let (_, mut updates) = client.ask("thoughts 3", None, Vec::new()).await.unwrap();
    assert_eq!(numbers(&mut updates).await, (1..=7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_slower_than_the_run_misses_nothing() {
    let wire = Wire::start().await;
    let faults = Faults { cut_within: 200_000, cuts: 3, slice: 4_096 };
    let proxy = Proxy::start(wire.address, faults, 3).await;
    let client = through(&wire, &proxy, "ada").await;
    // Far more events than wait for a reader.
    let (accepted, mut updates) = client.ask("thoughts 1500", None, Vec::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let expected: Vec<u64> = (1..=1_504).collect();
    assert_eq!(numbers(&mut updates).await, expected);
    // From any position, the rest.
    let mut seeded = Seeded::new(5);
    let principal = wire.principal(&wire.token("ada").await).await;
    let view = wire.stores.runs.view(&principal, accepted.run).await.unwrap();
    for _ in 0..5 {
        let after = seeded.below(1_504);
        let position = Position { epoch: Some(view.epoch), after };
        let mut rest = client.subscribe(accepted.run, position).await.unwrap();
        assert_eq!(numbers(&mut rest).await, (after + 1..=1_504).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_meanwhile_comes_as_one_reset() {
    let mut settings = Settings::default();
    settings.memory.runs = RunLimits { history_events: 20, ..RunLimits::default() };
    let wire = Wire::start_with(settings).await;
    let api = wire.api("ada").await;
    let client =
        Client::connect(ClientOptions::new(api, Arc::clone(&wire.clock) as _)).await.unwrap();
    let (accepted, mut first) = client.ask("thoughts 100", None, Vec::new()).await.unwrap();
    let mut last = 0;
    while let Some(update) = first.next().await {
        match update.unwrap() {
            Update::Event(event) => {
                assert_eq!(event.seq, Some(last + 1));
                last += 1;
            }
            Update::Reset(reset) => {
                assert!(reset.head > last);
                last = reset.head;
            }
        }
    }
    assert_eq!(last, 104);
    let mut late = client.subscribe(accepted.run, Position::default()).await.unwrap();
    let Some(Ok(Update::Reset(reset))) = late.next().await else { panic!("no reset") };
    assert_eq!(reset.head, 104);
    assert!(late.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_answer_is_lost_starts_one_run() {
    let wire = Wire::start().await;
    for seed in 0..6 {
        let faults = Faults { cut_within: 900, cuts: 6, slice: 300 };
        let proxy = Proxy::start(wire.address, faults, seed * 77).await;
        let user = format!("user {seed}");
        let client = through(&wire, &proxy, &user).await;
        let (accepted, mut updates) = client.ask("thoughts 2", None, Vec::new()).await.unwrap();
        assert_eq!(numbers(&mut updates).await, (1..=6).collect::<Vec<_>>());
        let principal = wire.principal(&wire.token(&user).await).await;
        let inbox = wire.stores.runs.inbox(&principal, 0, 100).await.unwrap();
        assert!(inbox.entries.iter().all(|entry| entry.run == accepted.run), "{inbox:?}");
    }
}
