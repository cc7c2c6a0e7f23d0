//! TLS to a database as rustls does it: the server's certificate and name are verified, or there is no TLS at all.

use crate::config::{DatabaseUrl, TlsMode};
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const OPERATION: &str = "database.tls";

/// The TLS for an address; none where it is off. Reads the file of the authority.
///
/// # Errors
/// `config_invalid` for a file that is none of certificates.
pub(crate) fn client_config(url: &DatabaseUrl) -> Result<Option<Arc<ClientConfig>>> {
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
        .map_err(|error| Error::internal(OPERATION, "no TLS version").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
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
