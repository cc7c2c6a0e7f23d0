//! Service levels, and alerts when their error budget burns too fast (Google, The Site Reliability Workbook,
//! chapter 5: several windows, several burn rates).

use super::config::HealthConfig;
use super::status::{Line, Status, members};
use crate::error::Severity;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The resolution of the windows.
const PART: Duration = Duration::from_secs(60);
/// The longest window, three days, in parts.
const PARTS: usize = 3 * 24 * 60;
/// Fewer bad ones than these in the long window alarm nobody, however few runs there were.
const LEAST_BAD: u64 = 10;

/// Burn rate, long window and short window in minutes, and whether someone is woken for it. The short window ends
/// the alert soon after the trouble does.
const RULES: [(f64, usize, usize, Urgency); 3] = [
    (14.4, 60, 5, Urgency::Page),
    (6.0, 6 * 60, 30, Urgency::Page),
    (1.0, 3 * 24 * 60, 6 * 60, Urgency::Ticket),
];

/// Who hears of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Someone is woken.
    Page,
    /// It is put on the list.
    Ticket,
}

/// A service level and how it is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelStatus {
    /// `completion`, `first_event` or `answer`.
    pub level: &'static str,
    /// The share of runs that must be good.
    pub objective: f64,
    /// The share that was, over the last hour; 1 when there were none.
    pub good_share: f64,
    /// The runs of the last hour.
    pub runs: u64,
    /// How many times faster than allowed the error budget burns, over the last hour.
    pub burn: f64,
    /// The alert that stands, if one does.
    pub alert: Option<Urgency>,
}

/// How a run ended, for the service levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunResult {
    /// Whether it was completed; one that its user cancelled is not recorded at all.
    pub completed: bool,
    /// From the message to the first event, if there was one.
    pub first_event: Option<Duration>,
    /// From the message to the answer, if there was one.
    pub answer: Option<Duration>,
}

/// The three service levels.
#[derive(Debug)]
pub(super) struct Levels {
    config: HealthConfig,
    books: Mutex<[Book; 3]>,
}

impl Levels {
    pub(super) fn new(config: HealthConfig) -> Self {
        let books = std::array::from_fn(|_| Book::new(Instant::now()));
        Self { config, books: Mutex::new(books) }
    }

    pub(super) fn record(&self, run: RunResult) {
        let now = Instant::now();
        let within = |took: Option<Duration>, limit| took.is_some_and(|took| took <= limit);
        let good = [
            run.completed,
            within(run.first_event, self.config.first_event_within),
            within(run.answer, self.config.answer_within),
        ];
        for (book, good) in self.books.lock().iter_mut().zip(good) {
            book.add(good, now);
        }
    }

    pub(super) fn status(&self) -> Vec<LevelStatus> {
        let now = Instant::now();
        let config = &self.config;
        let objectives = [
            ("completion", config.completion_objective),
            ("first_event", config.first_event_objective),
            ("answer", config.answer_objective),
        ];
        let mut books = self.books.lock();
        let status = |(book, (level, objective)): (&mut Book, (&'static str, f64))| {
            let (all, bad) = book.sums(60, now);
            let share = if all == 0 { 0.0 } else { bad as f64 / all as f64 };
            let burn = share / (1.0 - objective);
            metrics::gauge!("apex_slo_burn_rate", "level" => level).set(burn);
            LevelStatus {
                level,
                objective,
                good_share: 1.0 - share,
                runs: all,
                burn,
                alert: book.alert(objective, now),
            }
        };
        books.iter_mut().zip(objectives).map(status).collect()
    }
}

impl LevelStatus {
    pub(super) fn severity(&self) -> Option<Severity> {
        self.alert.map(|urgency| match urgency {
            Urgency::Page => Severity::Error,
            Urgency::Ticket => Severity::Warning,
        })
    }

    pub(super) fn line(&self) -> Line {
        Line {
            name: format!("{}:serviceLevel", self.level),
            component: "system",
            status: if self.alert.is_some() { Status::Warn } else { Status::Pass },
            value: self.good_share.into(),
            unit: "share",
            output: self
                .alert
                .map(|_| format!("the error budget burns {:.1} times too fast", self.burn)),
            more: members(json!({
                "objective": self.objective,
                "runs": self.runs,
                "burn": self.burn,
                "alert": self.alert,
            })),
        }
    }
}

/// Runs and bad runs a minute.
#[derive(Debug)]
struct Book {
    parts: VecDeque<(u32, u32)>,
    /// When the last part began.
    began: Instant,
}

impl Book {
    fn new(now: Instant) -> Self {
        Self { parts: VecDeque::from([(0, 0)]), began: now }
    }

