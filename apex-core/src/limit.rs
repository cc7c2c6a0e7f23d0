//! Limits that hold over all nodes: places that are leased, and rates.
//!
//! A place (one of a user's connections, say) is a lease of its holder's, not a number that goes up and down: what a
//! crashed node held lapses by itself, and nothing has to be counted back.

use crate::error::{Error, Kind, Result};
use crate::id::HolderId;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest key, in bytes.
const KEY_BYTES: usize = 200;

/// What is limited, for whom.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey(Arc<str>);

impl LimitKey {
    /// The limit `what` (a word of one's own, such as `connections`) of `whom` (an id, an address).
    ///
    /// # Errors
    /// `bad_request` when both together are longer than 199 bytes.
    pub fn new(what: &'static str, whom: impl fmt::Display) -> Result<Self> {
        let key = format!("{what}:{whom}");
        if key.len() > KEY_BYTES {
            return Err(Error::new(
                Kind::BadRequest,
                "limit.key",
                "the name under which this would be limited is too long; give a shorter one",
            )
            .with("limit", KEY_BYTES));
        }
        Ok(Self(key.into()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A place that is asked for or held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Of what.
    pub key: LimitKey,
    /// By whom.
    pub holder: HolderId,
    /// How many holders the key may have at a time.
    pub most: usize,
}

/// A rate: `burst` at once, and one more each time that `refill` has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The most at once; at least 1.
    pub burst: u32,
    /// The time after which one more is allowed.
    pub refill: Duration,
}

impl Rate {
    /// Takes `count` out of a bucket that is full again at `full_at`, at the moment `now`; both in microseconds of one
    /// clock. The next `full_at`, or how long until there are that many. For stores, within their atomic step.
    ///
    /// # Errors
    /// How long it takes until there is enough.
    pub fn take(self, count: u32, full_at: i64, now: i64) -> std::result::Result<i64, Duration> {
        let refill = i64::try_from(self.refill.as_micros()).unwrap_or(i64::MAX);
        let next = full_at.max(now).saturating_add(refill.saturating_mul(i64::from(count)));
        let latest = now.saturating_add(refill.saturating_mul(i64::from(self.burst)));
        let over = next.saturating_sub(latest);
        match u64::try_from(over) {
            Ok(over) if over > 0 => Err(Duration::from_micros(over)),
            _ => Ok(next),
        }
    }
}

/// Whether a limit has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// It has, and it is taken.
    Granted,
    /// It has not.
    Refused {
        /// When something is free again at the latest, where nobody renews.
        retry_after: Duration,
    },
}

/// Keeps limits, for all nodes that share the store. It goes by one clock: its server's where it has one, else the
/// host's. What it has lost its holders bring back with their next renewal.
#[async_trait]
pub trait LimitStore: fmt::Debug + Send + Sync {
    /// Takes a place until `life` from now, in one atomic step. A holder who has it already keeps it for that long,
    /// and counts once.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant>;

    /// Keeps places until `life` from now: those that are held still, and those that have lapsed where there is room.
    /// Gives back those that are lost, because others have taken the room.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`; some of the places may then have been renewed.
    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>>;

    /// Gives a place back; also one that is not held.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn release(&self, place: &Place) -> Result<()>;

    /// Takes `count` of a rate, all or none, in one atomic step. More than its burst is never granted.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_each_refill() {
        let rate = Rate { burst: 3, refill: Duration::from_secs(1) };
        let mut full_at = 0;
        for _ in 0..3 {
            full_at = rate.take(1, full_at, 0).unwrap();
        }
        assert_eq!(rate.take(1, full_at, 0), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(2, full_at, 500_000), Err(Duration::from_millis(1_500)));
        full_at = rate.take(1, full_at, 1_000_000).unwrap();
        assert!(rate.take(1, full_at, 1_000_000).is_err());
        assert!(rate.take(3, full_at, 60_000_000).is_ok(), "it never holds more than its burst");
        assert!(rate.take(4, full_at, 60_000_000).is_err());
    }

    #[test]
    fn a_key_is_bounded() {
        assert_eq!(LimitKey::new("a", "b").unwrap().as_str(), "a:b");
        let error = LimitKey::new("a", "b".repeat(199)).unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest);
    }
}
