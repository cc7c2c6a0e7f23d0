use super::status::{Line, Status};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::der::Decode;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest chain that is read, in bytes.
const MAX_CHAIN: u64 = 1024 * 1024;
/// The endpoints that are remembered.
const MAX_ENDPOINTS: usize = 1_024;

/// Where the certificates of one TLS endpoint can be looked at: the own listener's file, an authority's file, or
/// what a server showed in a handshake.
#[async_trait]
pub trait CertificateSource: fmt::Debug + Send + Sync {
    /// The endpoint, for people: `listener`, `postgres db1:5432`.
    fn endpoint(&self) -> &str;

    /// The chain as PEM, or one certificate as DER.
    ///
    /// # Errors
    /// It could not be had.
    async fn chain(&self) -> Result<Vec<u8>>;
}

/// A certificate file.
#[derive(Debug)]
pub struct CertificateFile {
    endpoint: String,
    path: PathBuf,
}

impl CertificateFile {
    /// The file of an endpoint.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { endpoint: endpoint.into(), path: path.into() }
    }
}

#[async_trait]
impl CertificateSource for CertificateFile {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    async fn chain(&self) -> Result<Vec<u8>> {
        let path = self.path.clone();
        let read = move || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(MAX_CHAIN).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Kind::Unavailable, "certificate.read", "the certificate file cannot be read")
                .with("file", self.path.display())
                .with_source(source)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// How long an endpoint's certificates are still good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// The endpoint.
    pub endpoint: String,
    /// Good until then at the latest: the earliest end in the chain.
    pub not_after: Option<Timestamp>,
    /// From 30 days before the end a warning, from 3 days a failure.
    pub status: Status,
    /// Why nothing is known, if so.
    pub problem: Option<String>,
}

/// Watches the certificates of every TLS endpoint.
#[derive(Debug)]
pub(super) struct Certificates {
    sources: Vec<Arc<dyn CertificateSource>>,
    seen: Mutex<BTreeMap<String, Result<Timestamp, String>>>,
    warn: Duration,
    fail: Duration,
}

impl Certificates {
    pub(super) fn new(warn: Duration, fail: Duration) -> Self {
        Self { sources: Vec::new(), seen: Mutex::default(), warn, fail }
    }

    pub(super) fn add(&mut self, source: Arc<dyn CertificateSource>) {
        self.sources.push(source);
    }

    /// Looks at every source again.
    pub(super) async fn refresh(&self) {
        for source in &self.sources {
            let end = match source.chain().await {
                Ok(chain) => earliest_end(&chain).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            self.remember(source.endpoint(), end);
        }
    }

    /// Takes what a handshake showed.
    pub(super) fn observe(&self, endpoint: &str, chain: &[u8]) {
        self.remember(endpoint, earliest_end(chain).map_err(|error| error.to_string()));
    }

    fn remember(&self, endpoint: &str, end: Result<Timestamp, String>) {
        let mut seen = self.seen.lock();
        // An end that is known stays known when the source fails for once.
        let keeps = end.is_err() && seen.get(endpoint).is_some_and(Result::is_ok);
        if !keeps && (seen.len() < MAX_ENDPOINTS || seen.contains_key(endpoint)) {
            seen.insert(endpoint.to_owned(), end);
        }
    }

    pub(super) fn status(&self, clock: &dyn Clock) -> Vec<CertificateStatus> {
        let now = clock.now();
        let status = |(endpoint, end): (&String, &Result<Timestamp, String>)| match end {
            Err(problem) => CertificateStatus {
                endpoint: endpoint.clone(),
                not_after: None,
                status: Status::Warn,
                problem: Some(problem.clone()),
            },
            Ok(end) => {
                let left = end.since(now);
                let status = if left <= self.fail {
                    Status::Fail
                } else if left <= self.warn {
                    Status::Warn
                } else {
                    Status::Pass
                };
                metrics::gauge!("apex_tls_certificate_not_after_seconds", "endpoint" => endpoint.clone())
                    .set(end.as_millis() as f64 / 1_000.0);
                CertificateStatus {
                    endpoint: endpoint.clone(),
                    not_after: Some(*end),
                    status,
                    problem: None,
                }
            }
        };
        self.seen.lock().iter().map(status).collect()
    }
}

impl CertificateStatus {
    /// A line of the health document. A certificate about to end fails as a line and does not take the node out: it
    /// still serves until the end, and all nodes have the same one.
    pub(super) fn line(&self, now: Timestamp) -> Line {
        let days = self.not_after.map(|end| end.since(now).as_secs() / DAY.as_secs());
        Line {
            name: format!("{}:certificate", self.endpoint),
            component: "component",
            status: self.status,
            value: days.into(),
            unit: "days",
            output: self.problem.clone(),
        }
    }
}

/// The earliest end among the certificates of a chain.
fn earliest_end(chain: &[u8]) -> Result<Timestamp> {
    let bad = |source: x509_cert::der::Error| {
        Error::new(Kind::BadData, "certificate.read", "this is no certificate").with_source(source)
    };
    let certificates = if chain.starts_with(&[0x30]) {
        vec![Certificate::from_der(chain).map_err(bad)?]
    } else {
        Certificate::load_pem_chain(chain).map_err(bad)?
    };
    let end = |certificate: &Certificate| {
        certificate.tbs_certificate().validity().not_after.to_unix_duration()
    };
    let first = certificates.iter().map(end).min();
    let first = first.ok_or_else(|| {
        Error::new(Kind::BadData, "certificate.read", "there is no certificate in it")
    })?;
    Ok(Timestamp::from_millis(i64::try_from(first.as_millis()).unwrap_or(i64::MAX)))
}