    fn add(&mut self, good: bool, now: Instant) {
        self.advance(now);
        if let Some((all, bad)) = self.parts.back_mut() {
            *all = all.saturating_add(1);
            *bad = bad.saturating_add(u32::from(!good));
        }
    }

    fn sums(&mut self, minutes: usize, now: Instant) -> (u64, u64) {
        self.advance(now);
        let recent = self.parts.iter().rev().take(minutes);
        recent.fold((0, 0), |sums, part| (sums.0 + u64::from(part.0), sums.1 + u64::from(part.1)))
    }

    fn alert(&mut self, objective: f64, now: Instant) -> Option<Urgency> {
        let mut burns = |minutes, rate: f64, least| {
            let (all, bad) = self.sums(minutes, now);
            bad >= least && bad as f64 > all as f64 * rate * (1.0 - objective)
        };
        let stands = |(rate, long, short, _): &&(f64, usize, usize, Urgency)| {
            burns(*long, *rate, LEAST_BAD) && burns(*short, *rate, 1)
        };
        let mut rules = RULES.iter();
        rules.find(stands).map(|(_, _, _, urgency)| *urgency)
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_secs() / PART.as_secs();
        let passed = usize::try_from(passed).unwrap_or(PARTS);
        if passed >= PARTS {
            *self = Self::new(now);
            return;
        }
        for _ in 0..passed {
            if self.parts.len() == PARTS {
                self.parts.pop_front();
            }
            self.parts.push_back((0, 0));
            self.began += PART;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(completed: bool) -> RunResult {
        RunResult {
            completed,
            first_event: Some(Duration::from_millis(100)),
            answer: Some(Duration::from_secs(1)),
        }
    }

    /// Two runs a second, of which those in the given seconds fail; the seconds in which a page stood.
    async fn pages(levels: &Levels, seconds: u64, fails: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut pages = Vec::new();
        for second in 0..seconds {
            levels.record(run(!fails(second)));
            levels.record(run(!fails(second)));
            tokio::time::advance(Duration::from_secs(1)).await;
            if second % 10 == 0 && levels.status()[0].alert == Some(Urgency::Page) {
                pages.push(second);
            }
        }
        pages
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_pages_within_two_minutes_and_a_blip_does_not() {
        let levels = Levels::new(HealthConfig::default());
        assert!(pages(&levels, 2 * 3_600, |_| false).await.is_empty());
        assert!(pages(&levels, 1_800, |second| (600..630).contains(&second)).await.is_empty());
        assert!(pages(&levels, 3_600, |_| false).await.is_empty());
        let outage = pages(&levels, 300, |_| true).await;
        assert!(outage.first().is_some_and(|second| *second <= 120), "{outage:?}");
        let after = pages(&levels, 3_600, |_| false).await;
        assert!(after.last().is_some_and(|second| *second <= 1_900), "ends soon after: {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_burn_is_a_ticket_and_one_failed_run_at_night_is_nothing() {
        let levels = Levels::new(HealthConfig::default());
        levels.record(run(false));
        assert_eq!(levels.status()[0].alert, None);
        let levels = Levels::new(HealthConfig::default());
        for number in 0..20_000_u32 {
            levels.record(run(number % 500 != 0));
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        let status = levels.status();
        assert_eq!(status[0].alert, Some(Urgency::Ticket));
        assert_eq!((status[1].alert, status[2].alert), (None, None));
        assert!(levels.status()[0].runs <= 601);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_first_events_burn_their_own_budget() {
        let levels = Levels::new(HealthConfig::default());
        for _ in 0..100 {
            levels.record(RunResult {
                completed: true,
                first_event: Some(Duration::from_secs(9)),
                answer: None,
            });
        }
        let status = levels.status();
        assert_eq!(status[0].alert, None);
        assert!(status[1].alert.is_some() && status[2].alert.is_some());
    }
}
