use super::certificate::{CertificateSource, CertificateStatus, Certificates};
use super::config::HealthConfig;
use super::level::{LevelStatus, Levels, RunResult};
use super::notice::Told;
use super::probe::{Probe, Watched};
use super::resource::{Outlook, Resource};
use super::status::{HealthDocument, Line, Status, members};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, EscalationPolicy, Notice, Result};
use crate::id::NodeId;
use crate::resilience::{Breaker, BreakerExchange, BreakerState, BreakerStatus};
use futures_util::future::join;
use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// So many probes are made at a time: they are to see how a database is doing, not to be what it does.
const AT_A_TIME: usize = 4;

/// Watches a node: what it depends on, what it promises and what it runs out of.
///
/// Liveness is that the process answers, and never depends on a dependency: a database that is down must not make
/// the platform restart every node. Readiness is that this node can serve.
#[derive(Debug)]
pub struct Health {
    clock: Arc<dyn Clock>,
    ready_for: Duration,
    certificates_every: Duration,
    probe_within: Duration,
    probes: Vec<Watched>,
    breakers: Vec<Arc<dyn BreakerSource>>,
    resources: Vec<Arc<Resource>>,
    certificates: Certificates,
    levels: Levels,
    told: Told,
    escalation: EscalationPolicy,
    draining: AtomicBool,
    /// One look at a time; who comes meanwhile gets its result.
    latest: Mutex<Latest>,
}

/// Whatever protects its calls by breakers.
pub trait BreakerSource: fmt::Debug + Send + Sync {
    /// All of them.
    fn breakers(&self) -> Vec<&Breaker>;
}

impl BreakerSource for Breaker {
    fn breakers(&self) -> Vec<&Breaker> {
        vec![self]
    }
}

#[derive(Debug, Default)]
struct Latest {
    report: Option<(Instant, HealthReport)>,
    certificates_due: Option<Instant>,
}

/// Everything about a node's health, for the host's own use.
#[derive(Debug, Clone, Serialize)]
pub struct HealthReport {
    /// Whether this node can serve.
    pub status: Status,
    /// When it was looked at.
    pub time: Timestamp,
    /// Whether it is shutting down.
    pub draining: bool,
    /// The breakers.
    pub breakers: Vec<BreakerStatus>,
    /// The certificates.
    pub certificates: Vec<CertificateStatus>,
    /// The service levels and their alerts.
    pub levels: Vec<LevelStatus>,
    /// The resources and their forecasts.
    pub resources: Vec<Outlook>,
    /// The probes' lines.
    #[serde(skip)]
    dependencies: Vec<Line>,
}

