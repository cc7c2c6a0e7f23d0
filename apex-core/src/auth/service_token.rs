use super::Presented;
use super::audit::AuditAction;
use super::jwt::{Audience, Claims, KeyRing, Refusal, TokenPolicy, TokenUse};
use super::recorder::Happened;
use super::service::{Auth, Refused};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::principal::{Scope, Scopes};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a token between services is good.
const LIFE: Duration = Duration::from_secs(5 * 60);

/// The longest name of a service.
const MAX_NAME: usize = 64;

/// Tokens between services: short-lived, meant for one of them, and verified without asking anyone. What a service
/// may do is what whoever is called knows about it, never more than the token says.
#[derive(Debug, Clone)]
pub struct ServiceTokens {
    ring: KeyRing,
    issuer: String,
    own_name: String,
    known: BTreeMap<String, Scopes>,
}

/// A service that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name.
    pub service: String,
    /// What it may do here.
    pub scopes: Scopes,
    /// When its token runs out.
    pub expires_at: Timestamp,
}

impl ServiceEntry {
    /// Passes when the service has `scope`.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require(&self, scope: Scope, operation: &'static str) -> Result<()> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        let text = format!("this needs the scope {scope:?}").to_lowercase();
        Err(Error::new(Kind::Forbidden, operation, text))
    }
}

impl ServiceTokens {
    /// Tokens signed by a ring that all of the services share the public keys of, made by `issuer`. `own_name` is who
    /// this process is: only tokens meant for it are taken.
    ///
    /// # Errors
    /// `config_invalid` for a name that is not 1 to 64 letters, digits, `-`, `_` or `.`.
    pub fn new(ring: KeyRing, issuer: &str, own_name: &str) -> Result<Self> {
        check_name(own_name)?;
        let (issuer, own_name) = (issuer.to_owned(), own_name.to_owned());
        Ok(Self { ring, issuer, own_name, known: BTreeMap::new() })
    }

    /// Lets a service in, with what it may do at most.
    ///
    /// # Errors
    /// `config_invalid` for a name that is none.
    pub fn allow(mut self, service: &str, scopes: Scopes) -> Result<Self> {
        check_name(service)?;
        self.known.insert(service.to_owned(), scopes);
        Ok(self)
    }

    /// The keys.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    fn issue(&self, audience: &str, scopes: Scopes, now: Timestamp) -> Result<Secret<String>> {
        check_name(audience)?;
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: self.own_name.clone(),
            aud: Audience::One(audience.to_owned()),
            exp: now.plus(LIFE).as_millis().div_euclid(1_000),
            iat: now.as_millis().div_euclid(1_000),
            nbf: None,
            jti: None,
            token_use: Some(TokenUse::Service),
            scope: Some(scopes.to_names()),
            sid: None,
            other: serde_json::Map::new(),
        };
        self.ring.sign(TokenUse::Service.header_type(), &claims)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<ServiceEntry, Refusal> {
        let policy = TokenPolicy::own(&self.issuer, &self.own_name, TokenUse::Service);
        let claims = self.ring.verify(token, &policy, now)?;
        let allowed = self.known.get(&claims.sub).ok_or(Refusal::WrongUse)?;
        let said = Scopes::from_names(claims.scope.as_deref().unwrap_or_default());
        Ok(ServiceEntry {
            scopes: said.and(*allowed),
            expires_at: claims.expires_at(),
            service: claims.sub,
        })
    }
}

impl Auth {
    /// A token by which this process calls the service `audience`.
    ///
    /// # Errors
    /// `config_invalid` where no tokens between services are set up, or for a name that is none.
    pub fn service_token(&self, audience: &str, scopes: Scopes) -> Result<Secret<String>> {
        let services = self.parts.services.as_ref().ok_or_else(|| {
            Error::new(
                Kind::Config,
                "auth.service_token",
                "no tokens between services are set up; give the builder a `ServiceTokens`",
            )
        })?;
        let token = services.issue(audience, scopes, self.clock.now())?;
        self.recorder.record(Happened {
            action: AuditAction::ServiceToken,
            reason: None,
            presented: None,
            user: None,
            session: None,
        });
        Ok(token)
    }

    /// Lets a service in, or says why not.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`.
    pub fn service(
        &self,
        token: Option<&Secret<String>>,
        presented: &Presented,
    ) -> Result<ServiceEntry> {
        let verified = match (&self.parts.services, token) {
            (Some(services), Some(token)) => services.verify(token.reveal(), self.clock.now()),
            _ => Err(Refusal::Malformed),
        };
        verified.map_err(|refusal| {
            let refused = match refusal {
                Refusal::Expired => Refused::expired(),
                other => Refused::because(other.as_str()),
            };
            self.recorder.record(Happened {
                action: AuditAction::ServiceToken,
                reason: Some(refused.reason),
                presented: Some(presented),
                user: None,
                session: None,
            });
            refused.error
        })
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Config,
        "auth.service_token",
        "the name of a service is 1 to 64 letters, digits, `-`, `_` or `.`",
    ))
}
