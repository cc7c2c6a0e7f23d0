use crate::clock::{Clock, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A clock that a test moves by hand, and that can also follow tokio's time, so that it stands still and jumps with
/// `tokio::time::pause` and `advance`.
#[derive(Debug)]
pub struct VirtualClock {
    base: Timestamp,
    follows: Option<Instant>,
    moved: AtomicI64,
}

impl VirtualClock {
    /// A clock that shows 2026-01-01T00:00:00Z until it is moved.
    #[must_use]
    pub fn still() -> Self {
        Self {
            base: Timestamp::from_millis(1_767_225_600_000),
            follows: None,
            moved: AtomicI64::new(0),
        }
    }

    /// A clock that shows 2026-01-01T00:00:00Z now and goes on with tokio's time.
    #[must_use]
    pub fn following() -> Self {
        Self { follows: Some(Instant::now()), ..Self::still() }
    }

    /// Moves it forward, without waiting and without moving tokio's time.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.moved.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let passed = self.follows.map_or(Duration::ZERO, |since| since.elapsed());
        let at = self.base.plus(passed);
        Timestamp::from_millis(at.as_millis() + self.moved.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_paused_time_and_by_hand() {
        let clock = VirtualClock::following();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.000Z");
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:05.000Z");
    }
}
