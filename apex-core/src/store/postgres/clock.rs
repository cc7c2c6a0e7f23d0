use crate::clock::{Clock, Timestamp};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// The database's clock, as this node knows it: what the server said last, and what has passed since by this
/// machine's monotonic clock. So all nodes compare the same times, however their own clocks are set. It is wrong by
/// half of the way to the server and back at most.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    told: Mutex<(i64, Instant)>,
}

impl DatabaseClock {
    /// A clock that goes on from what the server said, `took` after it was asked.
    pub(super) fn new(millis: i64, took: Duration) -> Self {
        Self { told: Mutex::new(Self::told(millis, took)) }
    }

    /// Sets it anew.
    pub(super) fn set(&self, millis: i64, took: Duration) {
        *self.told.lock() = Self::told(millis, took);
    }

    fn told(millis: i64, took: Duration) -> (i64, Instant) {
        let half = i64::try_from(took.as_millis() / 2).unwrap_or(0);
        (millis.saturating_add(half), Instant::now())
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let (millis, since) = *self.told.lock();
        Timestamp::from_millis(millis).plus(since.elapsed())
    }
}
