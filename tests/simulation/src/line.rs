//! A node's line to the store, and how it is woken.

use crate::world::{Defect, World};
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::{Error, Kind, Outcome, Result};
use apex_core::run::{Append, Appended, Lease, LocalWakeup, Signals, Topic, Wakeup, Woken};
use apex_core::testkit::history::Written;
use apex_core::testkit::line::Line;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// How long a call waits for an answer that does not come.
const NO_ANSWER: Duration = Duration::from_millis(800);

/// What a node's line is like at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct State {
    /// How many faults cut it.
    pub(crate) cut: usize,
    /// How many faults keep wake-ups from the node.
    pub(crate) deaf: usize,
    /// One in so many answers is lost; 0 for none.
    pub(crate) lost_answers: usize,
    /// The most milliseconds each way.
    pub(crate) slow: u64,
}

/// One node's line to the store.
#[derive(Debug)]
pub(crate) struct NodeLine {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
}

impl NodeLine {
    fn state(&self) -> State {
        self.world.lines.lock().unwrap()[self.node]
    }

    async fn travel(&self) {
        let most = self.state().slow.max(3) as usize;
        let millis = 1 + self.world.random.lock().unwrap().below(most);
        sleep(Duration::from_millis(millis as u64)).await;
    }

    async fn no_answer(&self, outcome: Outcome) -> Error {
        sleep(NO_ANSWER).await;
        Error::new(Kind::Unavailable, "simulation.store", "the store does not answer")
            .with_outcome(outcome)
    }
}

#[async_trait]
impl Line for NodeLine {
    async fn to(&self) -> Result<()> {
        self.travel().await;
        if self.state().cut == 0 {
            return Ok(());
        }
        // The caller cannot always tell.
        let known = self.world.random.lock().unwrap().once_in(2);
        let outcome = if known { Outcome::NotApplied } else { Outcome::Unknown };
        Err(self.no_answer(outcome).await)
    }

    async fn back(&self) -> Result<()> {
        self.travel().await;
        let state = self.state();
        let lost =
            state.lost_answers > 0 && self.world.random.lock().unwrap().once_in(state.lost_answers);
        if state.cut > 0 || lost {
            return Err(self.no_answer(Outcome::Unknown).await);
        }
        Ok(())
    }

    fn carry(&self, append: BoxFuture<'static, ()>) {
        // What is on its way arrives also when its node is dead.
        self.world.store.get().unwrap().spawn(append);
    }

    fn told(&self, lease: &Lease, batch: &Append, answer: Result<Appended>) -> Result<Appended> {
        let refused = |kind| matches!(kind, Kind::Fenced | Kind::Conflict);
        let answer = match answer {
            Err(error) if self.world.defect == Defect::IgnoresFences && refused(error.kind()) => {
                let head = batch.after + batch.events.len() as u64;
                Ok(Appended { head, epoch: lease.epoch, signals: Signals::default() })
            }
            answer => answer,
        };
        if answer.is_ok() {
            let written = batch
                .events
                .iter()
                .filter_map(|event| Written::read(&serde_json::from_slice(&event.json).unwrap()));
            self.world.acknowledged.lock().unwrap().extend(written);
        }
        answer
    }
}

/// Wakes the nodes that the store reaches.
#[derive(Debug)]
pub(crate) struct Broadcast(pub(crate) std::sync::Weak<World>);

impl Wakeup for Broadcast {
    fn wake(&self, topic: Topic) {
        let Some(world) = self.0.upgrade() else { return };
        let lines = world.lines.lock().unwrap().clone();
        let nodes: Vec<Arc<LocalWakeup>> = world.wakeups.lock().unwrap().clone();
        for (line, wakeup) in lines.iter().zip(nodes) {
            if line.cut == 0 && line.deaf == 0 {
                wakeup.wake(topic);
            }
        }
    }

    fn listen(&self, _: Topic) -> Woken {
        unreachable!("nodes listen to their own")
    }
}

/// The time in the simulation, seen through a clock that is off by some.
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock {
    skew: i64,
    /// What it showed last, for who asks from outside.
    last: AtomicI64,
}

/// 2026-01-01T00:00:00Z.
pub(crate) const BEGAN: i64 = 1_767_225_600_000;

impl SimulatedClock {
    pub(crate) fn new(skew: i64) -> Self {
        Self { skew, last: AtomicI64::new(BEGAN) }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let now = match turmoil::sim_elapsed() {
            Some(elapsed) => BEGAN + elapsed.as_millis() as i64 + self.skew,
            None => self.last.load(Ordering::Relaxed),
        };
        self.last.store(now, Ordering::Relaxed);
        Timestamp::from_millis(now)
    }
}
