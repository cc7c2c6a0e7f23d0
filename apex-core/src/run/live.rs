use super::tail::{Tail, Tails};
use crate::event::Recorded;
use crate::id::RunId;
use crate::principal::Principal;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many volatile events a slow reader may be behind before it misses the oldest.
const BEHIND: usize = 256;

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
    runs: HashMap<RunId, broadcast::Sender<Recorded>>,
    sweep_at: usize,
}

impl Live {
    /// Shows a volatile event to those who watch.
    pub fn show(&self, run: RunId, event: Recorded) {
        let mut watched = self.watched.lock();
        if let Some(sender) = watched.runs.get(&run)
            && sender.send(event).is_err()
        {
            watched.runs.remove(&run);
        }
    }

    /// Whether anybody watches the run: if not, a volatile event need not even be made.
    #[must_use]
    pub fn is_watched(&self, run: RunId) -> bool {
        self.watched.lock().runs.get(&run).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// What the readers of a run share who have this principal's rights.
    pub(super) fn tail(&self, run: RunId, principal: &Principal) -> Arc<Tail> {
        self.tails.lock().of(run, principal)
    }

    /// Begins to watch a run.
    #[must_use]
    pub fn watch(&self, run: RunId) -> broadcast::Receiver<Recorded> {
        let mut watched = self.watched.lock();
        // Runs that nobody watches any more go whenever the map has doubled, so that it stays bounded by the
        // number of watchers at a constant cost for each.
        if watched.runs.len() >= watched.sweep_at {
            watched.runs.retain(|_, sender| sender.receiver_count() > 0);
            watched.sweep_at = 2 * watched.runs.len() + 16;
        }
        watched.runs.entry(run).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe()
    }
}

/// What one reader sees of a run's volatile events. It waits for the next one all the time, and not anew each time that
/// something else has come first: to begin to wait takes longer than everything else that a reader does.
pub(super) struct Watch(Option<Next>);

type Next = BoxFuture<'static, (Result<Recorded, RecvError>, broadcast::Receiver<Recorded>)>;

impl Watch {
    pub(super) fn new(receiver: broadcast::Receiver<Recorded>) -> Self {
        Self(Some(next(receiver)))
    }

    /// The next event that was shown; never, when none will be.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Recorded> {
        while let Some(waiting) = &mut self.0 {
            let Poll::Ready((shown, receiver)) = waiting.as_mut().poll(cx) else {
                return Poll::Pending;
            };
            self.0 = match shown {
                Err(RecvError::Closed) => None,
                Ok(_) | Err(RecvError::Lagged(_)) => Some(next(receiver)),
            };
            if let Ok(event) = shown {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

fn next(mut receiver: broadcast::Receiver<Recorded>) -> Next {
    Box::pin(async move { (receiver.recv().await, receiver) })
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}
