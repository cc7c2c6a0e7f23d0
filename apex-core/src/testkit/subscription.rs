//! Readers of a run: each number once, in order, or a reset.

use super::bench::{Bench, thought};
use super::{Backend, Random, cases};
use crate::id::{Epoch, RunId};
use crate::principal::Principal;
use crate::run::{Delivery, Position, ResetReason, RunLimits, RunState};
use std::sync::Arc;
use std::time::Duration;

cases!("subscription":
    a_backlog_and_then_the_tail_are_delivered_once,
    what_is_written_while_a_reader_opens_is_not_missed,
    readers_that_come_and_go_see_each_number_once,
    a_reader_behind_a_trimmed_log_is_reset,
    a_reader_ahead_of_the_log_or_of_another_epoch_is_reset,
    a_reader_that_has_all_of_an_ended_run_is_told_so,
);

/// Long enough for a slow machine, and far below the 20 s after which a reader looks by itself.
const PATIENCE: Duration = Duration::from_secs(12);

async fn a_backlog_and_then_the_tail_are_delivered_once(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in 1..400 {
        bench.append(&lease, after, vec![thought(5)], None).await.unwrap();
    }
    let mut reader = Reader::new(&bench, &user, lease.run);
    let writer = {
        let bench = bench.clone();
        tokio::spawn(async move {
            for after in 400..450 {
                bench.append(&lease, after, vec![thought(5)], None).await.unwrap();
            }
            bench.complete(&lease, 450).await.unwrap();
        })
    };
    reader.read_to_end().await;
    writer.await.unwrap();
    assert_eq!((reader.cursor, reader.resets), (451, 0));
}

async fn what_is_written_while_a_reader_opens_is_not_missed(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    for _ in 0..40 {
        let user = bench.user();
        let lease = bench.running(&user).await.lease;
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = Reader::new(&bench, &user, lease.run);
                tokio::spawn(async move {
                    reader.read_to_end().await;
                    reader.cursor
                })
            })
            .collect();
        bench.append(&lease, 1, vec![thought(5)], None).await.unwrap();
        bench.complete(&lease, 2).await.unwrap();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 3);
        }
    }
}

async fn readers_that_come_and_go_see_each_number_once(backend: Arc<dyn Backend>) {
    for seed in 0..8 {
        let limits = RunLimits {
            // With every other seed the log is trimmed under the readers.
            history_events: if seed % 2 == 0 { 10_000 } else { 16 },
            ..RunLimits::default()
        };
        let bench = Bench::with_runs(&*backend, limits).await;
        let user = bench.user();
        let lease = bench.running(&user).await.lease;
        let readers: Vec<_> = (0..4)
            .map(|number| {
                let mut reader = Reader::new(&bench, &user, lease.run);
                let random = Random::seeded(100 * seed + number);
                tokio::spawn(async move {
                    reader.read_restlessly(random).await;
                    reader
                })
            })
            .collect();
        let mut random = Random::seeded(seed);
        let mut head = 1;
        for _ in 0..60 {
            let events = (0..=random.below(6)).map(|_| thought(random.below(50))).collect();
            head = bench.append(&lease, head, events, None).await.unwrap().head;
            if random.once_in(3) {
                tokio::task::yield_now().await;
            }
        }
        head = bench.complete(&lease, head).await.unwrap().head;
        for reader in readers {
            let reader = reader.await.unwrap();
            assert_eq!(reader.cursor, head);
            assert!(reader.resets == 0 || seed % 2 == 1);
        }
    }
}

