//! The certificate and key of the bundled server. The files are looked at again while it serves: a new pair counts
//! from the next handshake on and drops no connection, and one that is of no use leaves the last good pair in place.

use apex_core::clock::{Clock, Timestamp};
use apex_core::config::{Checks, FaultCode};
use apex_core::error::{Error, Kind, Result};
use apex_core::health::Validity;
use parking_lot::RwLock;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use zeroize::Zeroizing;

const OPERATION: &str = "server.tls";

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Where the certificate and the key of a server stand, both as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that vouch for it.
    pub certificate: PathBuf,
    /// The private key of the first one: PKCS#8, SEC1 or PKCS#1, without a passphrase.
    pub private_key: PathBuf,
}

/// The pair that a server shows, and how it is replaced while it serves. All clones are the same.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    shown: Arc<Shown>,
    server: Arc<ServerConfig>,
    /// The mark of the contents that are shown. One reload at a time.
    mark: Mutex<u64>,
}

/// What came of looking at the files.
#[derive(Debug)]
pub(crate) enum Look {
    /// What is there is shown from now on, after something else or after it was of no use.
    Good,
    /// What is there now is of no use; the pair that was shown stays.
    Refused(Error),
}

impl Tls {
    /// Reads and checks a pair.
    ///
    /// # Errors
    /// `config_invalid`: a file cannot be read, holds something else, the two do not belong together, or the
    /// certificate is not good now.
    pub fn open(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self> {
        let contents = Contents::read(&files)?;
        let shown = Arc::new(Shown(RwLock::new(contents.pair(clock.now())?)));
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                Error::internal(OPERATION, "no TLS version is left").with_source(error)
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as _);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mark = Mutex::new(contents.mark());
        Ok(Self(Arc::new(Inner { files, clock, shown, server: Arc::new(server), mark })))
    }

    /// Looks at the files now. `true` when another pair is shown from now on; connections that are open stay.
    ///
    /// # Errors
    /// As [`Tls::open`]; the pair that was shown stays.
    pub async fn reload(&self) -> Result<bool> {
        let mut mark = self.0.mark.lock().await;
        let contents = self.read().await?;
        if *mark == contents.mark() {
            return Ok(false);
        }
        *self.0.shown.0.write() = contents.pair(self.0.clock.now())?;
        *mark = contents.mark();
        Ok(true)
    }

    /// The chain that is shown now, as DER with one certificate after the other.
    #[must_use]
    pub fn chain(&self) -> Vec<u8> {
        self.0.shown.0.read().cert.iter().flat_map(|one| one.iter().copied()).collect()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.server))
    }

    /// Looks at the files for as long as it is polled, and tells what comes of it, each thing once.
    pub(crate) async fn watch(&self, tell: impl Fn(Look)) {
        let mut told = Arc::clone(&self.0.shown.0.read());
        let (mut before, mut refused) = (None, None);
        loop {
            tokio::time::sleep(LOOK).await;
            let mark = self.look().await;
            // Whoever replaces two files does one first: what is there counts when it was there at the last look.
            if before.replace(mark) != Some(mark) {
                continue;
            }
            if let Err(error) = self.reload().await {
                if refused.replace(mark) != Some(mark) {
                    tell(Look::Refused(error));
                }
                continue;
            }
            // It may also have been the host that asked for another pair.
            let shown = Arc::clone(&self.0.shown.0.read());
            if refused.take().is_some() || !Arc::ptr_eq(&shown, &told) {
                told = shown;
                tell(Look::Good);
            }
        }
    }

    /// What tells the files' contents from others; 0 when they cannot be read.
    async fn look(&self) -> u64 {
        self.read().await.map_or(0, |contents| contents.mark())
    }

    async fn read(&self) -> Result<Contents> {
        let files = self.0.files.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        let read = read.map_err(|error| {
            Error::internal(OPERATION, "reading the files ended early").with_source(error)
        })?;
        Ok(read?)
    }
}

