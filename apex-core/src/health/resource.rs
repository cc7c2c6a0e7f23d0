use super::forecast::reached;
use super::status::{Line, Status, members};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The near past: a point a minute for four hours.
const NEAR: (Duration, usize) = (Duration::from_secs(60), 240);
/// The far past: a point every half hour for a week, in which a day may repeat.
const FAR: (Duration, usize) = (Duration::from_secs(30 * 60), 336);
const POINTS_A_DAY: usize = 48;

/// Something that runs out: pool places, connections, disk, a queue.
#[derive(Debug)]
pub struct Resource {
    name: String,
    limit: f64,
    warn_within: Duration,
    past: Mutex<Past>,
}

#[derive(Debug)]
struct Past {
    last: Option<f64>,
    /// The forecast made from so many points; it holds until there is another one.
    looked: Option<(u64, Option<Eta>)>,
    near: Series,
    far: Series,
}

/// How a resource is doing and when it reaches its limit, in seconds from now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlook {
    /// The resource.
    pub resource: String,
    /// The value seen last.
    pub value: Option<f64>,
    /// The limit.
    pub limit: f64,
    /// When it reaches the limit; none where there is no trend towards it, or the limit is further than can be seen.
    pub reaches: Option<Eta>,
    /// A warning when the limit is reached soon; a failure when it has been reached.
    pub status: Status,
}

/// When, with its 80% interval; in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Eta {
    /// Not before, nine times of ten.
    pub earliest_s: u64,
    /// Most likely.
    pub expected_s: u64,
    /// Not after, nine times of ten; none when that is further than can be seen.
    pub latest_s: Option<u64>,
}

impl Resource {
    /// A resource with its limit, in the unit in which it is observed. `warn_within` is how soon the limit must be
    /// for a warning: half an hour for a pool, some days for a disk.
    #[must_use]
    pub fn new(name: impl Into<String>, limit: f64, warn_within: Duration) -> Self {
        let past =
            Past { last: None, looked: None, near: Series::new(NEAR), far: Series::new(FAR) };
        Self { name: name.into(), limit, warn_within, past: Mutex::new(past) }
    }

    /// Takes what is in use now; called every ten seconds or so. Of each interval the most counts.
    pub fn observe(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let now = Instant::now();
        let mut past = self.past.lock();
        past.last = Some(value);
        past.near.add(value, now);
        past.far.add(value, now);
    }

    /// Looks ahead. Once for each new point this takes some milliseconds where there is a trend.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let (last, reaches) = self.look();
        let full = last.is_some_and(|value| value >= self.limit);
        let soon = reaches.is_some_and(|eta| eta.expected_s <= self.warn_within.as_secs());
        let status = match (full, soon) {
            (true, _) => Status::Fail,
            (false, true) => Status::Warn,
            (false, false) => Status::Pass,
        };
        if let Some(value) = last {
            metrics::gauge!("apex_resource_in_use", "resource" => self.name.clone()).set(value);
        }
        // Without a forecast the gauge says "never", so that an alert on it ends.
        let seconds = reaches.map_or(f64::INFINITY, |eta| eta.expected_s as f64);
        metrics::gauge!("apex_resource_exhaustion_eta_seconds", "resource" => self.name.clone())
            .set(seconds);
        Outlook { resource: self.name.clone(), value: last, limit: self.limit, reaches, status }
    }

    fn look(&self) -> (Option<f64>, Option<Eta>) {
        let (last, points, near, far) = {
            let past = self.past.lock();
            if let Some((points, reaches)) = past.looked
                && points == past.near.taken
            {
                return (past.last, reaches);
            }
            (past.last, past.near.taken, past.near.points(), past.far.points())
        };
        let soon = eta(&near, NEAR.0, None, self.limit);
        let late = || eta(&far, FAR.0, Some(POINTS_A_DAY), self.limit);
        let reaches = soon.or_else(late);
        self.past.lock().looked = Some((points, reaches));
        (last, reaches)
    }
}

