//! What else can be the host's: a way in, a place for secrets, and whoever is told of alerts.

use crate::{Call, Callback};
use async_trait::async_trait;
use netra_apex::core::auth::{Auth, Credential, Entry, Presented};
use netra_apex::core::clock::{Clock, SystemClock};
use netra_apex::core::config::{Secret, SecretSource};
use netra_apex::core::error::{Alert, AlertSink, Error, Kind, Notice, Result};
use netra_apex::transport::{AuthMethod, Knock};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};

/// How long an entry lasts whose end the host does not say.
const LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// How many alerts and notices wait for the host's function; further ones are left out, and stay in the log and in the
/// health document.
const MOST_TOLD: usize = 256;

/// A way in that the host verifies: a function that is called with what a request presents, as `{"headers": {…},
/// "origin", "address"}`, and answers `{"user": name, "expires_in"?: seconds}`, or `null` for nobody.
#[derive(Debug)]
pub struct HostDoor {
    headers: Vec<String>,
    ambient: bool,
    verify: Arc<dyn Callback>,
}

/// Whom the host lets in.
#[derive(Deserialize)]
struct Known {
    user: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl HostDoor {
    /// A way in by these headers, in small letters; a request that has none of them is asked by the other ways.
    /// `ambient` says that browsers send them along unasked, as they do with cookies.
    ///
    /// # Errors
    /// `config_invalid` for no headers.
    pub fn new(headers: Vec<String>, ambient: bool, verify: Arc<dyn Callback>) -> Result<Self> {
        let plain = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if headers.is_empty() || !headers.iter().all(plain) {
            let told = "a way in of the host's names the headers that it reads";
            return Err(Error::new(Kind::Config, "host.door", told));
        }
        let ambient = ambient || headers.iter().any(|name| name == "cookie");
        Ok(Self { headers, ambient, verify })
    }

    pub(crate) fn shared(self) -> Arc<dyn AuthMethod> {
        Arc::new(self)
    }
}

#[async_trait]
impl AuthMethod for HostDoor {
    fn name(&self) -> &'static str {
        "host"
    }

    fn is_ambient(&self) -> bool {
        self.ambient
    }

    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        let mut found = Map::new();
        for name in &self.headers {
            if let Some(value) = knock.headers.get(name) {
                let text = value.to_str().map_err(|_| {
                    let told = "a header that says who you are is not plain text";
                    Error::new(Kind::Unauthenticated, "host.door", told)
                })?;
                found.insert(name.clone(), text.into());
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credential::Token(Secret::new(Value::Object(found).to_string()))))
    }

    async fn verify(
        &self,
        auth: &Auth,
        credential: &Credential,
        presented: &Presented,
    ) -> Result<Entry> {
        let Credential::Token(found) = credential else {
            return Err(Error::internal("host.door", "a credential of another way"));
        };
        let headers: Value = serde_json::from_str(found.reveal()).unwrap_or_default();
        let asked = json!({
            "headers": headers,
            "origin": presented.origin,
            "address": presented.address.map(|address| address.to_string()),
        });
        let known = self.verify.call(asked, Call::Plain).await?;
        let known: Option<Known> = serde_json::from_value(known).map_err(|_| {
            let told = "the host's `authenticate` answered with something else than a user";
            Error::new(Kind::Unavailable, "host.door", told)
        })?;
        let Some(known) = known else {
            let told = "the credential is unknown, used or not good here; get a new one";
            let refused = Error::new(Kind::Unauthenticated, "host.door", told);
            auth.note_refusal(&refused, presented);
            return Err(refused);
        };
        let lasts = known.expires_in.and_then(|s| Duration::try_from_secs_f64(s).ok());
        Ok(Entry {
            principal: auth.vouch(&known.user).await?,
            way: presented.way,
            expires_at: SystemClock.now().plus(lasts.unwrap_or(LASTS)),
        })
    }
}

/// The host's own place for secrets: a function that is called with a configuration's key and answers with the secret, or
/// `null` where there is none. The configuration waits for it, on a thread that may wait.
#[derive(Debug)]
pub struct HostSecrets(pub Arc<dyn Callback>);

impl SecretSource for HostSecrets {
    fn name(&self) -> &str {
        "host"
    }

    fn secret(&self, key: &str) -> Result<Option<Secret<String>>> {
        let asked = self.0.call(key.into(), Call::Plain);
        let secret: Option<String> = serde_json::from_value(Handle::current().block_on(asked)?)
            .map_err(|_| {
                let told = "the host's place for secrets answered with something else than text";
                Error::new(Kind::Config, "host.secrets", told).with("key", key)
            })?;
        Ok(secret.map(Secret::new))
    }
}

/// Whoever of the host's is told of alerts and notices: a function that is called with `{"alert": …}` or `{"notice": …}`,
/// one at a time and in order, while nobody waits for it. What it fails with goes to the log.
#[derive(Debug)]
pub struct Watcher(pub Arc<dyn Callback>);

/// Takes alerts and notices to the host's function.
#[derive(Debug)]
pub(crate) struct Teller(Sender<Value>);

impl Teller {
    /// To be called in a Tokio runtime.
    pub(crate) fn new(watcher: Watcher) -> Self {
        let (sender, mut told) = channel(MOST_TOLD);
        tokio::spawn(async move {
            while let Some(told) = told.recv().await {
                if let Err(error) = watcher.0.call(told, Call::Plain).await {
                    tracing::error!(%error, "whoever is told of alerts has failed");
                }
            }
        });
        Self(sender)
    }

    fn tell(&self, told: Value) {
        if self.0.try_send(told).is_err() {
            tracing::error!("whoever is told of alerts is too slow: one was left out");
        }
    }
}

impl AlertSink for Teller {
    fn alert(&self, alert: &Alert) {
        self.tell(json!({ "alert": alert }));
    }

    fn notice(&self, notice: &Notice) {
        self.tell(json!({ "notice": notice }));
    }
}
