//! What a person should know about a node, told once and then again with longer and longer waits.

use super::status::Status;
use super::watch::HealthReport;
use crate::clock::Timestamp;
use crate::error::{EscalationPolicy, Notice, Severity};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// What the host was told already.
#[derive(Debug)]
pub(super) struct Told {
    policy: EscalationPolicy,
    standing: Mutex<BTreeMap<String, Standing>>,
}

#[derive(Debug)]
struct Standing {
    severity: Severity,
    number: u32,
    quiet: Duration,
    until: Instant,
}

impl Told {
    pub(super) fn new(policy: EscalationPolicy) -> Self {
        Self { policy, standing: Mutex::default() }
    }

    /// What is to be told now. Something that is well again is forgotten after its quiet time, so that one that
    /// comes and goes is told no more often than one that stays.
    pub(super) fn judge(&self, report: &HealthReport) -> Vec<Notice> {
        let now = Instant::now();
        let concerns = report.concerns();
        let mut standing = self.standing.lock();
        standing.retain(|subject, told| {
            told.until > now || concerns.iter().any(|concern| concern.subject == *subject)
        });
        let told = |concern| self.tell(&mut standing, concern, report.time, now);
        concerns.into_iter().filter_map(told).collect()
    }

    fn tell(
        &self,
        standing: &mut BTreeMap<String, Standing>,
        concern: Concern,
        at: Timestamp,
        now: Instant,
    ) -> Option<Notice> {
        let Concern { subject, severity, message } = concern;
        let before = standing.get(&subject);
        let (number, quiet) = match before {
            None => (1, self.policy.quiet),
            Some(told) if severity > told.severity => (told.number + 1, self.policy.quiet),
            Some(told) if told.until <= now => {
                (told.number + 1, (told.quiet * 2).min(self.policy.quiet_most))
            }
            Some(_) => return None,
        };
        standing.insert(subject.clone(), Standing { severity, number, quiet, until: now + quiet });
        Some(Notice { subject, severity, message, number, at })
    }
}

/// Something that is not well.
struct Concern {
    subject: String,
    severity: Severity,
    message: String,
}

impl HealthReport {
    /// What no failing request tells by itself: budgets that burn, what runs out, certificates that end.
    fn concerns(&self) -> Vec<Concern> {
        let levels = self.levels.iter().filter_map(|level| Some((level.line(), level.severity()?)));
        let resources = self.resources.iter().map(|one| (one.line(), severity(one.status)));
        let certificates =
            self.certificates.iter().map(|one| (one.line(self.time), severity(one.status)));
        let rest =
            resources.chain(certificates).filter_map(|(line, severity)| Some((line, severity?)));
        let concern = |(line, severity): (super::status::Line, Severity)| Concern {
            message: line.output.unwrap_or_else(|| format!("{} {}", line.value, line.unit)),
            subject: line.name,
            severity,
        };
        levels.chain(rest).map(concern).collect()
    }
}

fn severity(status: Status) -> Option<Severity> {
    match status {
        Status::Pass => None,
        Status::Warn => Some(Severity::Warning),
        Status::Fail => Some(Severity::Error),
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::{Clock, SystemClock};
    use crate::error::{Alert, AlertSink, Notice, Severity};
    use crate::health::{Health, HealthConfig, Observer, Resource, RunResult};
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::Instant;

    #[derive(Debug, Default)]
    struct Pager(Mutex<Vec<Notice>>);

    impl AlertSink for Pager {
        fn alert(&self, alert: &Alert) {
            panic!("no failure was recorded: {alert:?}");
        }

        fn notice(&self, notice: &Notice) {
            self.0.lock().push(notice.clone());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_out_and_what_burns_is_told_once_and_then_ever_less_often() {
        let pager = Arc::new(Pager::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pool = Arc::new(Resource::new("pool", 100.0, Duration::from_secs(30 * 60)));
        let health = Health::new(Arc::clone(&clock), HealthConfig::default())
            .with_resource(Arc::clone(&pool));
        let observer = Observer::new(health, clock, Arc::clone(&pager) as _);
        let began = Instant::now();
        // Full after 150 minutes, and from then on.
        observer.watch(move || {
            let minutes = began.elapsed().as_secs_f64() / 60.0;
            pool.observe((minutes * 100.0 / 150.0).min(100.0));
            async {}
        });
        tokio::time::sleep(Duration::from_secs(148 * 60)).await;
        let early = std::mem::take(&mut *pager.0.lock());
        assert_eq!(early.len(), 2, "the forecast, and a reminder: {early:?}");
        assert_eq!((early[0].subject.as_str(), early[0].number), ("pool:utilization", 1));
        assert_eq!(early[0].severity, Severity::Warning);
        assert!(early[0].message.contains("reaches 100 in"), "{early:?}");
        tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
        let day = std::mem::take(&mut *pager.0.lock());
        assert_eq!(day[0].severity, Severity::Error, "it is full: {day:?}");
        assert!((6..=12).contains(&day.len()), "a day of it: {} notices", day.len());

        for _ in 0..100 {
            observer.health().record_run(RunResult {
                completed: false,
                first_event: None,
                answer: None,
            });
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let burning: Vec<String> = pager.0.lock().iter().map(|n| n.subject.clone()).collect();
        assert_eq!(
            burning,
            ["completion:serviceLevel", "first_event:serviceLevel", "answer:serviceLevel"]
        );
        drop(observer);
    }
}
