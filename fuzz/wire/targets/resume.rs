//! Readers of one log, against a slow model of it: events are appended, trimmed and lost, the log begins another life,
//! wake-ups get lost, reads fail, readers go away and come back with any position. Each opening is decided as the
//! protocol's text says; what a reader applies follows what it has, was in the log under that name, and brings it to the
//! log's end, at the latest when it has looked by itself.

#![no_main]

#[path = "feed.rs"]
mod feed;

use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Recorded;
use apex_core::id::{Epoch, RunId, ThreadId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{
    Append, Appended, Claim, Claimed, Delivery, InboxPage, Lease, Live, LocalWakeup, NewRun, Page,
    Position, ResetReason, RunLog, RunState, RunView, Signal, Snapshot, Started, Subscription,
    Topic, Wakeup as _,
};
use async_trait::async_trait;
use feed::Feed;
use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How many events a page has, so that a log has several.
const PAGE: usize = 5;

/// Longer than a reader waits before it looks by itself.
const LONGER_THAN_A_LOOK: Duration = Duration::from_secs(21);

thread_local! {
    static RUNTIME: LazyCell<Runtime> = LazyCell::new(|| {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    });
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    RUNTIME.with(|runtime| runtime.block_on(play(&mut Feed::new(bytes))));
});

/// What the model remembers: all that was ever in the log.
#[derive(Debug)]
struct Model {
    epoch: Epoch,
    lives: u8,
    /// Of the present life, from number 1.
    events: Vec<Recorded>,
    oldest: u64,
    ended: bool,
    /// It lost what it had acknowledged: before anything is appended it begins another life.
    lost: bool,
    written: u64,
    ever: HashMap<(Epoch, u64), Vec<Recorded>>,
    failing: u8,
}

impl Model {
    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn append(&mut self, count: u8, terminal: bool) {
        if self.ended {
            return;
        }
        if self.lost {
            self.begin_again(count);
        }
        for n in 0..count {
            self.push(terminal && n + 1 == count);
        }
    }

    fn push(&mut self, terminal: bool) {
        self.written += 1;
        let seq = self.head() + 1;
        let json = format!("{{\"{}\":{}}}", self.epoch, self.written).into();
        let event = Recorded { seq, terminal, json };
        self.ever.entry((self.epoch, seq)).or_default().push(event.clone());
        self.events.push(event);
        self.ended |= terminal;
    }

    /// Another life, with some of what there was told again.
    fn begin_again(&mut self, count: u8) {
        self.lives += 1;
        self.epoch = Epoch::from_bytes([self.lives; 16]);
        (self.oldest, self.lost, self.ended) = (1, false, false);
        self.events.clear();
        for _ in 0..count {
            self.push(false);
        }
    }
}

#[derive(Debug)]
struct Log(Mutex<Model>);

impl Log {
    fn fails(&self) -> Result<()> {
        let mut model = self.0.lock().unwrap();
        if model.failing == 0 {
            return Ok(());
        }
        model.failing -= 1;
        Err(Error::new(Kind::Unavailable, "fuzz", "not now"))
    }
}

fn never<T>() -> Result<T> {
    Err(Error::new(Kind::Internal, "fuzz", "no reader asks this"))
}

#[async_trait]
impl RunLog for Log {
    async fn view(&self, _: &Principal, run: RunId) -> Result<RunView> {
        self.fails()?;
        let model = self.0.lock().unwrap();
        let state = if model.ended { RunState::Completed } else { RunState::Running };
        Ok(RunView {
            run,
            thread: ThreadId::from_bytes([1; 16]),
            state,
            epoch: model.epoch,
            head: model.head(),
            oldest: model.oldest,
            attempt: 1,
            started_at: Timestamp::from_millis(0),
            ended_at: None,
            settled: Vec::new(),
            snapshot: Snapshot { state, ..Snapshot::new() },
        })
    }

    async fn read(&self, _: &Principal, _: RunId, after: u64, max: usize) -> Result<Page> {
        self.fails()?;
        let model = self.0.lock().unwrap();
        let follows = model.events.iter().filter(|event| event.seq > after.max(model.oldest - 1));
        Ok(Page {
            epoch: model.epoch,
            events: follows.take(max.min(PAGE)).cloned().collect(),
            head: model.head(),
            oldest: model.oldest,
            ended: model.ended,
        })
    }

    async fn start(&self, _: &Principal, _: NewRun) -> Result<Started> {
        never()
    }
    async fn claim(&self, _: Claim) -> Result<Vec<Claimed>> {
        never()
    }
    async fn append(&self, _: &Lease, _: Append) -> Result<Appended> {
        never()
    }
    async fn signal(&self, _: &Principal, _: RunId, _: Signal) -> Result<RunState> {
        never()
    }
    async fn inbox(&self, _: &Principal, _: u64, _: usize) -> Result<InboxPage> {
        never()
    }
    async fn forget(&self, _: &Principal, _: ThreadId) -> Result<Vec<RunId>> {
        never()
    }
}

/// A reader with what it has applied.
struct Reader {
    subscription: Subscription,
    epoch: Epoch,
    last: u64,
    /// Where a reset that was decided at the opening says that the log stood.
    stood: Option<(Epoch, u64, bool)>,
    done: bool,
}

