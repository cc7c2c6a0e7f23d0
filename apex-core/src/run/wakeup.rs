use super::bell::{Bell, Ear};
use crate::id::{RunId, UserId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A run's log grew or ended.
    Run(RunId),
    /// A run ended, or is no longer there.
    Ended(RunId),
    /// A user asked something of a run.
    Signals(RunId),
    /// A user's inbox grew.
    Inbox(UserId),
    /// There may be a run to claim.
    Work,
    /// A login was revoked.
    Revocations,
}

/// Tells waiting readers and writers that a store may have something new. It is a hint and may get lost; the store
/// is the truth, and whoever waits also looks by itself from time to time.
pub trait Wakeup: fmt::Debug + Send + Sync {
    /// Wakes everyone who listens to `topic`.
    fn wake(&self, topic: Topic);

    /// Begins to listen: wakes from this moment on are not missed, also while nobody awaits.
    fn listen(&self, topic: Topic) -> Woken;
}

/// One listener.
#[derive(Debug)]
pub struct Woken {
    ear: Ear,
    _slot: Slot,
}

impl Woken {
    /// Waits for a wake-up since the last call, at most `longest`.
    pub async fn wait(&mut self, longest: Duration) {
        let changed = poll_fn(|cx| self.poll_changed(cx));
        let _ = tokio::time::timeout(longest, changed).await;
    }

    /// Ready when there was a wake-up since this was ready last. In either case the task is woken by the next one.
    pub(super) fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.ear.poll_rung(cx)
    }

    /// Whether there was a wake-up that it has not been asked about yet.
    pub(super) fn is_changed(&self) -> bool {
        self.ear.is_rung()
    }

    /// The number of the last wake-up that it has heard; of a topic's listeners in this process, those that have heard the
    /// same one answer the same one.
    pub(super) fn last(&self) -> u64 {
        self.ear.heard()
    }

    /// What it listens to.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        self.ear.bell()
    }
}

type Topics = Mutex<HashMap<Topic, Arc<Bell>>>;

/// Wake-ups within one process.
#[derive(Debug, Default)]
pub struct LocalWakeup {
    topics: Arc<Topics>,
}

impl LocalWakeup {
    /// Topics that someone listens to at the moment.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.lock().len()
    }

    /// Wakes everyone: when it is not known what was missed.
    pub fn wake_all(&self) {
        let bells: Vec<Arc<Bell>> = self.topics.lock().values().cloned().collect();
        bells.iter().for_each(|bell| bell.ring());
    }
}

impl Wakeup for LocalWakeup {
    fn wake(&self, topic: Topic) {
        let bell = self.topics.lock().get(&topic).cloned();
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    fn listen(&self, topic: Topic) -> Woken {
        let ear = Arc::clone(self.topics.lock().entry(topic).or_default()).listen();
        Woken { ear, _slot: Slot { topic, topics: Arc::clone(&self.topics) } }
    }
}

/// Forgets a topic with its last listener.
#[derive(Debug)]
struct Slot {
    topic: Topic,
    topics: Arc<Topics>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut topics = self.topics.lock();
        // The ear beside this slot is dropped first (field order of `Woken`).
        if topics.get(&self.topic).is_some_and(|bell| !bell.is_heard()) {
            topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(start_paused = true)]
    async fn a_wake_between_listening_and_waiting_is_not_missed() {
        let wakeup = LocalWakeup::default();
        let topic = Topic::Run(RunId::new(&SystemClock));
        let mut woken = wakeup.listen(topic);
        wakeup.wake(topic);
        let before = tokio::time::Instant::now();
        woken.wait(Duration::from_secs(20)).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        woken.wait(Duration::from_secs(20)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(20));
    }

    #[test]
    fn a_topic_is_forgotten_with_its_last_listener() {
        let wakeup = LocalWakeup::default();
        let (a, b) = (wakeup.listen(Topic::Work), wakeup.listen(Topic::Work));
        drop(a);
        assert_eq!(wakeup.topics(), 1);
        drop(b);
        assert_eq!(wakeup.topics(), 0);
    }
}
