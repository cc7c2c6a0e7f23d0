use super::{Attempt, MOST_ATTEMPTS, UsageStore};
use crate::principal::Principal;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The waits between tries while the store is away.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Brings attempts into a store behind the back of those who made them, so that nobody waits for it, and in order.
///
/// While the store is away they wait, up to a limit, and it is tried again for as long as it takes. What finds no
/// more room, what the store refuses, and what still waits when this is dropped is lost to the store, never
/// silently: each is counted in `apex_usage_lost_total` and logged whole as an error.
pub struct UsageRecorder {
    queue: Arc<Queue>,
    worker: JoinHandle<()>,
}

struct Queue {
    most: usize,
    waiting: Mutex<Waiting>,
    /// How many were taken, and how many of them are settled: recorded, or lost.
    taken: watch::Sender<u64>,
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    attempts: VecDeque<(Principal, Attempt)>,
    lost: u64,
}

impl UsageRecorder {
    /// A recorder that lets up to `most` attempts wait, at work on the Tokio runtime that this is called in.
    #[must_use]
    pub fn new(store: Arc<dyn UsageStore>, most: usize) -> Self {
        let queue = Arc::new(Queue {
            most,
            waiting: Mutex::default(),
            taken: watch::Sender::new(0),
            settled: watch::Sender::new(0),
        });
        let worker = tokio::spawn(work(Arc::clone(&queue), store));
        Self { queue, worker }
    }

    /// Takes an attempt of a user's that has ended. It neither waits nor fails.
    pub fn record(&self, principal: &Principal, attempt: Attempt) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.attempts.len() >= self.queue.most {
            return waiting.lose(principal, &attempt, "too many wait for the store");
        }
        waiting.attempts.push_back((principal.clone(), attempt));
        self.queue.taken.send_modify(|taken| *taken += 1);
    }

    /// Waits until everything that was taken so far is recorded, or lost, at most as long as said. Says whether it
    /// is.
    pub async fn settle(&self, within: Duration) -> bool {
        let target = *self.queue.taken.borrow();
        let mut settled = self.queue.settled.subscribe();
        let reached = settled.wait_for(|settled| *settled >= target);
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }

    /// How many wait to be recorded.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.waiting.lock().attempts.len()
    }

    /// How many were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.waiting.lock().lost
    }
}

impl Drop for UsageRecorder {
    fn drop(&mut self) {
        self.worker.abort();
        let mut waiting = self.queue.waiting.lock();
        while let Some((principal, attempt)) = waiting.attempts.pop_front() {
            waiting.lose(&principal, &attempt, "the process ends before the store took it");
        }
    }
}

impl fmt::Debug for UsageRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageRecorder")
            .field("waiting", &self.waiting())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

impl Waiting {
    fn lose(&mut self, principal: &Principal, attempt: &Attempt, why: &str) {
        self.lost += 1;
        metrics::counter!("apex_usage_lost_total").increment(1);
        let whole = serde_json::to_string(attempt).unwrap_or_default();
        tracing::error!(user = %principal.user(), attempt = whole, "usage is not recorded: {why}");
    }
}

impl Queue {
    /// What comes next, of one user, without taking it out.
    fn next(&self) -> Option<(Principal, Vec<Attempt>)> {
        let waiting = self.waiting.lock();
        let (principal, _) = waiting.attempts.front()?;
        let same = |other: &Principal| other.user() == principal.user();
        let attempts = waiting.attempts.iter().take(MOST_ATTEMPTS);
        let attempts = attempts.take_while(|(other, _)| same(other));
        Some((principal.clone(), attempts.map(|(_, attempt)| attempt.clone()).collect()))
    }

    /// Takes the first `count` out: they are recorded, or `why` they never will be.
    fn settle(&self, count: usize, why: Option<&str>) {
        let mut waiting = self.waiting.lock();
        for _ in 0..count {
            if let Some((principal, attempt)) = waiting.attempts.pop_front()
                && let Some(why) = why
            {
                waiting.lose(&principal, &attempt, why);
            }
        }
        self.settled.send_modify(|settled| *settled += count as u64);
    }
}

