use super::fetch::{certificates, check_address, down, get};
use crate::auth::jwt::{KeySource, RemoteKeys, RemoteOptions};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::health::CertificateSource;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For how long what a provider says about itself is used without looking again.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// A provider that users log in with.
#[derive(Clone)]
pub struct OidcProvider {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret: Secret<String>,
    pub(super) redirect_uri: String,
    pub(super) scope: String,
    pub(super) keys: RemoteKeys,
    discovery: Arc<Discovery>,
    endpoint: String,
}

impl OidcProvider {
    /// A provider under a name of 1 to 32 letters, digits, `-` or `_`, which is part of the routes: `redirect_uri` is
    /// the public address of `/auth/oidc/NAME/callback`, as registered with the provider.
    ///
    /// # Errors
    /// `config_invalid` for a name that is none, an empty client, or an address that is not HTTPS.
    pub fn new(
        name: &str,
        issuer: &str,
        client_id: &str,
        client_secret: Secret<String>,
        redirect_uri: &str,
    ) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) || client_id.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "oidc.provider",
                "a login provider has a name of 1 to 32 letters, digits, `-` or `_`, and a client id",
            ));
        }
        let place = check_address(issuer)?;
        let (host, port) = (place.host().unwrap_or_default(), place.port_u16().unwrap_or(443));
        let endpoint = format!("login {host}:{port}");
        check_address(redirect_uri)?;
        let discovery = Arc::new(Discovery::new(issuer));
        let keys = RemoteKeys::new(Arc::clone(&discovery) as _, RemoteOptions::default());
        Ok(Self {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret,
            redirect_uri: redirect_uri.to_owned(),
            scope: "openid".to_owned(),
            keys,
            discovery,
            endpoint,
        })
    }

    /// Google, under the name `google`.
    ///
    /// # Errors
    /// As [`OidcProvider::new`].
    pub fn google(
        client_id: &str,
        client_secret: Secret<String>,
        redirect_uri: &str,
    ) -> Result<Self> {
        let issuer = "https://accounts.google.com";
        Self::new("google", issuer, client_id, client_secret, redirect_uri)
    }

    /// Its name, as in routes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate of the issuer's host, to be watched; none without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<Arc<dyn CertificateSource>> {
        self.issuer.starts_with("https:").then(|| Arc::new(self.clone()) as _)
    }

    pub(super) async fn endpoints(&self) -> Result<Endpoints> {
        self.discovery.endpoints().await
    }
}

#[async_trait]
impl CertificateSource for OidcProvider {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn is_required(&self) -> bool {
        false
    }

    async fn chain(&self) -> Result<Vec<u8>> {
        certificates(&self.issuer).await
    }
}

impl fmt::Debug for OidcProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OidcProvider({} at {})", self.name, self.issuer)
    }
}

/// What a provider says about itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Endpoints {
    issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    jwks_uri: String,
}

#[derive(Debug)]
struct Discovery {
    issuer: String,
    known: Mutex<Option<(Instant, Endpoints)>>,
}

impl Discovery {
    fn new(issuer: &str) -> Self {
        Self { issuer: issuer.to_owned(), known: Mutex::new(None) }
    }

    async fn endpoints(&self) -> Result<Endpoints> {
        let known = self.known.lock().clone();
        if let Some((at, endpoints)) = &known
            && at.elapsed() < FRESH
        {
            return Ok(endpoints.clone());
        }
        match (self.discover().await, known) {
            (Ok(endpoints), _) => {
                *self.known.lock() = Some((Instant::now(), endpoints.clone()));
                Ok(endpoints)
            }
            // What it said an hour ago is better than nothing.
            (Err(error), Some((_, endpoints))) => {
                tracing::warn!(%error, "a login provider could not be asked about itself");
                Ok(endpoints)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn discover(&self) -> Result<Endpoints> {
        let address =
            format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let said = get(&address).await?;
        let endpoints: Endpoints = serde_json::from_slice(&said)
            .map_err(|error| down(format!("its configuration cannot be read: {error}")))?;
        if endpoints.issuer != self.issuer {
            return Err(down("its configuration is another issuer's".to_owned()));
        }
        for address in
            [&endpoints.authorization_endpoint, &endpoints.token_endpoint, &endpoints.jwks_uri]
        {
            check_address(address)?;
        }
        Ok(endpoints)
    }
}

#[async_trait]
impl KeySource for Discovery {
    async fn fetch(&self) -> Result<Bytes> {
        get(&self.endpoints().await?.jwks_uri).await
    }
}
