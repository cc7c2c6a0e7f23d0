use super::random::Random;
use crate::clock::{Clock, SystemClock, Timestamp};
use parking_lot::Mutex;
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
    seeded: Option<Mutex<Random>>,
}

impl VirtualClock {
    /// A clock that shows 2026-01-01T00:00:00Z until it is moved.
    #[must_use]
    pub fn still() -> Self {
        Self {
            base: Timestamp::from_millis(1_767_225_600_000),
            follows: None,
            moved: AtomicI64::new(0),
            seeded: None,
        }
    }

    /// A clock that shows 2026-01-01T00:00:00Z now and goes on with tokio's time.
    #[must_use]
    pub fn following() -> Self {
        Self { follows: Some(Instant::now()), ..Self::still() }
    }

    /// Has the ids that are made with it be the same for the same seed.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seeded = Some(Mutex::new(Random::seeded(seed)));
        self
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

    fn fill(&self, random: &mut [u8; 10]) -> bool {
        let Some(seeded) = &self.seeded else {
            return SystemClock.fill(random);
        };
        let mut seeded = seeded.lock();
        random.fill_with(|| u8::try_from(seeded.below(256)).unwrap_or(0));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_ids() {
        let ids = |seed| {
            let clock = VirtualClock::still().seeded(seed);
            [(); 3].map(|()| crate::id::RunId::new(&clock))
        };
        assert_eq!(ids(7), ids(7));
        assert!(ids(7)[0] != ids(8)[0] && ids(7)[0] != ids(7)[1]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_with_paused_time_and_by_hand() {
        let clock = VirtualClock::following();
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:00.000Z");
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.now().to_string(), "2026-01-01T00:00:05.000Z");
    }
}