async fn work(queue: Arc<Queue>, store: Arc<dyn UsageStore>) {
    let mut taken = queue.taken.subscribe();
    let mut pause = PAUSE;
    loop {
        let Some((principal, mut attempts)) = queue.next() else {
            if taken.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut count = attempts.len();
        let mut recorded = store.record(&principal, attempts.clone()).await;
        if count > 1 && recorded.as_ref().is_err_and(|error| !error.is_retryable()) {
            // One of them is at fault; the others are not to suffer from it.
            attempts.truncate(1);
            count = 1;
            recorded = store.record(&principal, attempts).await;
        }
        match recorded {
            Ok(()) => {
                queue.settle(count, None);
                pause = PAUSE;
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, waiting = queue.waiting.lock().attempts.len(), "usage waits for its store");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => queue.settle(count, Some(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock, Timestamp};
    use crate::error::{Error, Kind, Result};
    use crate::id::{AttemptId, RunId, UserId};
    use crate::money::Usage;
    use crate::principal::Scopes;
    use crate::thread::Paged;
    use crate::usage::{AttemptOutcome, Total, UsageQuery};
    use async_trait::async_trait;

    /// A store that can be away, and refuses one model.
    #[derive(Debug, Default)]
    struct Moody {
        away: Mutex<bool>,
        kept: Mutex<Vec<u32>>,
    }

    #[async_trait]
    impl UsageStore for Moody {
        async fn record(&self, _: &Principal, attempts: Vec<Attempt>) -> Result<()> {
            if *self.away.lock() {
                return Err(Error::new(Kind::Unavailable, "test", "away"));
            }
            if attempts.iter().any(|attempt| attempt.model == "bad") {
                return Err(Error::new(Kind::Conflict, "test", "taken"));
            }
            self.kept.lock().extend(attempts.iter().map(|attempt| attempt.number));
            Ok(())
        }

        async fn attempts(
            &self,
            _: &Principal,
            _: Option<RunId>,
            _: Option<&str>,
            _: usize,
        ) -> Result<Paged<Attempt>> {
            Err(Error::internal("test", "nobody asks"))
        }

        async fn totals(&self, _: &Principal, _: &UsageQuery) -> Result<Vec<Total>> {
            Err(Error::internal("test", "nobody asks"))
        }

        async fn forget(&self, _: &Principal, _: Timestamp) -> Result<u64> {
            Err(Error::internal("test", "nobody asks"))
        }
    }

    fn attempt(number: u32, model: &str) -> Attempt {
        Attempt {
            attempt: AttemptId::new(&SystemClock),
            run: None,
            step: None,
            number,
            at: SystemClock.now(),
            took_ms: 1,
            provider: "p".into(),
            model: model.into(),
            outcome: AttemptOutcome::Answered,
            reason: None,
            request: None,
            service_tier: None,
            cache_write_tokens: 0,
            usage: Usage::NONE,
            estimated: false,
        }
    }

    fn user() -> Principal {
        Principal::vouched(UserId::new(&SystemClock), Scopes::USER)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_away_gets_everything_that_there_was_room_for_in_order() {
        let store = Arc::new(Moody::default());
        *store.away.lock() = true;
        let recorder = UsageRecorder::new(Arc::<Moody>::clone(&store), 100);
        let users = [user(), user()];
        for number in 0..150 {
            recorder.record(&users[number as usize / 7 % 2], attempt(number, "m"));
            tokio::task::yield_now().await;
        }
        assert!(!recorder.settle(Duration::from_secs(60)).await);
        assert_eq!((recorder.waiting(), recorder.lost()), (100, 50));
        *store.away.lock() = false;
        assert!(recorder.settle(Duration::from_secs(60)).await);
        assert_eq!(*store.kept.lock(), (0..100).collect::<Vec<_>>());
        assert_eq!(recorder.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_refuses_is_counted_and_holds_nothing_up() {
        let store = Arc::new(Moody::default());
        let recorder = UsageRecorder::new(Arc::<Moody>::clone(&store), 100);
        let user = user();
        for (number, model) in [(1, "m"), (2, "bad"), (3, "m")] {
            recorder.record(&user, attempt(number, model));
        }
        assert!(recorder.settle(Duration::from_secs(1)).await);
        assert_eq!((&*store.kept.lock(), recorder.lost()), (&vec![1, 3], 1));
    }
}
