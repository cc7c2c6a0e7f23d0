use parking_lot::Mutex;

/// Where jitter comes from; with a seed it is the same each time.
#[derive(Debug)]
pub(super) struct Random(Mutex<fastrand::Rng>);

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// From the system's generator; where that is not ready yet all jitter is the same, which harms nobody alone.
    pub(super) fn from_system() -> Self {
        Self::seeded(getrandom::u64().unwrap_or_default())
    }

    /// From 0 up to 1.
    pub(super) fn share(&self) -> f64 {
        self.0.lock().f64()
    }
}
