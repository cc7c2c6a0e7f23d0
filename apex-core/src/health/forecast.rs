//! When a resource reaches its limit, judged from its own past, and how sure that is.
//!
//! Four simple ways to look ahead (the level stays, the last value stays, the recent drift goes on, the line through
//! everything goes on), each with and without the season where one shows. Which one, and how wide its interval is,
//! is not assumed but tried: the past is forecast from its own beginnings, and the errors made there are the
//! interval (split conformal prediction, Vovk et al. 2005). Where the past has no trend nothing is said.

use serde::Serialize;

/// Fewer points tell nothing.
const LEAST_POINTS: usize = 24;
/// The beginnings that are tried, at most.
const ORIGINS: usize = 48;
/// Fewer tried beginnings than these give no interval.
const LEAST_ORIGINS: usize = 12;
/// How far ahead can be tried on the past itself: a quarter of it. Further, the interval grows in proportion.
const TRIED: usize = 4;
/// A trend must stand out this many standard deviations (Mann-Kendall): a false alarm a year at a look a minute.
const SIGNIFICANT: f64 = 4.5;

/// The value some steps ahead: 80% of such intervals hold it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// One in ten is below.
    pub low: f64,
    /// The middle.
    pub expected: f64,
    /// One in ten is above.
    pub high: f64,
}

/// When the limit is reached, in steps from the last point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Not before, nine times of ten.
    pub earliest: usize,
    /// Most likely.
    pub expected: usize,
    /// Not after, nine times of ten; `None` when that is further than can be seen.
    pub latest: Option<usize>,
}

/// The interval `ahead` steps (from 1) after the last of equally spaced `points`. `season` is the number of points
/// after which things may repeat, such as a day. `None` when the past is too short for that: no further is looked
/// than the past is long.
#[must_use]
pub fn interval(points: &[f64], season: Option<usize>, ahead: usize) -> Option<Interval> {
    if points.len() < LEAST_POINTS || ahead == 0 || ahead > points.len() {
        return None;
    }
    if points.iter().any(|point| !point.is_finite()) {
        return None;
    }
    let tried = ahead.min(points.len() / TRIED);
    let season = season.filter(|season| repeats(points, *season));
    let mut best: Option<(f64, Vec<f64>, f64)> = None;
    let looks = looks(points, season, ahead);
    for ((way, errors), expected) in
        Way::ALL.into_iter().zip(errors(points, season, tried)).zip(looks)
    {
        if errors.len() < LEAST_ORIGINS {
            return None;
        }
        let size = errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len() as f64;
        let cost = size * way.handicap();
        if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
            best = Some((cost, errors, expected));
        }
    }
    let (_, errors, expected) = best?;
    let radius = radius(&errors) * (ahead as f64 / tried as f64);
    Some(Interval { low: expected - radius, expected, high: expected + radius })
}

/// The distance within which 80% of the errors stay, widened where the tried beginnings overlap so much that they
/// are few in truth: then the largest error to come was probably not among them.
fn radius(errors: &[f64]) -> f64 {
    let follow: f64 = (1..errors.len() / 2)
        .map(|lag| correlation(errors, lag))
        .take_while(|correlation| *correlation > 0.1)
        .sum();
    let alone = (errors.len() as f64 / (1.0 + 2.0 * follow)).max(1.5);
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    quantile(&sizes, 0.8) * (1.0 + 1.5 / alone)
}

