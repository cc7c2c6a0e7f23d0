use crate::error::{Error, Failure, Kind, Outcome, Result};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// When an answer is of no use any more: one moment for the whole of a call, which every wait below it respects. It
/// stands on the monotonic clock, so the wall clock may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline this far from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        let now = Instant::now();
        // No clock counts further than some centuries; a day is beyond every use.
        Self(now.checked_add(limit).unwrap_or(now + Duration::from_secs(24 * 60 * 60)))
    }

    /// The deadline of a part: `limit` from now, and never later than the whole.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        self.min(Self::after(limit))
    }

    /// The time that is left; zero when it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }

    /// Whether a wait that long ends before it.
    #[must_use]
    pub fn allows(self, wait: Duration) -> bool {
        wait < self.left()
    }

    /// Does `work` unless the deadline comes first, which drops it. `outcome` is what then holds for a write in it.
    ///
    /// # Errors
    /// Those of `work`, and [`Kind::DeadlineExceeded`].
    pub async fn limit<T>(
        self,
        operation: &'static str,
        outcome: Outcome,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match timeout_at(self.0, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(Error::new(Kind::DeadlineExceeded, operation, "no answer within the deadline")
                    .with_failure(Failure::Timeout)
                    .with_outcome(outcome))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_never_has_more_time_than_the_whole() {
        let whole = Deadline::after(Duration::from_secs(5));
        assert_eq!(whole.within(Duration::from_secs(9)), whole);
        assert_eq!(whole.within(Duration::from_secs(2)).left(), Duration::from_secs(2));
        assert!(
            whole.allows(Duration::from_millis(4_999)) && !whole.allows(Duration::from_secs(5))
        );
        let error =
            whole.limit::<()>("test", Outcome::Unknown, std::future::pending()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::DeadlineExceeded, Outcome::Unknown));
        assert!(whole.has_passed());
        assert!(Deadline::after(Duration::MAX).left() > Duration::from_secs(3600));
    }
}
