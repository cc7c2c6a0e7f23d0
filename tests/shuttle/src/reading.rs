//! A reader that begins while a writer writes: backlog, then tail.

use apex_core::error::Result;
use apex_core::event::Event;
use apex_core::principal::Principal;
use apex_core::run::{Delivery, Lease, Live, Position, RunLog, RunState, Subscription, Wakeup};
use apex_core::store::memory::{self, MemoryOptions};
use apex_core::testkit::line::{Line, over};
use apex_core::testkit::{Bench, VirtualClock, completed, thought};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The events that the writer appends, the end among them.
const WRITTEN: u64 = 4;

/// A line on which others go on while a call is on its way, and while its answer is.
#[derive(Debug)]
struct Far;

#[async_trait]
impl Line for Far {
    async fn to(&self) -> Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn back(&self) -> Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }

    fn carry(&self, append: BoxFuture<'static, ()>) {
        tokio::spawn(append);
    }
}

struct House {
    bench: Bench,
    ada: Principal,
    lease: Lease,
}

impl House {
    async fn new() -> Arc<Self> {
        let clock = Arc::new(VirtualClock::still());
        let stores = memory::open(MemoryOptions::default(), Arc::clone(&clock) as _);
        let line: Arc<dyn Line> = Arc::new(Far);
        let bench = Bench::of(over(stores, &line), clock);
        let ada = bench.user();
        let lease = bench.running(&ada).await.lease;
        Arc::new(Self { bench, ada, lease })
    }

    async fn write(self: Arc<Self>) {
        let last = self.lease.head + WRITTEN;
        for after in self.lease.head..last {
            let (event, state): (Event, _) = match after + 1 == last {
                true => (completed(), Some(RunState::Completed)),
                false => (thought(10), None),
            };
            self.bench.append(&self.lease, after, vec![event], state).await.unwrap();
        }
    }

    /// Reads from `after` to the end; what comes must be all of it, in order, once.
    async fn read(self: Arc<Self>, live: Live, after: u64) {
        let log: Arc<dyn RunLog> = Arc::clone(&self.bench.stores.runs);
        let wakeup: &dyn Wakeup = &*self.bench.stores.wakeup;
        let position = Position { epoch: None, after };
        let (run, who) = (self.lease.run, self.ada.clone());
        let (_, mut reader) =
            Subscription::open(log, wakeup, &live, who, run, position).await.unwrap();
        let mut last = after;
        loop {
            match reader.next().await.unwrap() {
                Delivery::Events(events) => {
                    for event in events {
                        assert_eq!(event.seq, last + 1, "a hole, or one twice");
                        last = event.seq;
                    }
                }
                Delivery::Live(_) => {}
                Delivery::End(state) => {
                    assert_eq!((last, state), (self.lease.head + WRITTEN, RunState::Completed));
                    return;
                }
                reset @ Delivery::Reset { .. } => panic!("{reset:?}"),
            }
        }
    }
}

/// One who begins anywhere between the first append and after the last.
pub async fn one_reader_begins_while_events_are_appended() {
    let house = House::new().await;
    let writer = tokio::spawn(Arc::clone(&house).write());
    let reader = tokio::spawn(Arc::clone(&house).read(Live::default(), 0));
    writer.await.unwrap();
    reader.await.unwrap();
}

/// Three who read for one another, one of them from further on.
pub async fn readers_who_share_what_they_read_miss_nothing() {
    let house = House::new().await;
    let live = Live::default();
    let readers: Vec<_> = [0, 0, 1]
        .into_iter()
        .map(|after| tokio::spawn(Arc::clone(&house).read(live.clone(), after)))
        .collect();
    let writer = tokio::spawn(Arc::clone(&house).write());
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

/// One of two who read for one another goes away in the middle of it.
pub async fn a_reader_that_leaves_takes_nothing_with_it() {
    let house = House::new().await;
    let live = Live::default();
    let leaving = tokio::spawn(Arc::clone(&house).read(live.clone(), 0));
    let staying = tokio::spawn(Arc::clone(&house).read(live, 0));
    let writer = tokio::spawn(Arc::clone(&house).write());
    leaving.abort();
    writer.await.unwrap();
    staying.await.unwrap();
}
