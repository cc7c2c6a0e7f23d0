//! A node's health as an operator and a platform see it, and a test for each row of the table of degraded modes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

use apex_core::clock::{Clock, SystemClock, Timestamp};
use apex_core::config::{Cache, Environment, Loader};
use apex_core::error::{
    Alert, AlertSink, Error, ErrorLog, EscalationPolicy, Failure, Kind, Notice, Outcome, Phase,
    Result,
};
use apex_core::health::degraded::MODES;
use apex_core::health::metric::METRICS;
use apex_core::health::{
    CertificateFile, CertificateSource, Health, HealthConfig, HealthDocument, HealthReport, Probe,
    Resource, RunResult, Status,
};
use apex_core::id::NodeId;
use apex_core::resilience::{
    Breaker, BreakerExchange, BreakerHint, BreakerOptions, BreakerState, Budget, Bulkhead, Effect,
    Endpoints, Need, Policy, ResilienceConfig,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A dependency that can be switched off.
#[derive(Debug)]
struct Database {
    up: AtomicBool,
    required: bool,
    looks: AtomicU32,
}

impl Database {
    fn new(required: bool) -> Arc<Self> {
        Arc::new(Self { up: AtomicBool::new(true), required, looks: AtomicU32::new(0) })
    }

    fn switch(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    fn call(&self) -> Result<u8> {
        if self.up.load(Ordering::Relaxed) { Ok(1) } else { Err(down()) }
    }
}

#[async_trait]
impl Probe for Database {
    fn dependency(&self) -> &'static str {
        "postgres"
    }

    fn is_required(&self) -> bool {
        self.required
    }

    async fn probe(&self) -> Result<()> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.call().map(drop)
    }
}

/// A clock that a test sets.
#[derive(Debug)]
struct Wall(AtomicI64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn down() -> Error {
    Error::driver(Failure::Connection, Phase::BeforeCommit, "db.read", "connection refused")
}

fn health() -> Health {
    Health::new(Arc::new(SystemClock), HealthConfig::default())
}

fn policy(dependency: &str) -> Policy {
    ResilienceConfig::default().policy(dependency, Environment::Production).with_seed(1)
}

/// Looks once more, past the time for which the last answer is given again.
async fn look(health: &Health) -> HealthDocument {
    tokio::time::advance(Duration::from_secs(2)).await;
    health.ready().await
}

#[tokio::test(start_paused = true)]
async fn the_document_tells_operators_everything_and_strangers_the_status() {
    let database = Database::new(true);
    let breaker = Arc::new(Breaker::seeded("postgres", BreakerOptions::default(), 1));
    breaker.force(BreakerState::ForcedOpen);
    let pool = Arc::new(Resource::new("pool", 10.0, Duration::from_secs(60)));
    pool.observe(4.0);
    let health = health().with_probe(database).with_breaker(breaker).with_resource(pool);
    health.record_run(RunResult { completed: true, first_event: None, answer: None });
    let document = health.ready().await;
    assert_eq!((document.status, document.status.http()), (Status::Warn, 200));
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["status"], "warn");
    let breaker = &json["checks"]["postgres:breaker"][0];
    assert_eq!(
        (&breaker["status"], &breaker["observedValue"]),
        (&"warn".into(), &"forced_open".into())
    );
    assert_eq!(json["checks"]["postgres:responseTime"][0]["observedUnit"], "ms");
    assert_eq!(json["checks"]["pool:utilization"][0]["observedValue"], 4.0);
    assert!(json["checks"]["completion:serviceLevel"].is_array());
    let public = serde_json::to_string(&document.public()).unwrap();
    assert_eq!(public, r#"{"status":"warn","version":"1"}"#);
}

#[tokio::test(start_paused = true)]
async fn one_bad_look_is_a_warning_and_a_storm_of_checks_is_one_look() {
    let database = Database::new(true);
    let health = health().with_probe(Arc::<Database>::clone(&database));
    let looks = || database.looks.load(Ordering::Relaxed);
    for _ in 0..1_000 {
        assert_eq!(health.ready().await.status, Status::Pass);
    }
    assert_eq!(looks(), 1);
    database.switch(false);
    for expected in [Status::Warn, Status::Warn, Status::Fail, Status::Fail] {
        assert_eq!(look(&health).await.status, expected);
    }
    database.switch(true);
    assert_eq!(look(&health).await.status, Status::Pass);
    health.drain();
    let draining = health.ready().await;
    assert_eq!((draining.status, health.live().status), (Status::Fail, Status::Pass));
}

/// The certificates are our own, made for this test: they end on 2026-03-01 and 2036-01-01.
#[tokio::test(start_paused = true)]
async fn certificates_warn_at_thirty_days_fail_at_three_and_end_the_readiness_at_none() {
    let end = "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.pem");
    for (days_left, line, whole) in [
        (31, Status::Pass, Status::Pass),
        (29, Status::Warn, Status::Warn),
        (2, Status::Fail, Status::Warn),
        (-1, Status::Fail, Status::Fail),
    ] {
        let clock = Arc::new(Wall(AtomicI64::new(end.as_millis() - days_left * DAY_MS)));
        let health = Health::new(clock, HealthConfig::default())
            .with_certificate(Arc::new(CertificateFile::new("listener", path)));
        let report = health.report().await;
        assert_eq!(report.certificates[0].not_after, Some(end), "the earliest of the chain");
        assert_eq!(report.certificates[0].status, line, "{days_left} days left");
        assert_eq!(report.status, whole, "{days_left} days left");
    }
    let health = health();
    health.observe_certificate("postgres db1:5432", b"no certificate");
    let report = health.report().await;
    assert_eq!(report.certificates[0].status, Status::Warn);
    assert!(report.certificates[0].problem.as_ref().is_some_and(|p| p.contains("no certificate")));
}

