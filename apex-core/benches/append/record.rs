//! Recording events on one kind of stores, with as many readers as are wanted.

use apex_core::clock::SystemClock;
use apex_core::event::Event;
use apex_core::id::{RequestId, RunId, StepId, ThreadId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Claim, Delivery, Emitter, Live, NewRun, Position, RunState, Subscription};
use apex_core::store::memory::MemoryOptions;
use apex_core::store::{Stores, memory};
use apex_core::testkit::completed;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub(crate) fn in_memory(events: usize, readers: usize) -> Duration {
    let stores = memory::open(MemoryOptions::default(), Arc::new(SystemClock));
    record(&runtime(), &stores, events, 1, readers)
}

/// Writes `events` events, one an append, spread over `writers` runs, each run read by `readers`.
pub(crate) fn record(
    runtime: &Runtime,
    stores: &Stores,
    events: usize,
    writers: usize,
    readers: usize,
) -> Duration {
    runtime.block_on(async {
        let mut emitters = Vec::new();
        let mut reading = JoinSet::new();
        for _ in 0..writers {
            let (principal, emitter) = begin(stores).await;
            for _ in 0..readers {
                let (log, run) = (Arc::clone(&stores.runs), emitter.lease().run);
                let (_, reader) = Subscription::open(
                    log,
                    &*stores.wakeup,
                    &Live::default(),
                    principal.clone(),
                    run,
                    Position::default(),
                )
                .await
                .unwrap();
                reading.spawn(read(reader));
            }
            emitters.push(emitter);
        }
        let began = Instant::now();
        let mut writing = JoinSet::new();
        for emitter in emitters {
            writing.spawn(write(emitter, events / writers));
        }
        while let Some(written) = writing.join_next().await {
            written.unwrap();
        }
        while let Some(seen) = reading.join_next().await {
            assert_eq!(seen.unwrap(), events as u64 + 2);
        }
        began.elapsed()
    })
}

pub(crate) async fn begin(stores: &Stores) -> (Principal, Emitter) {
    let clock = Arc::new(SystemClock);
    let principal = Principal::vouched(UserId::new(&*clock), Scopes::USER);
    let new = NewRun {
        run: RunId::new(&*clock),
        request: RequestId::new(&*clock),
        digest: [0; 32],
        thread: ThreadId::new(&*clock),
        parent: None,
        text: "where does it go?".into(),
        attachments: Vec::new(),
        agents: Vec::new(),
        budget: None,
        trace: None,
    };
    stores.runs.start(&principal, new).await.unwrap();
    let claim = Claim { node: stores.node, max: 1 };
    let claimed = stores.runs.claim(claim).await.unwrap().pop().unwrap();
    let log = Arc::clone(&stores.runs);
    (principal, Emitter::new(log, clock, Live::default(), claimed.lease))
}

async fn write(mut emitter: Emitter, events: usize) {
    for _ in 0..events {
        emitter.append(vec![event()], None, None).await.unwrap();
    }
    let state = Some(RunState::Completed);
    emitter.append(vec![completed()], None, state).await.unwrap();
}

async fn read(mut reader: Subscription) -> u64 {
    loop {
        match reader.next().await.unwrap() {
            Delivery::End(_) => return reader.cursor(),
            Delivery::Reset { .. } => panic!("a reader fell behind"),
            Delivery::Events(_) | Delivery::Live(_) => {}
        }
    }
}

pub(crate) fn event() -> Event {
    Event::AgentThinking {
        step: StepId(1),
        agent: "optimizer".into(),
        note: "Batch requests would cost half, and nothing in these rows needs an answer at once."
            .repeat(2),
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
