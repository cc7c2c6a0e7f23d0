//! Readers of an inbox.

use super::bench::Bench;
use super::{Backend, cases};
use crate::id::{Epoch, RunId};
use crate::principal::Principal;
use crate::run::{InboxDelivery, InboxSubscription, Position, ResetReason, RunLimits, RunState};
use std::sync::Arc;
use std::time::Duration;

cases!("inbox":
    a_new_tab_finds_what_is_going_on,
    entries_are_delivered_as_they_come,
    a_reader_behind_a_trimmed_inbox_gets_what_is_kept,
    a_reader_of_another_epoch_is_reset,
);

async fn a_new_tab_finds_what_is_going_on(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let (first, second) = (bench.running(&user).await.lease, bench.start(&user).await);
    bench.complete(&first, 1).await.unwrap();
    let mut inbox = open(&bench, &user, Position::default()).await;
    let expected = [
        (1, first.run, RunState::Running),
        (2, second.run, RunState::Running),
        (3, first.run, RunState::Completed),
    ];
    assert_eq!(entries(inbox.next().await.unwrap()), expected);
    assert_eq!(inbox.cursor(), 3);
}

async fn entries_are_delivered_as_they_come(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let mut inbox = open(&bench, &user, Position::default()).await;
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 40 {
            let next = tokio::time::timeout(Duration::from_secs(12), inbox.next());
            seen.extend(entries(next.await.expect("a wake-up was missed").unwrap()));
        }
        seen
    });
    for _ in 0..20 {
        let lease = bench.running(&user).await.lease;
        bench.complete(&lease, 1).await.unwrap();
        // Another user's runs do not show.
        bench.start(&bench.user()).await;
    }
    let seen = reader.await.unwrap();
    let numbers: Vec<u64> = seen.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}

async fn a_reader_behind_a_trimmed_inbox_gets_what_is_kept(backend: Arc<dyn Backend>) {
    let limits = RunLimits { inbox_entries: 5, running: 50, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    for _ in 0..12 {
        bench.start(&user).await;
    }
    let mut inbox = open(&bench, &user, Position::default()).await;
    assert!(!inbox.recovered());
    match inbox.next().await.unwrap() {
        InboxDelivery::Reset { reason, head, .. } => {
            assert_eq!((reason, head), (ResetReason::Trimmed, 7));
        }
        other => panic!("{other:?}"),
    }
    let kept = entries(inbox.next().await.unwrap());
    let numbers: Vec<u64> = kept.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(numbers, [8, 9, 10, 11, 12]);
}

async fn a_reader_of_another_epoch_is_reset(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    bench.start(&user).await;
    let epoch = bench.stores.runs.inbox(&user, 0, 1).await.unwrap().epoch;
    for (asked, after) in [(Epoch::new(&*bench.clock), 1), (epoch, 5)] {
        let position = Position { epoch: Some(asked), after };
        let mut inbox = open(&bench, &user, position).await;
        let reset = InboxDelivery::Reset { reason: ResetReason::Epoch, epoch, head: 0 };
        assert_eq!(inbox.next().await.unwrap(), reset);
        assert_eq!(entries(inbox.next().await.unwrap()).len(), 1);
    }
}

async fn open(bench: &Bench, user: &Principal, position: Position) -> InboxSubscription {
    let (log, wakeup) = (Arc::clone(&bench.stores.runs), &*bench.stores.wakeup);
    InboxSubscription::open(log, wakeup, user.clone(), position).await.expect("the inbox opens").1
}

fn entries(delivery: InboxDelivery) -> Vec<(u64, RunId, RunState)> {
    match delivery {
        InboxDelivery::Entries(entries) => {
            entries.into_iter().map(|entry| (entry.seq, entry.run, entry.state)).collect()
        }
        reset @ InboxDelivery::Reset { .. } => panic!("{reset:?}"),
    }
}
