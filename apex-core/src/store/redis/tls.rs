//! TLS as rustls does it: the server's certificate and name are verified, or there is no TLS at all.

use crate::config::{DatabaseUrl, TlsMode};
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The TLS for an address; none where it is off. Reads the file of the authority.
///
/// # Errors
/// `config_invalid` for a file that is none of certificates.
pub(super) fn connector(url: &DatabaseUrl) -> Result<Option<TlsConnector>> {
    if url.tls() == TlsMode::Off {
        return Ok(None);
    }
    let roots = match url.root_certificate() {
        Some(path) => roots_in(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    // No default for the whole process: the host may have its own.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("redis.tls", "TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let refused = |what: &str| {
        Error::new(Kind::Config, "redis.tls", what).with("sslrootcert", path.display())
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| {
        refused("the file of the authority of Redis cannot be read").with_source(error)
    })?;
    let bad = "the file of the authority of Redis holds something else than certificates in PEM";
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused(bad).with_source(error))?;
        roots.add(certificate).map_err(|error| refused(bad).with_source(error))?;
    }
    if roots.is_empty() {
        return Err(refused("the file of the authority of Redis holds no certificate"));
    }
    Ok(roots)
}
