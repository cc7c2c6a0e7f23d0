use super::random::Random;
use std::fmt;
use std::time::Duration;
use tower::retry::budget::{Budget as _, TpsBudget};

/// How long to wait before which try: exponential, with full jitter, so that callers who failed together do not come
/// back together.
///
/// `backon` has the sequence of waits but not the rest that decides here (outcome, budget, the other side's
/// `retry_after`, a deadline that is shared with layers above), and with those a sequence is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// The most that the first wait can be.
    pub base: Duration,
    /// The most that any wait can be.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after the `tries`-th try (from 1) failed: anything from nothing to twice the range before.
    pub(super) fn wait(&self, tries: u32, random: &Random) -> Duration {
        let doubled = self
            .base
            .saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.cap).mul_f64(random.share())
    }
}

/// What retries of all calls to one dependency may cost together: a share of the calls, and a few a second for quiet
/// times. In an outage retries stop helping and start to be the load.
pub struct Budget(TpsBudget);

impl Budget {
    /// `share` of the calls (0 to 1) over ten seconds may be repeated, and `per_second` beyond that.
    #[must_use]
    pub fn new(share: f64, per_second: u32) -> Self {
        // Outside these bounds the budget of `tower` panics.
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        Self(TpsBudget::new(Duration::from_secs(10), per_second.min(1_000_000), share as f32))
    }

    /// Counts a call that was made for the first time.
    pub fn deposit(&self) {
        self.0.deposit();
    }

    /// Takes a retry out, if there is one left.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Budget")
    }
}