#[test]
fn metrics_are_named_once_and_by_the_rules() {
    let mut names = std::collections::BTreeSet::new();
    for metric in METRICS {
        assert!(names.insert(metric.name), "{} twice", metric.name);
        let total = metric.name.ends_with("_total");
        assert_eq!(
            total,
            metric.kind == apex_core::health::metric::MetricKind::Counter,
            "{}",
            metric.name
        );
    }
}

/// Every row has a test of its name below, so that a row that is added without one fails here.
#[test]
fn each_row_of_the_table_has_a_test() {
    let own = concat!(include_str!("health.rs"), include_str!("../../tests/whole/degraded.rs"));
    for mode in MODES {
        assert!(own.contains(&format!("async fn {}()", mode.name)), "no test named {}", mode.name);
    }
}

fn refused(name: &str) -> Option<Kind> {
    MODES.iter().find(|mode| mode.name == name).unwrap().refused
}

#[tokio::test(start_paused = true)]
async fn required_dependency_down() {
    let database = Database::new(true);
    let policy = policy("postgres");
    let health = health()
        .with_probe(Arc::<Database>::clone(&database))
        .with_breaker(Arc::clone(policy.breaker()) as _);
    database.switch(false);
    for _ in 0..20 {
        let error =
            policy.run(policy.call(Effect::Once), |_| async { database.call() }).await.unwrap_err();
        assert_eq!(Some(error.kind()), refused("required_dependency_down"));
        assert_eq!(error.outcome(), Outcome::NotApplied, "nothing was taken");
    }
    assert_eq!((look(&health).await.status, health.live().status), (Status::Fail, Status::Pass));
    database.switch(true);
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..3 {
        assert!(policy.run(policy.call(Effect::Once), |_| async { database.call() }).await.is_ok());
    }
    assert_eq!(policy.breaker().state(), BreakerState::Closed);
    assert_eq!(look(&health).await.status, Status::Pass);
}

#[tokio::test(start_paused = true)]
async fn optional_dependency_down() {
    let provider = Database::new(false);
    let policy = policy("model");
    let health = health().with_probe(Arc::<Database>::clone(&provider));
    provider.switch(false);
    let ask = || {
        policy.run_or(policy.call(Effect::Read), |_| async { provider.call() }, || async { Ok(0) })
    };
    let answer = ask().await.unwrap();
    assert_eq!((answer.value, answer.degraded.unwrap().dependency), (0, "model".to_owned()));
    assert_eq!(refused("optional_dependency_down"), None);
    for _ in 0..5 {
        assert_eq!(look(&health).await.status, Status::Warn, "it still serves");
    }
    provider.switch(true);
    assert_eq!(ask().await.unwrap().degraded, None);
}