/// When a rising resource reaches `limit`. `None` where there is no trend, and where the limit is further away than
/// can be seen.
#[must_use]
pub fn reached(points: &[f64], season: Option<usize>, limit: f64) -> Option<Reached> {
    if points.len() < LEAST_POINTS || points.iter().any(|p| !p.is_finite()) {
        return None;
    }
    let season = season.filter(|season| repeats(points, *season));
    let plain =
        season.map_or_else(|| points.to_vec(), |season| without(points, &profile(points, season)));
    if trend(&plain) < SIGNIFICANT {
        return None;
    }
    let furthest = points.len();
    // Most resources are far from their limit, and one look tells.
    if interval(points, season, furthest)?.high < limit {
        return None;
    }
    let last = points.last().copied().unwrap_or_default();
    let mut crossings = [Crossing { before: (0, last), at: None }; 3];
    let mut ahead = 1;
    while ahead <= furthest {
        let Some(interval) = interval(points, season, ahead) else {
            break;
        };
        let values = [interval.high, interval.expected, interval.low];
        for (crossing, value) in crossings.iter_mut().zip(values) {
            crossing.see(ahead, value, limit);
        }
        // Further away fewer steps are looked at, and between them a line is drawn.
        ahead += (ahead / 8).max(1);
    }
    let [earliest, expected, latest] = crossings.map(|crossing| crossing.at);
    expected.map(|expected| Reached {
        earliest: earliest.unwrap_or(expected).min(expected),
        expected,
        latest: latest.filter(|latest| *latest >= expected),
    })
}

/// Where a curve first reaches a limit.
#[derive(Clone, Copy)]
struct Crossing {
    before: (usize, f64),
    at: Option<usize>,
}

impl Crossing {
    fn see(&mut self, ahead: usize, value: f64, limit: f64) {
        if self.at.is_none() && value >= limit {
            let (from, low) = self.before;
            let part = if value > low { (limit - low) / (value - low) } else { 1.0 };
            let steps = ((ahead - from) as f64 * part.clamp(0.0, 1.0)).ceil();
            self.at = Some((from + steps as usize).max(1));
        }
        self.before = (ahead, value);
    }
}

/// A way to look ahead.
#[derive(Debug, Clone, Copy)]
enum Way {
    Level,
    Last,
    Drift,
    Line,
}

impl Way {
    const ALL: [Self; 4] = [Self::Level, Self::Last, Self::Drift, Self::Line];

    /// Ways that rest on fewer points must be clearly better, not by chance.
    const fn handicap(self) -> f64 {
        match self {
            Self::Line => 0.85,
            Self::Level => 1.0,
            Self::Last | Self::Drift => 1.1,
        }
    }

    /// The value ahead of points without a season.
    fn look(self, points: &[f64], ahead: usize) -> f64 {
        let recent =
            |most: usize| points.get(points.len().saturating_sub(most)..).unwrap_or(points);
        let last = points.last().copied().unwrap_or_default();
        match self {
            Self::Level => mean(recent(points.len() / 4)),
            Self::Last => last,
            Self::Drift => {
                let recent = recent((points.len() / 4).max(12));
                let (slope, _) = line(recent);
                mean(recent.get(recent.len().saturating_sub(3)..).unwrap_or(recent))
                    + slope * (ahead as f64 + 1.0)
            }
            Self::Line => {
                let (slope, start) = line(points);
                start + slope * (points.len() - 1 + ahead) as f64
            }
        }
    }
}

/// What each way sees ahead.
fn looks(points: &[f64], season: Option<usize>, ahead: usize) -> [f64; 4] {
    let Some(season) = season.filter(|season| points.len() >= 2 * season) else {
        return Way::ALL.map(|way| way.look(points, ahead));
    };
    let profile = profile(points, season);
    let plain = without(points, &profile);
    let phase = (points.len() + ahead - 1) % season;
    let phase = profile.get(phase).copied().unwrap_or_default();
    Way::ALL.map(|way| way.look(&plain, ahead) + phase)
}

/// What each way would have got wrong, forecast from each tried beginning of the past.
fn errors(points: &[f64], season: Option<usize>, ahead: usize) -> [Vec<f64>; 4] {
    let whole_seasons = season.map_or(0, |season| season * 5 / 2);
    let first = (points.len() / 3).max(LEAST_POINTS / 2).max(whole_seasons);
    let last = points.len() - ahead;
    let stride = (last.saturating_sub(first) / ORIGINS).max(1);
    let mut all: [Vec<f64>; 4] = Default::default();
    for origin in (first..=last).rev().step_by(stride) {
        let (Some(past), Some(actual)) = (points.get(..origin), points.get(origin + ahead - 1))
        else {
            continue;
        };
        for (errors, seen) in all.iter_mut().zip(looks(past, season, ahead)) {
            errors.push(actual - seen);
        }
    }
    all
}

