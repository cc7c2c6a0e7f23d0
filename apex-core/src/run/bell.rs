use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// How many are woken at a time, between which others may come and go.
const AT_ONCE: usize = 32;

/// Wakes all who listen. Whoever listens says once who is to be woken, and not anew before each wait: with many
/// listeners most of what a wait costs is to begin it.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicU64,
    /// Whether anybody has looked since all were woken; if nobody has, all are still on their way.
    looked: AtomicBool,
    ears: Mutex<Ears>,
}

#[derive(Debug, Default)]
struct Ears {
    /// A place for each listener; empty until it has waited.
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Bell {
    /// Wakes everyone who listens.
    pub(super) fn ring(&self) {
        // In one order with what `poll_rung` does: whoever does not see this ring is seen to have looked.
        self.rung.fetch_add(1, Ordering::SeqCst);
        if !self.looked.swap(false, Ordering::SeqCst) {
            return;
        }
        let mut woken = Vec::with_capacity(AT_ONCE);
        for first in (0..).step_by(AT_ONCE) {
            let more = {
                let ears = self.ears.lock();
                let rest = ears.wakers.get(first..).unwrap_or_default();
                woken.extend(rest.iter().take(AT_ONCE).flatten().cloned());
                rest.len() > AT_ONCE
            };
            // Not under the lock: what is woken is anybody's.
            woken.drain(..).for_each(Waker::wake);
            if !more {
                return;
            }
        }
    }

    /// How often it was rung.
    pub(super) fn rung(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    /// Begins to listen: what is rung from this moment on is not missed.
    pub(super) fn listen(self: Arc<Self>) -> Ear {
        let mut ears = self.ears.lock();
        let place = match ears.free.pop() {
            Some(place) => place,
            None => {
                ears.wakers.push(None);
                ears.wakers.len() - 1
            }
        };
        drop(ears);
        Ear { heard: self.rung(), bell: self, place, wakes: None }
    }

    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        let ears = self.ears.lock();
        ears.wakers.len() > ears.free.len()
    }

    fn wakes(&self, place: usize, waker: Option<Waker>) {
        let mut ears = self.ears.lock();
        let before = ears.wakers.get_mut(place).and_then(|at| std::mem::replace(at, waker));
        drop(ears);
        // Not under the lock either.
        drop(before);
    }
}

/// One who listens to a bell.
#[derive(Debug)]
pub(super) struct Ear {
    bell: Arc<Bell>,
    place: usize,
    heard: u64,
    wakes: Option<Waker>,
}

impl Ear {
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// How often the bell had been rung when it was heard last.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether the bell was rung since it was asked last.
    pub(super) fn is_rung(&self) -> bool {
        self.bell.rung() != self.heard
    }

    /// Ready when the bell was rung since this was ready last. In either case the task is woken when it is rung again.
    pub(super) fn poll_rung(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.wakes.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.wakes = Some(cx.waker().clone());
            self.bell.wakes(self.place, self.wakes.clone());
        }
        self.bell.looked.store(true, Ordering::SeqCst);
        let rung = self.bell.rung.load(Ordering::SeqCst);
        match std::mem::replace(&mut self.heard, rung) == rung {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.bell.wakes(self.place, None);
        let mut ears = self.bell.ears.lock();
        ears.free.push(self.place);
        if ears.free.len() == ears.wakers.len() {
            *ears = Ears::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Counted {
        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_ring_is_heard_once_and_wakes_whoever_waited_last_every_time() {
        let bell = Arc::new(Bell::default());
        let mut ear = Arc::clone(&bell).listen();
        let (one, other) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
        let (as_one, as_other) = (Waker::from(Arc::clone(&one)), Waker::from(Arc::clone(&other)));
        bell.ring();
        assert!(ear.poll_rung(&Context::from_waker(&as_one)).is_ready());
        assert!(ear.poll_rung(&Context::from_waker(&as_one)).is_pending());
        bell.ring();
        bell.ring();
        // Nobody has looked since the first of the two.
        assert_eq!(one.times(), 1);
        assert!(ear.poll_rung(&Context::from_waker(&as_other)).is_ready());
        assert!(ear.poll_rung(&Context::from_waker(&as_other)).is_pending());
        bell.ring();
        assert_eq!((one.times(), other.times()), (1, 1));
    }

    #[test]
    fn all_of_many_are_woken_and_those_who_left_are_not() {
        let bell = Arc::new(Bell::default());
        let task = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut ears: Vec<Ear> = (0..100).map(|_| Arc::clone(&bell).listen()).collect();
        for ear in &mut ears {
            assert!(ear.poll_rung(&Context::from_waker(&waker)).is_pending());
        }
        ears.drain(..30);
        bell.ring();
        assert_eq!(task.times(), 70);
        // A place that was left is somebody else's, who has not waited yet.
        let _late = Arc::clone(&bell).listen();
        assert_eq!(bell.ears.lock().wakers.len(), 100);
        bell.ring();
        assert_eq!(task.times(), 70);
        let looked = ears.first_mut().unwrap().poll_rung(&Context::from_waker(&waker));
        assert!(looked.is_ready());
        bell.ring();
        assert_eq!(task.times(), 140);
        ears.clear();
        assert_eq!(Arc::strong_count(&task), 2);
    }
}
