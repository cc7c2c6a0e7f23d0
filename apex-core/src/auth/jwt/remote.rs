use super::jwk::read_jwks;
use super::key::VerifyingKey;
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where another issuer's set of keys comes from.
#[async_trait]
pub trait KeySource: fmt::Debug + Send + Sync {
    /// The set as published (RFC 7517), in a bounded time and of a bounded size.
    ///
    /// # Errors
    /// `unavailable` when it cannot be had.
    async fn fetch(&self) -> Result<Bytes>;
}

/// How another issuer's keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteOptions {
    /// For how long they are used without looking again.
    pub fresh: Duration,
    /// How long after a look there is no other, whatever tokens name.
    pub cooldown: Duration,
    /// For how long they are used while they cannot be had anew.
    pub stale: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(5 * 60),
            cooldown: Duration::from_secs(10),
            stale: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Another issuer's keys: fetched when they are needed, one fetch at a time, and never more often than every
/// [`RemoteOptions::cooldown`], so that tokens with made-up keys cannot be turned into requests to the issuer.
#[derive(Debug, Clone)]
pub struct RemoteKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Arc<dyn KeySource>,
    options: RemoteOptions,
    known: Mutex<Known>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<Vec<VerifyingKey>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failed: Option<String>,
}

impl RemoteKeys {
    /// Keys from a source, of which none has been fetched yet.
    #[must_use]
    pub fn new(source: Arc<dyn KeySource>, options: RemoteOptions) -> Self {
        let (known, fetching) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Self(Arc::new(Inner { source, options, known, fetching }))
    }

    /// The keys by which to verify a token that names `kid`; it may not be among them.
    ///
    /// # Errors
    /// `unavailable` when there are none and they cannot be had.
    pub async fn for_key(&self, kid: Option<&str>) -> Result<Arc<Vec<VerifyingKey>>> {
        if let Some(keys) = self.settled(kid) {
            return keys;
        }
        let _turn = self.0.fetching.lock().await;
        // Whoever was first has fetched for all.
        if let Some(keys) = self.settled(kid) {
            return keys;
        }
        let fetched = self.0.source.fetch().await.and_then(|json| read_jwks(&json));
        let mut known = self.0.known.lock();
        known.tried = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                known.keys = Arc::new(keys);
                (known.fetched, known.failed) = (Some(Instant::now()), None);
            }
            Err(error) => {
                metrics::counter!("apex_jwks_failures_total").increment(1);
                tracing::warn!(%error, "the keys of an issuer could not be fetched");
                known.failed = Some(error.message().to_owned());
            }
        }
        self.0.usable(&known)
    }

    /// The answer where there is nothing to fetch, or where it is too early to fetch again.
    fn settled(&self, kid: Option<&str>) -> Option<Result<Arc<Vec<VerifyingKey>>>> {
        let known = self.0.known.lock();
        let Inner { options, .. } = &*self.0;
        let within = |at: Option<Instant>, time| at.is_some_and(|at| at.elapsed() < time);
        let has = kid.is_none_or(|kid| known.keys.iter().any(|key| key.id() == kid));
        let settled =
            (has && within(known.fetched, options.fresh)) || within(known.tried, options.cooldown);
        settled.then(|| self.0.usable(&known))
    }
}

impl Inner {
    fn usable(&self, known: &Known) -> Result<Arc<Vec<VerifyingKey>>> {
        if known.fetched.is_some_and(|at| at.elapsed() < self.options.stale) {
            return Ok(Arc::clone(&known.keys));
        }
        let failed = known.failed.as_deref().unwrap_or("they are too old");
        Err(Error::new(
            Kind::Unavailable,
            "jwt.keys",
            format!("the issuer's keys cannot be had: {failed}"),
        )
        .with_retry_after(self.options.cooldown))
    }
}
