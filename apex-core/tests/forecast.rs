//! Forecasts hold what they promise: of their 80% intervals 70 to 90% hold what really came, on series that they have
//! not seen, and where there is no trend they say nothing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests may fail and print like tests"
)]

use apex_core::health::forecast::{interval, reached};
use std::f64::consts::TAU;

const PAST: usize = 240;
const DAY: usize = 48;

struct Noise(fastrand::Rng);

impl Noise {
    /// Nearly normal, of deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.0.f64()).sum::<f64>() - 6.0
    }
}

/// Series of one kind, each from another seed.
fn many(make: impl Fn(f64, &mut Noise) -> f64 + Copy) -> Vec<Vec<f64>> {
    let one = |seed| {
        let mut noise = Noise(fastrand::Rng::with_seed(seed));
        (0..600).map(|at| make(f64::from(at), &mut noise)).collect()
    };
    (0..10).map(one).collect()
}

/// Sums up what `many` makes: each point is the one before it and a change.
fn walk(kind: Vec<Vec<f64>>, keep: f64) -> Vec<Vec<f64>> {
    let sum = |changes: Vec<f64>| {
        let mut level = 0.0;
        let next = |change| {
            level = keep * level + change;
            level
        };
        changes.into_iter().map(next).collect()
    };
    kind.into_iter().map(sum).collect()
}

/// The share of held-out points within their intervals; a forecast is made at each `every`th point, or else at so few
/// that they have little in common.
fn coverage(
    name: &str,
    series: &[Vec<f64>],
    past: usize,
    season: Option<usize>,
    aheads: &[usize],
    every: Option<usize>,
) -> f64 {
    let (mut held, mut all) = (0, 0);
    for points in series {
        for ahead in aheads {
            let ends =
                (past..=points.len() - ahead).step_by(every.unwrap_or(*ahead.max(&(past / 8))));
            for end in ends {
                if let Some(interval) = interval(&points[end - past..end], season, *ahead) {
                    let actual = points[end + ahead - 1];
                    held += u32::from((interval.low..=interval.high).contains(&actual));
                    all += 1;
                }
            }
        }
    }
    let share = f64::from(held) / f64::from(all);
    println!("{name}, {aheads:?} ahead: {held} of {all} held, {share:.2}");
    share
}

fn holds(name: &str, series: &[Vec<f64>], season: Option<usize>) {
    for aheads in [&[1, 5][..], &[20], &[60]] {
        let share = coverage(name, series, PAST, season, aheads, None);
        assert!((0.70..=0.90).contains(&share), "{name} {aheads:?}: {share}");
    }
}

#[test]
fn intervals_hold_on_noisy_series() {
    holds("noise", &many(|_, noise| 50.0 + 5.0 * noise.normal()), None);
    holds(
        "noise with a season that is none",
        &many(|_, noise| 50.0 + 5.0 * noise.normal()),
        Some(DAY),
    );
    holds("rising", &many(|at, noise| at * 0.2 + 5.0 * noise.normal()), None);
}

#[test]
fn intervals_hold_on_series_that_follow_themselves() {
    holds("swinging back", &walk(many(|_, noise| noise.normal()), 0.8), None);
    holds("random walk", &walk(many(|_, noise| noise.normal()), 1.0), None);
}

#[test]
fn intervals_hold_on_seasonal_series() {
    let day = |at: f64| 20.0 * (at / DAY as f64 * TAU).sin();
    holds("daily", &many(|at, noise| 50.0 + day(at) + 3.0 * noise.normal()), Some(DAY));
    holds(
        "daily and rising",
        &many(|at, noise| day(at) + 0.05 * at + 3.0 * noise.normal()),
        Some(DAY),
    );
    let office = |at: f64| {
        if at as usize % DAY >= DAY / 3 && at as usize % DAY < 2 * DAY / 3 { 40.0 } else { 5.0 }
    };
    holds("office hours", &many(|at, noise| office(at) + 2.0 * noise.normal()), Some(DAY));
}

/// This was recorded on a build machine at work, every four seconds: load, memory and disk in use in MB, processes,
/// context switches a second and busy per cent.
#[test]
fn intervals_hold_on_recorded_series() {
    let text = include_str!("data/build_machine.csv");
    for (column, name) in text.lines().next().unwrap().split(',').enumerate() {
        let value = |line: &str| line.split(',').nth(column).unwrap().parse().unwrap();
        let points: Vec<f64> = text.lines().skip(1).map(value).collect();
        let series = std::slice::from_ref(&points);
        let share = coverage(name, series, 120, None, &[1, 5, 15, 30], Some(6));
        assert!((0.70..=0.90).contains(&share), "{name}: {share}");
    }
}

#[test]
fn where_there_is_no_trend_nothing_is_said() {
    let kinds = [
        ("noise", many(|_, noise| 50.0 + 5.0 * noise.normal())),
        ("swinging back", walk(many(|_, noise| noise.normal()), 0.8)),
        (
            "daily",
            many(|at, noise| 50.0 + 20.0 * (at / DAY as f64 * TAU).sin() + 3.0 * noise.normal()),
        ),
        ("sawtooth", many(|at, noise| at % 37.0 + noise.normal())),
        ("falling", many(|at, noise| 500.0 - at + 5.0 * noise.normal())),
        ("constant", many(|_, _| 7.0)),
    ];
    for (name, series) in kinds {
        for points in series {
            for end in (PAST..=points.len()).step_by(60) {
                let past = &points[end - PAST..end];
                let limit = past.iter().copied().fold(f64::MIN, f64::max) + 1.0;
                for season in [None, Some(DAY)] {
                    assert_eq!(reached(past, season, limit), None, "{name} at {end}");
                }
            }
        }
    }
}

#[test]
fn a_limit_ahead_is_reached_when_it_is_and_the_interval_holds_it() {
    let (mut held, mut all) = (0, 0);
    for points in many(|at, noise| at * 0.5 + 4.0 * noise.normal()) {
        for (past, limit) in [(120, 90.0), (160, 110.0), (240, 200.0)] {
            let actual =
                points.windows(9).position(|near| near.iter().sum::<f64>() / 9.0 >= limit).unwrap()
                    + 4
                    - past;
            let found = reached(&points[..past], None, limit).unwrap();
            let off = (found.expected as f64 - actual as f64).abs() / actual as f64;
            assert!(off <= 0.25, "{found:?}, was {actual}");
            held += u32::from(
                found.earliest <= actual && found.latest.is_none_or(|latest| actual <= latest),
            );
            all += 1;
        }
    }
    assert!(held * 10 >= all * 7, "{held} of {all}");
}

#[test]
fn short_empty_and_broken_series_give_nothing() {
    assert_eq!(interval(&[], None, 1), None);
    assert_eq!(interval(&[1.0; 23], None, 1), None);
    assert_eq!(interval(&[1.0; 40], None, 0), None);
    assert_eq!(interval(&[1.0; 40], None, 41), None);
    assert_eq!(interval(&[f64::NAN; 40], None, 1), None);
    assert_eq!(reached(&[f64::INFINITY; 40], None, 1.0), None);
    let flat = interval(&[3.0; 100], Some(0), 5).unwrap();
    assert_eq!((flat.low, flat.high), (3.0, 3.0));
}
