//! What a node tells of the servers that it asks, and what nodes tell each other of them.

use apex_test_services::{Kind as Service, Options, Server, Tls};
use netra_apex::agents::model::{ChainLink, ChainOptions, HttpOptions, HttpProvider};
use netra_apex::core::clock::{Clock, SystemClock};
use netra_apex::core::config::{DatabaseUrl, Environment};
use netra_apex::core::health::{CertificateStatus, Health, HealthConfig, HealthReport, Status};
use netra_apex::core::resilience::{Breaker, BreakerOptions, BreakerState};
use netra_apex::core::tls;
use netra_apex::prelude::*;
use netra_apex::transport::TlsFiles;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Looks until something is so.
async fn until(apex: &Apex, what: &str, condition: impl Fn(&HealthReport) -> bool) -> HealthReport {
    let began = Instant::now();
    loop {
        let report = apex.health().await;
        if condition(&report) {
            return report;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn with(tls: Tls) -> Options {
    Options { tls: Some(tls), ..Options::default() }
}

fn url(server: &Server) -> DatabaseUrl {
    server.url().parse().unwrap()
}

fn of<'r>(report: &'r HealthReport, endpoint: &str) -> &'r CertificateStatus {
    let found = report.certificates.iter().find(|one| one.endpoint == endpoint);
    found.unwrap_or_else(|| panic!("no certificate of {endpoint}: {:?}", report.certificates))
}

/// A server whose certificate ends so many days from now, and the authority that vouches for it.
async fn model_server(days: i64) -> (u16, String) {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let begin = SystemTime::now() - 90 * DAY;
    params.not_before = begin.into();
    params.not_after = (begin + DAY * u32::try_from(90 + days).unwrap() + HOUR).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("chain.pem"),
        private_key: folder.path().join("key.pem"),
    };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.private_key, key.serialize_pem()).unwrap();
    let server =
        Apex::builder().environment(Environment::Development).tls(files).build().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let _folder = folder;
        server.serve(listener, std::future::pending()).await
    });
    (port, authority.pem())
}

fn model(url: &str, roots: &str) -> ChainLink {
    let options = HttpOptions { roots: roots.into(), ..HttpOptions::default() };
    let clock = Arc::new(SystemClock);
    let provider = HttpProvider::compatible("local", url, None, options, clock).unwrap();
    ChainLink::new(Arc::new(provider), "some")
}

#[tokio::test]
async fn an_operator_sees_the_sessions_and_certificates_of_postgresql_and_redis() {
    let Some(mut postgres) = Server::start_or_skip(Service::Postgres, &with(Tls::Good)) else {
        return;
    };
    let Some(redis) = Server::start_or_skip(Service::Redis, &with(Tls::Good)) else { return };
    let apex =
        Apex::builder().database(url(&postgres)).redis(url(&redis), "apex").build().await.unwrap();
    let report = apex.health().await;
    assert_eq!(report.status, Status::Pass, "{report:?}");
    for endpoint in [
        format!("postgres 127.0.0.1:{}", postgres.port()),
        format!("redis 127.0.0.1:{}", redis.port()),
    ] {
        let certificate = of(&report, &endpoint);
        assert_eq!((certificate.status, certificate.required), (Status::Pass, false));
        let years =
            certificate.not_after.unwrap().since(SystemClock.now()).as_secs() / 86_400 / 365;
        assert!((10..40).contains(&years), "{endpoint}: {years} years");
    }
    let lines = serde_json::to_value(report.document()).unwrap()["checks"].clone();
    for line in [
        "postgres:responseTime",
        "redis:responseTime",
        "limits:responseTime",
        "audit:responseTime",
        "usage:responseTime",
        "postgres_sessions:utilization",
    ] {
        assert_eq!(lines[line][0]["status"], "pass", "{line}: {lines}");
    }
    postgres.stop("postgres");
    let report = until(&apex, "PostgreSQL is missed", |report| report.status == Status::Fail).await;
    let document = serde_json::to_value(report.document()).unwrap();
    assert_eq!(document["checks"]["postgres:responseTime"][0]["status"], "fail", "{document}");
    assert_eq!(document["checks"]["redis:responseTime"][0]["status"], "pass", "{document}");
    postgres.restart("postgres").unwrap();
    until(&apex, "PostgreSQL is back", |report| report.status == Status::Pass).await;
}