#[tokio::test(start_paused = true)]
async fn dependency_slow() {
    let config = ResilienceConfig { at_a_time: 2, waiting: 0, ..ResilienceConfig::default() };
    let slow = config.policy("search", Environment::Production);
    let other = policy("postgres");
    let hang = || slow.run::<(), _, _>(slow.call(Effect::Once), |_| std::future::pending());
    let quick = other.run(other.call(Effect::Read), |_| async { Ok(1) });
    let (one, two, three, quick) = tokio::join!(hang(), hang(), hang(), quick);
    for hung in [one, two] {
        let error = hung.unwrap_err();
        assert_eq!(
            (Some(error.kind()), error.outcome()),
            (refused("dependency_slow"), Outcome::Unknown)
        );
    }
    assert_eq!(three.unwrap_err().kind(), Kind::Unavailable, "no place for a third");
    assert_eq!(quick.unwrap(), 1, "others are not touched");
}

#[tokio::test(start_paused = true)]
async fn writes_refused() {
    let endpoints = Endpoints::new("postgres", vec!["old", "new"]).unwrap();
    let promoted = AtomicBool::new(false);
    let write = |address: &str| -> Result<()> {
        if address == "new" && promoted.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::driver(
            Failure::of_sqlstate("25006"),
            Phase::BeforeCommit,
            "db.write",
            "read-only",
        ))
    };
    for _ in 0..2 {
        let endpoint = endpoints.choose(Need::Write).unwrap();
        endpoints.heard(endpoint, &write(endpoint.address));
    }
    let error = endpoints.choose(Need::Write).unwrap_err();
    assert_eq!(Some(error.kind()), refused("writes_refused"));
    assert!(endpoints.choose(Need::Read).is_ok());
    promoted.store(true, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(10)).await;
    let mut tries = 0;
    loop {
        tries += 1;
        let endpoint = endpoints.choose(Need::Write).unwrap();
        let result = write(endpoint.address);
        endpoints.heard(endpoint, &result);
        if result.is_ok() {
            break;
        }
    }
    assert!(tries <= 2);
}

#[tokio::test(start_paused = true)]
async fn disk_full() {
    let policy = policy("sqlite");
    let writes = AtomicU32::new(0);
    let error = policy
        .run::<(), _, _>(policy.call(Effect::Idempotent), |_| async {
            writes.fetch_add(1, Ordering::Relaxed);
            Err(Error::driver(Failure::of_sqlite(13), Phase::Committing, "run_log.append", "full"))
        })
        .await
        .unwrap_err();
    assert_eq!((Some(error.kind()), error.outcome()), (refused("disk_full"), Outcome::NotApplied));
    assert_eq!(writes.load(Ordering::Relaxed), 1, "not tried again");
    assert!(policy.run(policy.call(Effect::Read), |_| async { Ok(()) }).await.is_ok());
}

#[derive(Debug)]
struct Gone;

#[async_trait]
impl BreakerExchange for Gone {
    async fn publish(&self, _: NodeId, _: Vec<BreakerHint>) -> Result<()> {
        std::future::pending().await
    }

    async fn hints(&self) -> Result<Vec<BreakerHint>> {
        Err(down())
    }
}

#[tokio::test(start_paused = true)]
async fn breaker_exchange_down() {
    let policy = policy("postgres");
    assert!(Breaker::share(&[policy.breaker()], &Gone, NodeId::new(&SystemClock)).await.is_err());
    assert_eq!(refused("breaker_exchange_down"), None);
    assert!(policy.run(policy.call(Effect::Read), |_| async { Ok(()) }).await.is_ok());
    for _ in 0..20 {
        let _ = policy.run::<(), _, _>(policy.call(Effect::Read), |_| async { Err(down()) }).await;
    }
    assert_eq!(policy.breaker().state(), BreakerState::Open);
}

