use std::collections::VecDeque;
use std::time::Duration;

/// A token bucket: so many a second, so many at once.
#[derive(Debug)]
pub(super) struct Bucket {
    per_s: u32,
    burst: u32,
    /// Thousandths of a token.
    filled: u64,
    at: Duration,
}

impl Bucket {
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        Self {
            per_s: per_s.max(1),
            burst: burst.max(1),
            filled: u64::from(burst.max(1)) * 1_000,
            at: Duration::ZERO,
        }
    }

    /// Takes one, or says how long until there is one.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(u64::from(self.per_s));
        if gained > 0 {
            self.at = now;
        }
        self.filled = self.filled.saturating_add(gained).min(u64::from(self.burst) * 1_000);
        if self.filled >= 1_000 {
            self.filled -= 1_000;
            return Ok(());
        }
        let missing = (1_000 - self.filled).div_ceil(u64::from(self.per_s));
        Err(Duration::from_millis(missing))
    }
}

/// Counts what happened within the last minute, up to a limit.
#[derive(Debug)]
pub(super) struct Recent {
    most: usize,
    times: VecDeque<Duration>,
}

const WINDOW: Duration = Duration::from_secs(60);

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { most, times: VecDeque::new() }
    }

    /// Counts one more; `true` when that reaches the limit.
    pub(super) fn count(&mut self, now: Duration) -> bool {
        while self.times.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.times.len() >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_the_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(20, 40);
        let start = Duration::from_secs(5);
        assert_eq!((0..40).filter(|_| bucket.take(start).is_ok()).count(), 40);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(50)));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| bucket.take(later).is_ok()).count(), 20);
        // Many looks in between do not lose the fractions.
        let taken =
            (0..1_000).filter(|n| bucket.take(later + Duration::from_millis(*n)).is_ok()).count();
        assert_eq!(taken, 19);
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut recent = Recent::new(3);
        let at = Duration::from_secs;
        assert!(!recent.count(at(0)));
        assert!(!recent.count(at(30)));
        assert!(!recent.count(at(60)));
        assert!(recent.count(at(61)));
    }
}