impl Health {
    /// A watch over nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, config: HealthConfig) -> Self {
        Self {
            clock,
            ready_for: config.ready_for,
            certificates_every: config.certificates_every,
            probe_within: config.probe_within,
            probes: Vec::new(),
            breakers: Vec::new(),
            resources: Vec::new(),
            certificates: Certificates::new(config.certificate_warn, config.certificate_fail),
            told: Told::new(config.escalation()),
            escalation: config.escalation(),
            levels: Levels::new(config),
            draining: AtomicBool::new(false),
            latest: Mutex::default(),
        }
    }

    /// Watches a dependency.
    #[must_use]
    pub fn with_probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes.push(Watched::new(probe, self.probe_within));
        self
    }

    /// Watches a breaker, or whatever has several.
    #[must_use]
    pub fn with_breaker(mut self, breaker: Arc<dyn BreakerSource>) -> Self {
        self.breakers.push(breaker);
        self
    }

    /// Watches something that runs out.
    #[must_use]
    pub fn with_resource(mut self, resource: Arc<Resource>) -> Self {
        self.resources.push(resource);
        self
    }

    /// Watches the certificates of a TLS endpoint.
    #[must_use]
    pub fn with_certificate(mut self, source: Arc<dyn CertificateSource>) -> Self {
        self.certificates.add(source);
        self
    }

    /// Takes the certificates that a server showed in a handshake: PEM, or DER with one certificate after the other.
    pub fn observe_certificate(&self, endpoint: &str, chain: &[u8]) {
        self.certificates.observe(endpoint, chain);
    }

    /// Takes why an endpoint's certificates could not be had, or not be replaced by what is there now.
    pub fn certificate_failed(&self, endpoint: &str, error: &Error) {
        self.certificates.failed(endpoint, error);
    }

    /// Takes how a run ended, for the service levels.
    pub fn record_run(&self, run: RunResult) {
        self.levels.record(run);
    }

    /// The node is shutting down: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The answer to the liveness check.
    #[must_use]
    pub fn live(&self) -> HealthDocument {
        HealthDocument { status: Status::Pass, time: self.clock.now(), lines: Vec::new() }
    }

    /// The answer to the readiness check, with all details; give strangers its [`public`](HealthDocument::public)
    /// part.
    pub async fn ready(&self) -> HealthDocument {
        self.report().await.document()
    }

    /// Everything.
    pub async fn report(&self) -> HealthReport {
        let mut latest = self.latest.lock().await;
        let draining = self.draining.load(Ordering::Relaxed);
        if let Some((at, report)) = &latest.report
            && at.elapsed() < self.ready_for
            && report.draining == draining
        {
            return report.clone();
        }
        let due = latest.certificates_due.is_none_or(|due| due <= Instant::now());
        let certificates = async {
            if due {
                let wait = self.certificates.refresh(self.probe_within).await;
                latest.certificates_due = Some(Instant::now() + wait.min(self.certificates_every));
            }
        };
        let looks: Vec<_> = self.probes.iter().map(Watched::look).collect();
        let probes = stream::iter(looks).buffered(AT_A_TIME).collect();
        let (dependencies, ()) = join(probes, certificates).await;
        let report = self.judge(dependencies, draining);
        latest.report = Some((Instant::now(), report.clone()));
        report
    }

    /// What a person should be told of it: budgets that burn, resources that run out, certificates that end; each
    /// once, and again after its quiet time.
    #[must_use]
    pub fn notices(&self, report: &HealthReport) -> Vec<Notice> {
        self.told.judge(report)
    }

    /// Every breaker under watch.
    fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.breakers.iter().flat_map(|source| source.breakers())
    }

    /// Tells other nodes of the breakers under watch, and hears of theirs; the host calls it every second or so.
    /// Without breakers nothing is said.
    ///
    /// # Errors
    /// As [`Breaker::share`].
    pub async fn share(&self, exchange: &dyn BreakerExchange, node: NodeId) -> Result<()> {
        let breakers: Vec<&Breaker> = self.breakers().collect();
        if breakers.is_empty() {
            return Ok(());
        }
        Breaker::share(&breakers, exchange, node).await
    }

    /// When failures escalate, as the configuration says.
    pub(super) fn escalation(&self) -> EscalationPolicy {
        self.escalation.clone()
    }

    fn judge(&self, dependencies: Vec<Line>, draining: bool) -> HealthReport {
        let certificates = self.certificates.status(self.clock.as_ref());
        let time = self.clock.now();
        let mut report = HealthReport {
            status: Status::Pass,
            time,
            draining,
            breakers: self.breakers().map(Breaker::status).collect(),
            levels: self.levels.status(),
            resources: self.resources.iter().map(|resource| resource.outlook()).collect(),
            certificates,
            dependencies,
        };
        let has_ended =
            |c: &CertificateStatus| c.required && c.not_after.is_some_and(|end| end <= time);
        let ended = report.certificates.iter().any(has_ended);
        let gone = report.dependencies.iter().any(|line| line.status == Status::Fail);
        let worst = report.lines().iter().map(|line| line.status).max().unwrap_or(Status::Pass);
        report.status =
            if draining || ended || gone { Status::Fail } else { worst.min(Status::Warn) };
        metrics::gauge!("apex_health_status").set(report.status.level());
        report
    }
}

impl HealthReport {
    /// The report as `application/health+json`.
    #[must_use]
    pub fn document(&self) -> HealthDocument {
        HealthDocument { status: self.status, time: self.time, lines: self.lines() }
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = self.dependencies.clone();
        lines.extend(self.breakers.iter().map(breaker_line));
        lines.extend(self.certificates.iter().map(|certificate| certificate.line(self.time)));
        lines.extend(self.levels.iter().map(LevelStatus::line));
        lines.extend(self.resources.iter().map(Outlook::line));
        if self.draining {
            lines.push(Line {
                name: "node:draining".to_owned(),
                component: "component",
                status: Status::Fail,
                value: true.into(),
                unit: "",
                output: Some("this node is shutting down".to_owned()),
                more: serde_json::Map::new(),
            });
        }
        lines
    }
}

fn breaker_line(breaker: &BreakerStatus) -> Line {
    let open = !matches!(breaker.state, BreakerState::Closed | BreakerState::Disabled);
    Line {
        name: format!("{}:breaker", breaker.dependency),
        component: "component",
        status: if open { Status::Warn } else { Status::Pass },
        value: serde_json::json!(breaker.state),
        unit: "state",
        output: open.then(|| format!("{} of {} calls were bad", breaker.bad, breaker.calls)),
        more: members(serde_json::json!({
            "calls": breaker.calls,
            "bad": breaker.bad,
            "peers": breaker.peers,
        })),
    }
}
