//! TLS to servers as rustls does it: the server's certificate and name are verified, or there is no TLS at all. And a
//! look at what a server shows, so that the end of a certificate is known before it comes.

use crate::config::{DatabaseHost, DatabaseKind, DatabaseUrl, TlsMode};
use crate::error::{Error, Kind, Result};
use crate::health::CertificateSource;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

const OPERATION: &str = "tls.client";

/// How a client of PostgreSQL asks for TLS, and what a server answers that has it.
const ASK_FOR_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const HAS_TLS: u8 = b'S';

/// The authorities of the web.
#[must_use]
pub fn web_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// How clients speak TLS: to servers that one of `roots` vouches for.
///
/// # Errors
/// `internal` where TLS cannot be set up.
pub fn client_config(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>> {
    // No default for the whole process: the host may have its own.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(OPERATION, "no TLS version").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificates that a server shows on a connection, DER, one after the other: those of one that `roots` vouch
/// for, even where they have ended. Nothing but the handshake is said.
///
/// # Errors
/// `unavailable` with the cause, when there is no handshake, or with another server.
pub async fn shown<S: AsyncRead + AsyncWrite + Unpin>(
    roots: Arc<RootCertStore>,
    name: ServerName<'static>,
    stream: S,
) -> Result<Vec<u8>> {
    let provider = Arc::new(ring::default_provider());
    let broken = |error| Error::internal(OPERATION, "TLS cannot be set up").with_source(error);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| Error::internal(OPERATION, "no authority").with_source(error))?;
    let look = Arc::new(Look { verifier, seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Look>::clone(&look))
        .with_no_client_auth();
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Err(error) if !has_ended(&error) => Err(unreached(error)),
        Ok(_) | Err(_) => Ok(std::mem::take(&mut *look.seen.lock())),
    }
}

/// The certificates of a database's servers, to be watched; none where TLS is off.
///
/// # Errors
/// `config_invalid` for a file of an authority that is none of certificates.
pub fn certificates(url: &DatabaseUrl) -> Result<Vec<Arc<dyn CertificateSource>>> {
    let Some(roots) = roots_of(url)?.map(Arc::new) else {
        return Ok(Vec::new());
    };
    let name = if url.kind() == DatabaseKind::Postgres { "postgres" } else { "redis" };
    let source = |at: &DatabaseHost| match at {
        DatabaseHost::Unix(_) => None,
        DatabaseHost::Tcp { host, port } => Some(Arc::new(DatabaseServer {
            endpoint: format!("{name} {at}"),
            address: (host.clone(), *port),
            kind: url.kind(),
            roots: Arc::clone(&roots),
        }) as Arc<dyn CertificateSource>),
    };
    Ok(url.hosts().iter().filter_map(source).collect())
}

/// The TLS for an address; none where it is off. Reads the file of the authority.
///
/// # Errors
/// As [`certificates`].
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn of_database(url: &DatabaseUrl) -> Result<Option<Arc<ClientConfig>>> {
    roots_of(url)?.map(|roots| client_config(Arc::new(roots))).transpose()
}

fn roots_of(url: &DatabaseUrl) -> Result<Option<RootCertStore>> {
    match (url.tls(), url.root_certificate()) {
        (TlsMode::Off, _) => Ok(None),
        (TlsMode::VerifyFull, Some(path)) => roots_in(path).map(Some),
        (TlsMode::VerifyFull, None) => Ok(Some(web_roots())),
    }
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let refused =
        |what: &str| Error::new(Kind::Config, OPERATION, what).with("sslrootcert", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| {
        refused("the file of the database's authority cannot be read").with_source(error)
    })?;
    for certificate in certificates {
        certificate
            .map_err(|_| ())
            .and_then(|certificate| roots.add(certificate).map_err(|_| ()))
            .map_err(|()| {
                refused("the file of the database's authority holds something else than certificates in PEM")
            })?;
    }
    if roots.is_empty() {
        return Err(refused("the file of the database's authority holds no certificate"));
    }
    Ok(roots)
}

/// A database's server, looked at by a connection of its own: those of the pool may be older than its certificate.
#[derive(Debug)]
struct DatabaseServer {
    endpoint: String,
    address: (String, u16),
    kind: DatabaseKind,
    roots: Arc<RootCertStore>,
}

#[async_trait]
impl CertificateSource for DatabaseServer {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn is_required(&self) -> bool {
        false
    }

    async fn chain(&self) -> Result<Vec<u8>> {
        let (host, port) = &self.address;
        let name = ServerName::try_from(host.clone()).map_err(unreached)?;
        let mut stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreached)?;
        if self.kind == DatabaseKind::Postgres {
            stream.write_all(&ASK_FOR_TLS).await.map_err(unreached)?;
            if stream.read_u8().await.map_err(unreached)? != HAS_TLS {
                return Err(unreached("the server does not support TLS"));
            }
        }
        shown(Arc::clone(&self.roots), name, stream).await
    }
}

/// Keeps what a server shows, and verifies it as always.
#[derive(Debug)]
struct Look {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.seen.lock() = chain.flat_map(|one| one.iter().copied()).collect();
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Whether a server was refused only because its certificate has ended.
fn has_ended(error: &io::Error) -> bool {
    let refused = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        refused,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ))
    )
}

fn unreached(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let cause = cause.into();
    Error::new(Kind::Unavailable, OPERATION, format!("the server cannot be looked at: {cause}"))
        .with_source(cause)
}
