use super::tail::{Tail, Tails};
use crate::event::Recorded;
use crate::id::RunId;
use crate::principal::Principal;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::unconstrained;

/// How many volatile events a slow reader may be behind before it misses the oldest.
const BEHIND: usize = 64;

/// What the readers of runs in this process share: volatile events (`delta`, `progress`), which are passed to whoever
/// watches a run, and what they have read of its log, so that of many readers one reads for all. Volatile events are not
/// recorded: what nobody sees is gone, and a slow reader misses the oldest.
///
/// The `seq` of an event shown here is the log's head when it was made, so that a reader can hold it back until it
/// has read that far; the event itself has no place in the log.
#[derive(Debug, Clone, Default)]
pub struct Live {
    watched: Arc<Mutex<Watched>>,
    tails: Arc<Mutex<Tails>>,
}

#[derive(Debug, Default)]
struct Watched {
    runs: HashMap<RunId, Stage>,
    sweep_at: usize,
}

/// Where the volatile events of one run are shown.
#[derive(Debug)]
struct Stage {
    sender: broadcast::Sender<Recorded>,
    /// Twice as many as were shown; odd while one is, since whoever sees it is woken before that is over.
    shown: Arc<AtomicU64>,
}

impl Default for Stage {
    fn default() -> Self {
        Self { sender: broadcast::channel(BEHIND).0, shown: Arc::default() }
    }
}

impl Stage {
    /// Whether anybody sees it.
    fn show(&self, event: Recorded) -> bool {
        self.shown.fetch_add(1, Ordering::AcqRel);
        let seen = self.sender.send(event).is_ok();
        self.shown.fetch_add(1, Ordering::AcqRel);
        seen
    }

    fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}

impl Live {
    /// Shows a volatile event to those who watch.
    pub fn show(&self, run: RunId, event: Recorded) {
        let mut watched = self.watched.lock();
        if let Some(stage) = watched.runs.get(&run)
            && !stage.show(event)
        {
            watched.runs.remove(&run);
        }
    }

    /// Whether anybody watches the run: if not, a volatile event need not even be made.
    #[must_use]
    pub fn is_watched(&self, run: RunId) -> bool {
        self.watched.lock().runs.get(&run).is_some_and(Stage::is_watched)
    }

    /// What the readers of a run share who have this principal's rights.
    pub(super) fn tail(&self, run: RunId, principal: &Principal) -> Arc<Tail> {
        self.tails.lock().of(run, principal)
    }

    /// Begins to watch a run.
    pub(super) fn watch(&self, run: RunId) -> Watch {
        let mut watched = self.watched.lock();
        // Runs that nobody watches any more go whenever the map has doubled, so that it stays bounded by the
        // number of watchers at a constant cost for each.
        if watched.runs.len() >= watched.sweep_at {
            watched.runs.retain(|_, stage| stage.is_watched());
            watched.sweep_at = 2 * watched.runs.len() + 16;
        }
        let stage = watched.runs.entry(run).or_default();
        Watch {
            next: Some(next(stage.sender.subscribe())),
            shown: Arc::clone(&stage.shown),
            looked: None,
        }
    }
}

/// What one reader sees of a run's volatile events. It waits for the next one all the time, and not anew each time that
/// something else has come first: to begin to wait takes longer than everything else that a reader does.
pub(super) struct Watch {
    next: Option<Next>,
    shown: Arc<AtomicU64>,
    /// What `shown` was when there was nothing to be seen, and since when the task is woken by what is.
    looked: Option<u64>,
}

type Next = BoxFuture<'static, (Result<Recorded, RecvError>, broadcast::Receiver<Recorded>)>;

impl Watch {
    /// The next event that was shown; never, when none will be.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Recorded> {
        let shown = self.shown.load(Ordering::Acquire);
        if self.looked == Some(shown) {
            return Poll::Pending;
        }
        self.looked = None;
        while let Some(waiting) = &mut self.next {
            let Poll::Ready((seen, receiver)) = waiting.as_mut().poll(cx) else { break };
            self.next = match seen {
                Err(RecvError::Closed) => None,
                Ok(_) | Err(RecvError::Lagged(_)) => Some(next(receiver)),
            };
            if let Ok(event) = seen {
                return Poll::Ready(event);
            }
        }
        self.looked = shown.is_multiple_of(2).then_some(shown);
        Poll::Pending
    }

    /// Another task waits from now on.
    pub(super) fn forget_task(&mut self) {
        self.looked = None;
    }

    /// Whether nothing is to be seen, and the task is woken by what is shown next.
    pub(super) fn is_waiting(&self) -> bool {
        self.looked == Some(self.shown.load(Ordering::Acquire))
    }
}

fn next(mut receiver: broadcast::Receiver<Recorded>) -> Next {
    // Out of its turn, too: what is put off would not know whom to wake.
    Box::pin(async move { (unconstrained(receiver.recv()).await, receiver) })
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.next.is_some()).finish()
    }
}