async fn play(feed: &mut Feed<'_>) {
    let (run, user) = (RunId::from_bytes([3; 16]), UserId::from_bytes([4; 16]));
    let log = Arc::new(Log(Mutex::new(Model {
        epoch: Epoch::from_bytes([0; 16]),
        lives: 0,
        events: Vec::new(),
        oldest: 1,
        ended: false,
        lost: false,
        written: 0,
        ever: HashMap::new(),
        failing: 0,
    })));
    let (wakeup, live) = (LocalWakeup::default(), Live::default());
    let principal = Principal::vouched(user, Scopes::USER);
    let mut readers: Vec<Reader> = Vec::new();
    while !feed.is_empty() {
        let (what, how) = (feed.below(12), feed.byte());
        match what {
            0..=2 => log.0.lock().unwrap().append(how % 8 + 1, how >= 240),
            3 => {
                let mut model = log.0.lock().unwrap();
                let oldest = model.oldest + u64::from(how);
                model.oldest = oldest.min(model.head() + 1);
            }
            4 if how >= 128 => {
                let mut model = log.0.lock().unwrap();
                if model.lives < 100 {
                    model.begin_again(how % 16);
                }
            }
            4 => {
                let mut model = log.0.lock().unwrap();
                let kept = model.events.len().saturating_sub(usize::from(how % 8));
                model.lost |= kept < model.events.len();
                model.events.truncate(kept);
                model.oldest = model.oldest.min(kept as u64 + 1);
                model.ended = model.events.last().is_some_and(|event| event.terminal);
            }
            5 => log.0.lock().unwrap().failing = how % 3,
            6..=8 => {
                if let Some(reader) = readers.get_mut(usize::from(how % 4)) {
                    for _ in 0..=how >> 6 {
                        step(&log, reader, Duration::from_millis(1)).await;
                    }
                }
            }
            9 => wakeup.wake(Topic::Run(run)),
            _ => {
                // One that comes back with what it has, or one with any position.
                let place = usize::from(how % 4);
                let known = readers.get(place).map(|reader| (reader.epoch, reader.last));
                let position = match (feed.below(4), known) {
                    (0, Some((epoch, last))) => Position { epoch: Some(epoch), after: last },
                    (1, _) => Position::default(),
                    (2, _) => {
                        let epoch = log.0.lock().unwrap().epoch;
                        Position { epoch: Some(epoch), after: u64::from(feed.byte() % 40) }
                    }
                    _ => {
                        let epoch = Epoch::from_bytes([feed.below(8); 16]);
                        Position { epoch: Some(epoch), after: u64::from(feed.byte() % 40) }
                    }
                };
                let seam = Arc::clone(&log) as Arc<dyn RunLog>;
                let who = principal.clone();
                let opened = Subscription::open(seam, &wakeup, &live, who, run, position).await;
                let Ok((view, subscription)) = opened else {
                    continue;
                };
                decided(&log.0.lock().unwrap(), position, &view, subscription.recovered());
                let stood = (view.epoch, view.head, view.state.is_terminal());
                let stood = (!subscription.recovered()).then_some(stood);
                let (epoch, last) = (view.epoch, position.after);
                let reader = Reader { subscription, epoch, last, stood, done: false };
                match readers.get_mut(place) {
                    Some(old) => *old = reader,
                    None => readers.push(reader),
                }
            }
        }
    }
    // Nobody wakes anybody, and nothing fails any more: all the same everybody gets to the end.
    log.0.lock().unwrap().failing = 0;
    for reader in &mut readers {
        while step(&log, reader, LONGER_THAN_A_LOOK).await {}
        let model = log.0.lock().unwrap();
        let there = (reader.epoch, reader.last) == (model.epoch, model.head());
        // Whoever was told the end wants to know nothing of what came then.
        assert!(reader.done || there && !model.ended, "left behind at {}", reader.last);
    }
}

/// The resume decision, from the protocol's text.
fn decided(model: &Model, position: Position, view: &RunView, recovered: bool) {
    assert_eq!((view.epoch, view.head, view.oldest), (model.epoch, model.head(), model.oldest));
    let same_life = position.epoch.is_none_or(|epoch| epoch == model.epoch);
    let rest: Vec<u64> = (position.after + 1..=model.head()).collect();
    let kept = |seq: &u64| *seq >= model.oldest;
    let complete = same_life && position.after <= model.head() && rest.iter().all(kept);
    assert_eq!(recovered, complete, "{position:?} in {} to {}", model.oldest, model.head());
}

/// One delivery; `false` when nothing comes any more.
async fn step(log: &Log, reader: &mut Reader, patience: Duration) -> bool {
    if reader.done {
        return false;
    }
    let Ok(delivery) = timeout(patience, reader.subscription.next()).await else {
        return false;
    };
    let model = log.0.lock().unwrap();
    match delivery {
        Err(error) => assert_eq!(error.kind(), Kind::Unavailable),
        Ok(Delivery::Events(events)) => {
            assert!(!events.is_empty());
            for event in events {
                assert_eq!(event.seq, reader.last + 1, "a hole, or a number twice");
                let written = model.ever.get(&(reader.epoch, event.seq));
                assert!(written.is_some_and(|all| all.contains(&event)), "invented: {event:?}");
                reader.last = event.seq;
            }
        }
        Ok(Delivery::Reset { reason, epoch, head, snapshot }) => {
            let told = (epoch, head, snapshot.state.is_terminal());
            let now = (model.epoch, model.head(), model.ended);
            if let Some(stood) = reader.stood.take() {
                assert_eq!(told, stood);
            } else {
                assert_eq!(told, now);
                let trimmed = reader.last + 1 < model.oldest;
                let other = reader.epoch != epoch || reader.last > head;
                assert!(trimmed || other, "{reason:?} for no reason");
                assert!(trimmed || reason == ResetReason::Epoch, "{reason:?}");
            }
            (reader.epoch, reader.last) = (epoch, head);
        }
        Ok(Delivery::End(state)) => {
            assert!(state.is_terminal() && model.ended, "{state:?}");
            assert_eq!((reader.epoch, reader.last), (model.epoch, model.head()), "too early");
            reader.done = true;
        }
        Ok(Delivery::Live(event)) => panic!("nobody showed {event:?}"),
    }
    true
}