#[tokio::test]
async fn a_servers_certificate_that_has_ended_fails_as_a_line_and_another_hosts_is_a_problem() {
    for service in [Service::Postgres, Service::Redis] {
        for (tls, status, said) in [
            (Tls::Expired, Status::Fail, None),
            (Tls::WrongHost, Status::Warn, Some("elsewhere.example")),
        ] {
            let Some(server) = Server::start_or_skip(service, &with(tls)) else { return };
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let health = Health::new(clock, HealthConfig::default());
            let sources = tls::certificates(&url(&server)).unwrap();
            let report = sources.into_iter().fold(health, Health::with_certificate).report().await;
            let [certificate] = &report.certificates[..] else { panic!("{report:?}") };
            assert_eq!(certificate.status, status, "{certificate:?}");
            let problem = certificate.problem.as_deref().unwrap_or_default();
            assert!(problem.contains(said.unwrap_or_default()), "{certificate:?}");
            assert_eq!(certificate.problem.is_some(), said.is_some());
            assert_eq!(report.status, Status::Warn, "the node itself can serve");
        }
    }
}

#[tokio::test]
async fn the_certificates_of_models_are_looked_at_before_they_are_asked() {
    for (days, status) in [(40, Status::Pass), (20, Status::Warn), (2, Status::Fail)] {
        let (port, authority) = model_server(days).await;
        let url = format!("https://localhost:{port}/v1");
        let apex = Apex::builder()
            .model(model(&url, &authority))
            .model(model(&url, &authority))
            .build()
            .await
            .unwrap();
        let report = apex.health().await;
        let certificate = of(&report, &format!("model localhost:{port}"));
        assert_eq!((certificate.status, &certificate.problem), (status, &None), "{days} days");
        assert_eq!(report.certificates.len(), 1, "two models of one server: {report:?}");
        assert_eq!(report.status, status.min(Status::Warn));
    }
}

#[cfg(feature = "oidc")]
#[tokio::test]
async fn a_login_provider_whose_certificate_nobody_vouches_for_is_a_problem() {
    use netra_apex::core::auth::{AuthParts, oidc::OidcProvider};
    use netra_apex::core::config::Secret;
    let (port, _) = model_server(40).await;
    let (issuer, back) = (format!("https://localhost:{port}"), "https://a.example/callback");
    let secret = Secret::new("a secret".to_owned());
    let provider = OidcProvider::new("local", &issuer, "apex", secret, back).unwrap();
    let parts = AuthParts { providers: vec![provider], ..AuthParts::default() };
    let apex = Apex::builder().auth_parts(parts).build().await.unwrap();
    let report = apex.health().await;
    let certificate = of(&report, &format!("login localhost:{port}"));
    assert_eq!((certificate.status, certificate.not_after), (Status::Warn, None));
    assert!(certificate.problem.as_ref().unwrap().contains("UnknownIssuer"), "{certificate:?}");
}

fn fail(breaker: &Breaker, times: usize) {
    for _ in 0..times {
        if let Ok(permit) = breaker.admit() {
            permit.done::<()>(&Err(Error::new(Kind::Unavailable, "billing", "it does not answer")));
        }
    }
}

#[tokio::test]
async fn nodes_on_one_redis_warn_each_other_and_each_protects_itself_without_it() {
    let Some(redis) = Server::start_or_skip(Service::Redis, &Options::default()) else { return };
    // Nobody listens there.
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let node = async || {
        let billing = Arc::new(Breaker::new("billing", BreakerOptions::default()));
        let apex = Apex::builder()
            .redis(url(&redis), "apex")
            .model(model(&format!("http://{port}/v1"), ""))
            .chain(ChainOptions { tries: 1, ..ChainOptions::default() })
            .breakers(Arc::clone(&billing) as _)
            .build()
            .await
            .unwrap();
        (apex, billing)
    };
    let ((one, its_billing), (other, billing)) = (node().await, node().await);
    let peers = |report: &HealthReport, of: &str| {
        report.breakers.iter().find(|breaker| breaker.dependency == of).unwrap().peers
    };

    // A model that does not answer, and a dependency of the host's.
    let ada = one.user("ada").await.unwrap();
    let model_is_open = |report: &HealthReport| {
        report
            .breakers
            .iter()
            .any(|b| b.dependency == "local:some" && b.state == BreakerState::Open)
    };
    let mut asked = 0;
    while !model_is_open(&one.health().await) {
        asked += 1;
        assert!(asked < 50, "the breaker before a model that does not answer stays closed");
        one.ask(&ada, "Where does our money go?").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fail(&its_billing, 20);
    assert_eq!(its_billing.state(), BreakerState::Open);
    until(&other, "the other node hears of both", |report| {
        peers(report, "billing") == 1 && peers(report, "local:some") == 1
    })
    .await;
    assert_eq!(billing.state(), BreakerState::Closed, "a hint is no order");
    fail(&billing, 3);
    assert_eq!(billing.state(), BreakerState::Open, "three calls are enough now");

    redis.stop("redis");
    until(&other, "what was heard lapses", |report| peers(report, "billing") == 0).await;
    billing.force(BreakerState::Closed);
    fail(&billing, 19);
    assert_eq!(billing.state(), BreakerState::Closed);
    fail(&billing, 1);
    assert_eq!(billing.state(), BreakerState::Open, "by its own calls");
}