#[tokio::test]
async fn configuration_source_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apex.toml");
    std::fs::write(&path, "tries = 2").unwrap();
    let cache = Cache::<ResilienceConfig>::load(Loader::new().toml_file(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = Error::from(cache.reload().await.unwrap_err());
    assert_eq!(Some(error.kind()), refused("configuration_source_down"));
    assert_eq!(cache.current().value.tries, Some(2));
    std::fs::write(&path, "tries = 4").unwrap();
    assert!(cache.reload().await.unwrap());
    assert_eq!(cache.current().value.tries, Some(4));
}

/// A host's source that is defective.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl CertificateSource for Broken {
    fn endpoint(&self) -> &'static str {
        "broken"
    }

    async fn chain(&self) -> Result<Vec<u8>> {
        unreachable!("a defect")
    }
}

#[tokio::test(start_paused = true)]
async fn certificate_source_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.pem");
    let chain = include_bytes!("data/chain.pem");
    std::fs::write(&path, chain).unwrap();
    let health = health()
        .with_certificate(Arc::new(CertificateFile::new("listener", &path)))
        .with_certificate(Arc::new(Broken));
    let of = |report: HealthReport, endpoint| {
        report.certificates.into_iter().find(|one| one.endpoint == endpoint).unwrap()
    };
    let before = of(health.report().await, "listener").not_after;
    assert!(before.is_some());
    std::fs::remove_file(&path).unwrap();
    // A minute after a source failed all are looked at again.
    tokio::time::advance(Duration::from_secs(61)).await;
    let listener = of(health.report().await, "listener");
    assert_eq!(listener.not_after, before);
    assert!(listener.problem.is_some());
    let broken = of(health.report().await, "broken");
    assert!(broken.problem.as_ref().unwrap().contains("panicked"), "{broken:?}");
    assert_eq!(refused("certificate_source_down"), None);
}

#[derive(Debug, Default)]
struct Pager {
    broken: AtomicBool,
    told: Mutex<u32>,
}

impl AlertSink for Pager {
    fn alert(&self, _: &Alert) {
        assert!(!self.broken.load(Ordering::Relaxed), "the pager is broken");
        *self.told.lock() += 1;
    }

    fn notice(&self, notice: &Notice) {
        assert_eq!(notice.number, 0, "nothing was to be noticed: {notice:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn alert_callback_down() {
    let pager = Arc::new(Pager::default());
    pager.broken.store(true, Ordering::Relaxed);
    let sink: Arc<dyn AlertSink> = Arc::<Pager>::clone(&pager);
    let log = ErrorLog::new(Arc::new(SystemClock), EscalationPolicy::default(), sink);
    for _ in 0..100 {
        log.record(&down(), None);
    }
    assert_eq!(log.groups()[0].count, 100);
    pager.broken.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    for _ in 0..100 {
        log.record(&down(), None);
    }
    assert_eq!(*pager.told.lock(), 1);
    assert_eq!(refused("alert_callback_down"), None);
}

#[tokio::test(start_paused = true)]
async fn wall_clock_jumps() {
    let wall = Arc::new(Wall(AtomicI64::new(1_760_000_000_000)));
    let clock: Arc<dyn Clock> = Arc::<Wall>::clone(&wall);
    let breaker = Arc::new(Breaker::seeded("db", BreakerOptions::default(), 1));
    let policy = Policy::new(
        ResilienceConfig::default().policy_options(Environment::Production),
        Arc::clone(&breaker),
        Arc::new(Bulkhead::new("db", 1, 0)),
        Arc::new(Budget::new(0.2, 10)),
    );
    let health = Health::new(Arc::clone(&clock), HealthConfig::default()).with_breaker(breaker);
    let log = ErrorLog::new(clock, EscalationPolicy::default(), Arc::new(()));
    for jump in [0, 600_000, -1_200_000, 600_000] {
        wall.0.fetch_add(jump, Ordering::Relaxed);
        assert!(policy.run(policy.call(Effect::Read), |_| async { Ok(()) }).await.is_ok());
        let began = tokio::time::Instant::now();
        let error = policy
            .run::<(), _, _>(policy.call(Effect::Once), |_| std::future::pending())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (Kind::DeadlineExceeded, 3));
        log.record(&error, None);
        assert_eq!(look(&health).await.status, Status::Pass);
    }
    let group = &log.groups()[0];
    assert!(group.count == 4 && group.first <= group.last);
    assert_eq!(refused("wall_clock_jumps"), None);
}
