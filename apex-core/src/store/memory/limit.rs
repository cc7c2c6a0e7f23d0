use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::id::HolderId;
use crate::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Limits in memory.
#[derive(Debug)]
pub(super) struct MemoryLimitStore {
    pub(super) state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    places: HashMap<LimitKey, HashMap<HolderId, Timestamp>>,
    /// When each bucket is full again, in microseconds.
    rates: HashMap<LimitKey, i64>,
    sweep_at: usize,
}

impl MemoryLimitStore {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock }
    }
}

impl State {
    fn hold(&mut self, place: &Place, life: Duration, now: Timestamp) -> Grant {
        self.sweep(now);
        let holders = self.places.entry(place.key.clone()).or_default();
        holders.retain(|_, until| *until > now);
        if holders.len() >= place.most && !holders.contains_key(&place.holder) {
            let first = holders.values().min().copied().unwrap_or(now);
            return Grant::Refused { retry_after: first.since(now) };
        }
        holders.insert(place.holder, now.plus(life));
        Grant::Granted
    }

    /// Forgets what is over, whenever there is twice as much as the last time.
    fn sweep(&mut self, now: Timestamp) {
        if self.places.len() + self.rates.len() < self.sweep_at {
            return;
        }
        self.places.retain(|_, holders| holders.values().any(|until| *until > now));
        self.rates.retain(|_, full_at| *full_at > micros(now));
        self.sweep_at = 2 * (self.places.len() + self.rates.len()) + 64;
    }
}

#[async_trait]
impl LimitStore for MemoryLimitStore {
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant> {
        Ok(self.state.lock().hold(place, life, self.clock.now()))
    }

    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        let (mut state, now) = (self.state.lock(), self.clock.now());
        let lost = |place: &&Place| state.hold(place, life, now) != Grant::Granted;
        Ok(places.iter().filter(lost).cloned().collect())
    }

    async fn release(&self, place: &Place) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(holders) = state.places.get_mut(&place.key) {
            holders.remove(&place.holder);
            if holders.is_empty() {
                state.places.remove(&place.key);
            }
        }
        Ok(())
    }

    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant> {
        let (mut state, now) = (self.state.lock(), self.clock.now());
        state.sweep(now);
        let full_at = state.rates.get(key).copied().unwrap_or(i64::MIN);
        Ok(match rate.take(count, full_at, micros(now)) {
            Ok(next) => {
                state.rates.insert(key.clone(), next);
                Grant::Granted
            }
            Err(retry_after) => Grant::Refused { retry_after },
        })
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}