async fn a_reader_behind_a_trimmed_log_is_reset(backend: Arc<dyn Backend>) {
    let limits = RunLimits { history_events: 8, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in 1..30 {
        bench.append(&lease, after, vec![thought(5)], None).await.unwrap();
    }
    let view = bench.stores.runs.view(&user, lease.run).await.unwrap();
    let position = |after| Position { epoch: Some(view.epoch), after };
    let mut behind = bench.subscribe(&user, lease.run, position(view.oldest - 2)).await;
    assert!(!behind.recovered());
    match behind.next().await.unwrap() {
        Delivery::Reset { reason, epoch, head, snapshot } => {
            assert_eq!((reason, epoch, head), (ResetReason::Trimmed, view.epoch, 30));
            assert_eq!(*snapshot, view.snapshot);
        }
        other => panic!("{other:?}"),
    }
    let mut just = bench.subscribe(&user, lease.run, position(view.oldest - 1)).await;
    assert!(just.recovered());
    match just.next().await.unwrap() {
        Delivery::Events(events) => assert_eq!(events[0].seq, view.oldest),
        other => panic!("{other:?}"),
    }
}

async fn a_reader_ahead_of_the_log_or_of_another_epoch_is_reset(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for (epoch, after) in [(lease.epoch, 9), (Epoch::new(&*bench.clock), 1)] {
        let position = Position { epoch: Some(epoch), after };
        let mut reader = bench.subscribe(&user, lease.run, position).await;
        match reader.next().await.unwrap() {
            Delivery::Reset { reason, epoch, head, .. } => {
                assert_eq!((reason, epoch, head), (ResetReason::Epoch, lease.epoch, 1));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_reader_that_has_all_of_an_ended_run_is_told_so(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    bench.complete(&lease, 1).await.unwrap();
    for hours in [0, 30] {
        // Also after its history has gone.
        bench.clock.advance(Duration::from_secs(3_600 * hours));
        bench.claim(bench.node(), 1).await;
        let position = Position { epoch: Some(lease.epoch), after: 2 };
        let mut reader = bench.subscribe(&user, lease.run, position).await;
        let end = reader.next().await.unwrap();
        assert_eq!(end, Delivery::End(RunState::Completed));
    }
}

/// A client: it keeps `(epoch, cursor)` over its connections, and nothing else.
struct Reader {
    bench: Bench,
    user: Principal,
    run: RunId,
    epoch: Option<Epoch>,
    cursor: u64,
    resets: usize,
}

impl Reader {
    fn new(bench: &Bench, user: &Principal, run: RunId) -> Self {
        Self { bench: bench.clone(), user: user.clone(), run, epoch: None, cursor: 0, resets: 0 }
    }

    async fn read_to_end(&mut self) {
        while !self.read(usize::MAX).await {}
    }

    /// Connects anew after a few deliveries each time, sometimes giving up while it waits.
    async fn read_restlessly(&mut self, mut random: Random) {
        loop {
            let deliveries = random.below(4);
            let patience = Duration::from_millis(random.below(8) as u64);
            match tokio::time::timeout(patience, self.read(deliveries)).await {
                Ok(true) => return,
                Ok(false) | Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// One connection of at most so many deliveries; says whether the end was seen.
    async fn read(&mut self, deliveries: usize) -> bool {
        let position = Position { epoch: self.epoch, after: self.cursor };
        let mut subscription = self.bench.subscribe(&self.user, self.run, position).await;
        for _ in 0..deliveries {
            let next = tokio::time::timeout(PATIENCE, subscription.next());
            match next.await.expect("a wake-up was missed").unwrap() {
                Delivery::Events(events) => {
                    for event in events {
                        assert_eq!(event.seq, self.cursor + 1, "a hole or a repeat");
                        self.cursor = event.seq;
                        self.epoch = Some(event.decode().unwrap().epoch);
                    }
                }
                Delivery::Reset { epoch, head, .. } => {
                    assert!(head > self.cursor, "a reset that was not needed");
                    (self.epoch, self.cursor) = (Some(epoch), head);
                    self.resets += 1;
                }
                Delivery::End(_) => return true,
                Delivery::Live(event) => panic!("nobody showed {event:?}"),
            }
        }
        false
    }
}
