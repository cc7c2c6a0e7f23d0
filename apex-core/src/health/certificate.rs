use super::status::{Line, Status, members};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Kind, Outcome, Result};
use crate::resilience::Deadline;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Reader, SliceReader};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest chain that is read, in bytes.
const MAX_CHAIN: u64 = 1024 * 1024;
/// When to look again where a certificate could not be had.
const AGAIN: Duration = Duration::from_secs(60);
/// The endpoints that are remembered.
const MAX_ENDPOINTS: usize = 1_024;

/// Where the certificates of one TLS endpoint can be looked at: the own listener's file, an authority's file, or
/// what a server showed in a handshake.
#[async_trait]
pub trait CertificateSource: fmt::Debug + Send + Sync {
    /// The endpoint, for people: `listener`, `postgres db1:5432`.
    fn endpoint(&self) -> &str;

    /// Whether this node cannot serve once it has ended: its own, not that of a server which it asks.
    fn is_required(&self) -> bool {
        true
    }

    /// The chain: PEM, or DER with one certificate after the other.
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
    /// Whether this node cannot serve once it has ended.
    pub required: bool,
    /// What went wrong at the last look, if something did: the end is the one seen before, if there is one.
    pub problem: Option<String>,
}

/// Watches the certificates of every TLS endpoint.
#[derive(Debug)]
pub(super) struct Certificates {
    sources: Vec<Arc<dyn CertificateSource>>,
    seen: Mutex<BTreeMap<String, Seen>>,
    warn: Duration,
    fail: Duration,
}

/// What is known of one endpoint's certificates.
#[derive(Debug, Default)]
struct Seen {
    end: Option<Timestamp>,
    required: bool,
    problem: Option<String>,
}

impl Certificates {
    pub(super) fn new(warn: Duration, fail: Duration) -> Self {
        Self { sources: Vec::new(), seen: Mutex::default(), warn, fail }
    }

    pub(super) fn add(&mut self, source: Arc<dyn CertificateSource>) {
        self.sources.push(source);
    }

    /// Looks at every source again, each for at most `within`; says when the next look is due: soon where one failed.
    pub(super) async fn refresh(&self, within: Duration) -> Duration {
        let look = async |source: &Arc<dyn CertificateSource>| {
            const OPERATION: &str = "certificate.look";
            // A host's source that panics must not end the looking.
            let chain = AssertUnwindSafe(source.chain()).catch_unwind().map(|chain| {
                chain.unwrap_or_else(|_| Err(Error::internal(OPERATION, "its source panicked")))
            });
            let chain = Deadline::after(within).limit(OPERATION, Outcome::NotApplied, chain).await;
            let end = chain.and_then(|chain| end(&chain));
            self.remember(source.endpoint(), source.is_required(), end)
        };
        let looked = join_all(self.sources.iter().map(look)).await;
        if looked.contains(&false) { AGAIN } else { Duration::MAX }
    }

    /// Takes what a handshake showed.
    pub(super) fn observe(&self, endpoint: &str, chain: &[u8]) {
        self.remember(endpoint, true, end(chain));
    }

    /// Takes why the certificates could not be had or replaced; the end that is known stays known.
    pub(super) fn failed(&self, endpoint: &str, error: &Error) {
        self.remember(
            endpoint,
            true,
            Err(Error::new(error.kind(), "certificate.look", error.message())),
        );
    }

    /// Says whether there is an end.
    fn remember(&self, endpoint: &str, required: bool, end: Result<Timestamp>) -> bool {
        let known = end.is_ok();
        let mut all = self.seen.lock();
        if all.len() >= MAX_ENDPOINTS && !all.contains_key(endpoint) {
            return known;
        }
        let seen = all.entry(endpoint.to_owned()).or_default();
        seen.required = required;
        match end {
            Ok(end) => (seen.end, seen.problem) = (Some(end), None),
            Err(error) => seen.problem = Some(error.to_string()),
        }
        known
    }

    pub(super) fn status(&self, clock: &dyn Clock) -> Vec<CertificateStatus> {
        let now = clock.now();
        let status = |(endpoint, seen): (&String, &Seen)| {
            let problem = if seen.problem.is_some() { Status::Warn } else { Status::Pass };
            let ending = seen.end.map_or(Status::Warn, |end| {
                metrics::gauge!("apex_tls_certificate_not_after_seconds", "endpoint" => endpoint.clone())
                    .set(end.as_millis() as f64 / 1_000.0);
                self.judge(end.since(now))
            });
            CertificateStatus {
                endpoint: endpoint.clone(),
                not_after: seen.end,
                status: ending.max(problem),
                required: seen.required,
                problem: seen.problem.clone(),
            }
        };
        self.seen.lock().iter().map(status).collect()
    }

    fn judge(&self, left: Duration) -> Status {
        if left <= self.fail {
            Status::Fail
        } else if left <= self.warn {
            Status::Warn
        } else {
            Status::Pass
        }
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
            more: members(json!({ "notAfter": self.not_after })),
        }
    }
}

/// The time in which a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before then.
    pub begins: Timestamp,
    /// Not after then.
    pub ends: Timestamp,
}

impl Validity {
    /// The validity of each certificate of a chain: PEM, or DER with one certificate after the other.
    ///
    /// # Errors
    /// `bad_data` when there is no certificate in it, or something else.
    pub fn of_chain(chain: &[u8]) -> Result<Vec<Self>> {
        let bad = |source: x509_cert::der::Error| {
            Error::new(Kind::BadData, "certificate.read", "this is no certificate")
                .with_source(source)
        };
        let mut certificates = Vec::new();
        if chain.starts_with(&[0x30]) {
            let mut rest = SliceReader::new(chain).map_err(bad)?;
            while !rest.is_finished() {
                certificates.push(Certificate::decode(&mut rest).map_err(bad)?);
            }
        } else {
            certificates = Certificate::load_pem_chain(chain).map_err(bad)?;
        }
        if certificates.is_empty() {
            let message = "there is no certificate in it";
            return Err(Error::new(Kind::BadData, "certificate.read", message));
        }
        Ok(certificates.iter().map(Self::of).collect())
    }

    fn of(certificate: &Certificate) -> Self {
        let validity = certificate.tbs_certificate().validity();
        let at = |time: &x509_cert::time::Time| {
            let since = time.to_unix_duration().as_millis();
            Timestamp::from_millis(i64::try_from(since).unwrap_or(i64::MAX))
        };
        Self { begins: at(&validity.not_before), ends: at(&validity.not_after) }
    }
}

/// The earliest end among the certificates of a chain.
fn end(chain: &[u8]) -> Result<Timestamp> {
    let all = Validity::of_chain(chain)?;
    Ok(all.iter().map(|one| one.ends).min().unwrap_or(Timestamp::from_millis(0)))
}
