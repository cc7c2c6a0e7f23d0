use crate::id::{RunId, UserId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A run's log grew or ended.
    Run(RunId),
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
    receiver: watch::Receiver<u64>,
    _slot: Arc<dyn fmt::Debug + Send + Sync>,
}

impl Woken {
    /// Waits for a wake-up since the last call, at most `longest`.
    pub async fn wait(&mut self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.changed()).await;
    }

    /// Waits for a wake-up since the last call.
    pub(super) async fn changed(&mut self) {
        let _ = self.receiver.changed().await;
    }

    /// The number of the last wake-up of this topic in this process, so that its listeners can tell which of them
    /// answer the same one.
    pub(super) fn last(&self) -> u64 {
        *self.receiver.borrow()
    }
}

/// Wake-ups within one process.
#[derive(Debug, Default)]
pub struct LocalWakeup {
    topics: Arc<Mutex<HashMap<Topic, watch::Sender<u64>>>>,
}

impl LocalWakeup {
    /// Topics that someone listens to at the moment.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.lock().len()
    }

    /// Wakes everyone: when it is not known what was missed.
    pub fn wake_all(&self) {
        for sender in self.topics.lock().values() {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}

impl Wakeup for LocalWakeup {
    fn wake(&self, topic: Topic) {
        if let Some(sender) = self.topics.lock().get(&topic) {
            sender.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    fn listen(&self, topic: Topic) -> Woken {
        let receiver =
            self.topics.lock().entry(topic).or_insert_with(|| watch::channel(0).0).subscribe();
        Woken { receiver, _slot: Arc::new(Slot { topic, topics: Arc::clone(&self.topics) }) }
    }
}

/// Forgets a topic with its last listener.
#[derive(Debug)]
struct Slot {
    topic: Topic,
    topics: Arc<Mutex<HashMap<Topic, watch::Sender<u64>>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut topics = self.topics.lock();
        // The receiver beside this slot is dropped first (field order of `Woken`).
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
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
