//! What the sessions are doing: as a value, as metrics, and for the forecast.

use super::access::Priority;
use parking_lot::Mutex;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// How long measurements of the acquire latency count.
const WINDOW: Duration = Duration::from_secs(60);

/// The sessions of a database at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseStatistics {
    /// The most connections that there may be.
    pub limit: usize,
    /// Connections that are open or being opened.
    pub open: usize,
    /// Of them, those that nobody uses.
    pub idle: usize,
    /// Sessions in use.
    pub in_use: usize,
    /// The most sessions that were in use at a time in the last minute or two.
    pub most_in_use: usize,
    /// Requests that wait for a session.
    pub waiting: WaitingRequests,
    /// For how long the session that has been held longest has been held, in milliseconds.
    pub longest_held_ms: u64,
    /// The place in the code that took it.
    pub longest_held_by: Option<String>,
    /// How long requests waited for a session in the last minute or two.
    pub acquire: AcquireLatency,
}

/// Requests that wait, by priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WaitingRequests {
    /// Work that nobody waits for.
    pub low: usize,
    /// The work of users.
    pub normal: usize,
    /// Work on which others depend.
    pub critical: usize,
}

impl WaitingRequests {
    pub(super) fn of([low, normal, critical]: [usize; 3]) -> Self {
        Self { low, normal, critical }
    }

    /// All of them.
    #[must_use]
    pub fn total(self) -> usize {
        self.low + self.normal + self.critical
    }
}

/// How long requests waited, in microseconds; each figure is at most a fifth too high.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AcquireLatency {
    /// Sessions that were given.
    pub count: u64,
    /// Half of the requests waited no longer.
    pub p50_us: u64,
    /// Of a hundred requests 99 waited no longer.
    pub p99_us: u64,
}

/// Measured latencies, in buckets that grow by a fifth; of this minute and the one before.
#[derive(Debug)]
pub(super) struct Latencies(Mutex<Windows>);

#[derive(Debug)]
struct Windows {
    began: Instant,
    now: Window,
    before: Window,
}

#[derive(Debug, Clone)]
struct Window {
    buckets: [u32; Self::BUCKETS],
    most_in_use: usize,
}

impl Window {
    /// 1.2^100 microseconds are 82 seconds.
    const BUCKETS: usize = 101;

    const EMPTY: Self = Self { buckets: [0; Self::BUCKETS], most_in_use: 0 };
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Windows {
            began: Instant::now(),
            now: Window::EMPTY,
            before: Window::EMPTY,
        }))
    }

    pub(super) fn add(&self, latency: Duration, in_use: usize, now: Instant) {
        let micros = latency.as_secs_f64() * 1e6;
        let bucket = if micros <= 1.0 { 0.0 } else { (micros.ln() / 1.2_f64.ln()).ceil() };
        let mut windows = self.0.lock();
        if now.saturating_duration_since(windows.began) >= WINDOW {
            windows.before = std::mem::replace(&mut windows.now, Window::EMPTY);
            windows.began = now;
        }
        // Beyond the last bucket nobody waits.
        if let Some(count) = windows.now.buckets.get_mut((bucket as usize).min(Window::BUCKETS - 1))
        {
            *count = count.saturating_add(1);
        }
        windows.now.most_in_use = windows.now.most_in_use.max(in_use);
    }

    /// The latencies, and the most sessions in use.
    pub(super) fn read(&self) -> (AcquireLatency, usize) {
        let windows = self.0.lock();
        let both = || {
            let counts = windows.now.buckets.iter().zip(&windows.before.buckets);
            counts.map(|(now, before)| u64::from(*now) + u64::from(*before))
        };
        let count: u64 = both().sum();
        let percentile = |share: f64| {
            let wanted = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = both().position(|count| {
                seen += count;
                seen >= wanted && seen > 0
            });
            bucket.map_or(0, |bucket| 1.2_f64.powf(bucket as f64).round() as u64)
        };
        let latency = AcquireLatency { count, p50_us: percentile(0.5), p99_us: percentile(0.99) };
        (latency, windows.now.most_in_use.max(windows.before.most_in_use))
    }
}

impl DatabaseStatistics {
    /// Sets the gauges.
    pub(super) fn publish(&self) {
        metrics::gauge!("apex_database_connections", "state" => "used").set(self.in_use as f64);
        metrics::gauge!("apex_database_connections", "state" => "idle").set(self.idle as f64);
        metrics::gauge!("apex_database_connections_limit").set(self.limit as f64);
        metrics::gauge!("apex_database_longest_held_seconds")
            .set(self.longest_held_ms as f64 / 1_000.0);
        let waiting = [
            (Priority::Low, self.waiting.low),
            (Priority::Normal, self.waiting.normal),
            (Priority::Critical, self.waiting.critical),
        ];
        for (priority, count) in waiting {
            metrics::gauge!("apex_database_waiting", "priority" => priority.name())
                .set(count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn percentiles_are_within_a_fifth_and_old_minutes_are_forgotten() {
        let latencies = Latencies::new();
        for micros in 1..=1_000 {
            latencies.add(Duration::from_micros(micros), 3, Instant::now());
        }
        let (latency, most) = latencies.read();
        assert_eq!((latency.count, most), (1_000, 3));
        assert!((500..=600).contains(&latency.p50_us), "{latency:?}");
        assert!((990..=1_188).contains(&latency.p99_us), "{latency:?}");
        for _ in 0..2 {
            tokio::time::advance(WINDOW).await;
            latencies.add(Duration::from_secs(500), 1, Instant::now());
        }
        let (latency, most) = latencies.read();
        assert_eq!((latency.count, most), (2, 1));
    }
}