/// The rules of the fields `certificate` and `private_key` of a section.
pub fn check(certificate: Option<&Path>, private_key: Option<&Path>, checks: &mut Checks<'_>) {
    match (certificate, private_key) {
        (None, None) => {}
        (Some(certificate), Some(private_key)) => {
            let files =
                TlsFiles { certificate: certificate.into(), private_key: private_key.into() };
            let now = checks.now();
            let judged = Contents::read(&files).and_then(|contents| contents.pair(now));
            if let Err(bad) = judged {
                let keys = match bad.field {
                    CERTIFICATE => [CERTIFICATE, PRIVATE_KEY],
                    _ => [PRIVATE_KEY, CERTIFICATE],
                };
                checks.require(&keys, false, bad.code, bad.problem, bad.advice);
            }
            checks.require_outside_development(
                &[PRIVATE_KEY],
                !apex_core::config::open_to_others(private_key),
                FaultCode::SecretMode,
                "the file can be read or written by other users of the machine",
                "chmod 600 it",
            );
        }
        (one, _) => {
            let keys = match one {
                Some(_) => [PRIVATE_KEY, CERTIFICATE],
                None => [CERTIFICATE, PRIVATE_KEY],
            };
            checks.require(
                &keys,
                false,
                FaultCode::Missing,
                "TLS needs a certificate and its key, and one of the two is not there",
                "name both files, or none to serve without TLS",
            );
        }
    }
}

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private_key";

/// Why a pair is not taken.
#[derive(Debug)]
struct BadPair {
    field: &'static str,
    code: FaultCode,
    problem: String,
    advice: &'static str,
}

impl BadPair {
    fn new(
        field: &'static str,
        code: FaultCode,
        problem: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self { field, code, problem: problem.into(), advice }
    }
}

impl From<BadPair> for Error {
    fn from(bad: BadPair) -> Self {
        let BadPair { field, problem, advice, .. } = bad;
        Error::new(Kind::Config, OPERATION, format!("{field}: {problem}; {advice}"))
    }
}

/// What stands in the two files.
struct Contents {
    certificate: Vec<u8>,
    private_key: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, BadPair> {
        Ok(Self {
            certificate: read(&files.certificate, CERTIFICATE)?.to_vec(),
            private_key: read(&files.private_key, PRIVATE_KEY)?,
        })
    }

    /// Tells these contents from others; never 0, which stands for files that cannot be read.
    fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.certificate, self.private_key.as_slice()).hash(&mut hasher);
        hasher.finish().max(1)
    }

    fn pair(&self, now: Timestamp) -> Result<Arc<CertifiedKey>, BadPair> {
        let not_pem = |field| {
            let advice = "give it as PEM, the server's certificate first";
            BadPair::new(field, FaultCode::Format, "is no certificate in PEM", advice)
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| not_pem(CERTIFICATE))?;
        let leaf = chain.first().ok_or_else(|| not_pem(CERTIFICATE))?;
        let validity = Validity::of_chain(leaf).map_err(|_| not_pem(CERTIFICATE))?;
        if let Some(leaf) = validity.first() {
            good_now(*leaf, now)?;
        }
        // Neither the library's words nor the file's own may show a part of the key.
        let key = PrivateKeyDer::from_pem_slice(&self.private_key).map_err(|_| {
            let advice = "give it as PEM: PKCS#8, SEC1 or PKCS#1, without a passphrase";
            BadPair::new(PRIVATE_KEY, FaultCode::Format, "is no private key in PEM", advice)
        })?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map(Arc::new).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(_) => BadPair::new(
                    PRIVATE_KEY,
                    FaultCode::Conflict,
                    "does not belong to the certificate",
                    "name the key that the certificate was made for",
                ),
                rustls::Error::InvalidCertificate(_) => not_pem(CERTIFICATE),
                _ => BadPair::new(
                    PRIVATE_KEY,
                    FaultCode::Format,
                    "is a key of a kind that is not served",
                    "use ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
                ),
            },
        )
    }
}

fn good_now(leaf: Validity, now: Timestamp) -> Result<(), BadPair> {
    if now > leaf.ends {
        let problem = format!("has ended at {}", leaf.ends);
        return Err(BadPair::new(CERTIFICATE, FaultCode::Range, problem, "renew it"));
    }
    if now < leaf.begins {
        let problem = format!("is not good before {}", leaf.begins);
        let advice = "check the clock of this machine, or take the one that is good now";
        return Err(BadPair::new(CERTIFICATE, FaultCode::Range, problem, advice));
    }
    Ok(())
}

/// Reads a file, bounded.
fn read(path: &Path, field: &'static str) -> Result<Zeroizing<Vec<u8>>, BadPair> {
    let unreadable = |problem: String| {
        let advice = "check the path, its owner and its mode";
        BadPair::new(field, FaultCode::Unreadable, problem, advice)
    };
    let failed = |error: std::io::Error| unreadable(format!("cannot be read: {error}"));
    // Asked before opening, for opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unreadable("is not a file".to_owned()));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("is larger than {} KiB", MAX_FILE / 1024)));
    }
    Ok(bytes)
}

/// The pair that the next handshake shows.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}