impl Outlook {
    /// A line of the health document. A full resource is the dependency's own failure to report, so here it warns.
    pub(super) fn line(&self) -> Line {
        let minutes = |seconds: u64| seconds.div_ceil(60);
        let output = self.reaches.map(|eta| {
            let latest =
                eta.latest_s.map_or("open".to_owned(), |latest| minutes(latest).to_string());
            format!(
                "reaches {} in {} min (80%: {} to {latest})",
                self.limit,
                minutes(eta.expected_s),
                minutes(eta.earliest_s)
            )
        });
        Line {
            name: format!("{}:utilization", self.resource),
            component: "system",
            status: self.status.min(Status::Warn),
            value: self.value.into(),
            unit: "in use",
            output,
            more: members(json!({ "limit": self.limit, "reaches": self.reaches })),
        }
    }
}

fn eta(points: &[f64], step: Duration, season: Option<usize>, limit: f64) -> Option<Eta> {
    let reached = reached(points, season, limit)?;
    let seconds = |steps: usize| step.as_secs() * steps as u64;
    Some(Eta {
        earliest_s: seconds(reached.earliest),
        expected_s: seconds(reached.expected),
        latest_s: reached.latest.map(seconds),
    })
}

/// Equally spaced maxima.
#[derive(Debug)]
struct Series {
    step: Duration,
    most: usize,
    done: VecDeque<f64>,
    /// How many there were, those that are gone too.
    taken: u64,
    current: Option<(Instant, f64)>,
}

impl Series {
    fn new((step, most): (Duration, usize)) -> Self {
        Self { step, most, done: VecDeque::new(), taken: 0, current: None }
    }

    fn add(&mut self, value: f64, now: Instant) {
        let Some((began, highest)) = self.current else {
            self.current = Some((now, value));
            return;
        };
        let passed = now.saturating_duration_since(began).as_nanos() / self.step.as_nanos().max(1);
        if passed == 0 {
            self.current = Some((began, highest.max(value)));
            return;
        }
        // Where nothing was observed, what was seen last is taken to have stayed.
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..(passed as usize).min(self.most) {
            if self.done.len() == self.most {
                self.done.pop_front();
            }
            self.done.push_back(highest);
            self.taken += 1;
        }
        self.current = Some((began + self.step * passed, value));
    }

    fn points(&self) -> Vec<f64> {
        self.done.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn feed(resource: &Resource, minutes: u32, value: impl Fn(f64) -> f64) {
        for step in 0..minutes * 6 {
            resource.observe(value(f64::from(step) / 6.0));
            tokio::time::advance(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ramp_is_told_half_way_within_a_fifth() {
        let pool = Resource::new("pool", 100.0, Duration::from_secs(60 * 60));
        feed(&pool, 120, |minute| minute * 100.0 / 150.0 + (minute * 7.0).sin()).await;
        let outlook = pool.outlook();
        let eta = outlook.reaches.unwrap();
        assert!((24 * 60..=36 * 60).contains(&eta.expected_s), "30 min are left: {eta:?}");
        assert!(
            eta.earliest_s <= eta.expected_s
                && eta.latest_s.is_none_or(|latest| latest >= eta.expected_s)
        );
        assert_eq!(outlook.status, Status::Warn);
        assert!(outlook.line().output.unwrap().contains("reaches 100 in"));
    }

    #[tokio::test(start_paused = true)]
    async fn flat_and_sawtooth_loads_are_silent_for_a_day() {
        let flat = Resource::new("flat", 100.0, Duration::from_secs(1_800));
        let saw = Resource::new("saw", 100.0, Duration::from_secs(1_800));
        let mut random = fastrand::Rng::with_seed(1);
        for minute in 0..24 * 60_u32 {
            flat.observe(80.0 + 5.0 * random.f64());
            saw.observe(60.0 + f64::from(minute % 37) + random.f64());
            tokio::time::advance(Duration::from_secs(60)).await;
            // One tooth alone is a ramp like any other.
            if minute >= 120 && minute % 10 == 0 {
                assert_eq!(flat.outlook().reaches, None, "minute {minute}");
                assert_eq!(saw.outlook().reaches, None, "minute {minute}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_one_is_full_and_a_gap_is_bridged() {
        let disk = Resource::new("disk", 10.0, Duration::from_secs(60));
        disk.observe(f64::NAN);
        assert_eq!(disk.outlook().value, None);
        disk.observe(4.0);
        tokio::time::advance(Duration::from_secs(365 * 24 * 60 * 60)).await;
        disk.observe(11.0);
        let outlook = disk.outlook();
        assert_eq!((outlook.status, outlook.reaches), (Status::Fail, None));
    }
}
