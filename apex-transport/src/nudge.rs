//! What woke a connection: one of many things that its one task waits for. Without it every wake-up would ask all of
//! them, and most of what a connection of many costs is to look at memory that no processor has at hand.

use crate::connection::StreamKey;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// What has something new for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The socket.
    Socket,
    /// The hub.
    Hub,
    /// A followed stream.
    Stream(StreamKey),
}

/// What woke a connection since it last looked.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) socket: bool,
    pub(crate) hub: bool,
    pub(crate) streams: VecDeque<StreamKey>,
}

/// One connection's wake-ups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nudges(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    woken: Woken,
    task: Option<Waker>,
}

/// A waker's memory of what it wakes for.
#[derive(Debug)]
pub(crate) struct Nudge {
    source: Source,
    /// Whether the connection knows already and has not looked.
    told: AtomicBool,
    nudges: Nudges,
}

impl Nudges {
    /// What wakes the connection in the name of `source`.
    pub(crate) fn nudge(&self, source: Source) -> Arc<Nudge> {
        Arc::new(Nudge { source, told: AtomicBool::new(false), nudges: self.clone() })
    }

    /// Adds what woke the connection to `woken`; `task` is woken from now on. Whether that is another one than before.
    pub(crate) fn collect(&self, task: &Waker, woken: &mut Woken) -> bool {
        let mut pending = self.0.lock();
        let other = !pending.task.as_ref().is_some_and(|known| known.will_wake(task));
        if other {
            pending.task = Some(task.clone());
        }
        let new = &mut pending.woken;
        woken.socket |= std::mem::take(&mut new.socket);
        woken.hub |= std::mem::take(&mut new.hub);
        if woken.streams.is_empty() {
            std::mem::swap(&mut woken.streams, &mut new.streams);
        } else {
            woken.streams.append(&mut new.streams);
        }
        other
    }
}

impl Nudge {
    /// The connection looks now: from here on it is told again.
    pub(crate) fn looked_at(&self) {
        self.told.store(false, Ordering::Release);
    }
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.told.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut pending = self.nudges.0.lock();
        match self.source {
            Source::Socket => pending.woken.socket = true,
            Source::Hub => pending.woken.hub = true,
            Source::Stream(key) => pending.woken.streams.push_back(key),
        }
        let task = pending.task.clone();
        drop(pending);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_woke_is_told_once_until_it_is_looked_at() {
        let (nudges, task) = (Nudges::default(), Arc::new(Counted::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut woken = Woken::default();
        assert!(nudges.collect(&waker, &mut woken));
        assert!(!nudges.collect(&waker, &mut woken));
        let socket = nudges.nudge(Source::Socket);
        Waker::from(Arc::clone(&socket)).wake();
        Waker::from(Arc::clone(&socket)).wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
        nudges.collect(&waker, &mut woken);
        assert!(woken.socket && !woken.hub && woken.streams.is_empty());
        socket.looked_at();
        Waker::from(Arc::clone(&socket)).wake();
        Waker::from(nudges.nudge(Source::Hub)).wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 3);
        nudges.collect(&waker, &mut woken);
        assert!(woken.socket && woken.hub);
    }
}