/// The average of each phase of a season, around the line through everything.
fn profile(points: &[f64], season: usize) -> Vec<f64> {
    let (slope, start) = line(points);
    let mut sums = vec![(0.0, 0_usize); season.max(1)];
    for (index, point) in points.iter().enumerate() {
        if let Some((sum, count)) = sums.get_mut(index % season.max(1)) {
            *sum += point - (start + slope * index as f64);
            *count += 1;
        }
    }
    sums.into_iter().map(|(sum, count)| if count == 0 { 0.0 } else { sum / count as f64 }).collect()
}

fn without(points: &[f64], profile: &[f64]) -> Vec<f64> {
    points.iter().zip(profile.iter().cycle()).map(|(point, phase)| point - phase).collect()
}

/// Whether a season shows: points a season apart resemble each other more than they resemble chance.
fn repeats(points: &[f64], season: usize) -> bool {
    if season < 2 || points.len() < 2 * season + season / 2 {
        return false;
    }
    let (slope, start) = line(points);
    let rest: Vec<f64> =
        points.iter().enumerate().map(|(i, p)| p - (start + slope * i as f64)).collect();
    correlation(&rest, season) > 0.3 && correlation(&rest, season) > correlation(&rest, season / 2)
}

/// The correlation of a series with itself, so many points later.
fn correlation(points: &[f64], lag: usize) -> f64 {
    let mean = mean(points);
    let variance: f64 = points.iter().map(|p| (p - mean).powi(2)).sum();
    if variance <= f64::EPSILON {
        return 0.0;
    }
    let both = points.iter().zip(points.iter().skip(lag));
    both.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / variance
}

/// How far a rise stands out from chance, in standard deviations: the test of Mann and Kendall on at most 120 points,
/// with the correction of Hamed and Rao (1998) for points that follow their neighbours.
fn trend(points: &[f64]) -> f64 {
    let stride = points.len().div_ceil(120).max(1);
    let thinned: Vec<f64> = points.chunks(stride).map(mean).collect();
    let count = thinned.len() as f64;
    let mut score = 0.0;
    for (index, earlier) in thinned.iter().enumerate() {
        for later in thinned.iter().skip(index + 1) {
            score += f64::from(i8::from(later > earlier) - i8::from(later < earlier));
        }
    }
    let (slope, start) = line(&thinned);
    let rest: Vec<f64> =
        thinned.iter().enumerate().map(|(i, p)| p - (start + slope * i as f64)).collect();
    let follow: f64 = (1..thinned.len() / 4)
        .map(|lag| correlation(&rest, lag))
        .take_while(|correlation| *correlation > 0.1)
        .sum();
    let variance = count * (count - 1.0) * (2.0 * count + 5.0) / 18.0 * (1.0 + 2.0 * follow);
    score / variance.sqrt()
}

/// Slope and start of the line of least squares.
fn line(points: &[f64]) -> (f64, f64) {
    let count = points.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = mean(points);
    let mut both = 0.0;
    let mut own = 0.0;
    for (index, point) in points.iter().enumerate() {
        let offset = index as f64 - middle;
        both += offset * (point - mean);
        own += offset * offset;
    }
    let slope = if own > 0.0 { both / own } else { 0.0 };
    (slope, mean - slope * middle)
}

fn mean(points: &[f64]) -> f64 {
    points.iter().sum::<f64>() / points.len().max(1) as f64
}

/// A quantile of sorted values, moved outwards by one place for their number, as conformal prediction asks.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let count = sorted.len() as f64;
    let place = (share * (count + 1.0) - 1.0).clamp(0.0, count - 1.0);
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or_default();
    let (below, above) = (at(place.floor()), at(place.ceil()));
    below + (above - below) * place.fract()
}
