//! Signed access tokens: our own, and those of issuers that the host trusts.

use super::entry::{Entry, Presented};
use super::jwt::{
    Audience, Claims, KeyRing, Refusal, RemoteKeys, SessionClaim, TokenPolicy, TokenUse,
};
use super::jwt::{Jwks, VerifyingKey, issuer_of, jwks_of, key_id_of};
use super::service::{Auth, Refused};
use super::user::Standing;
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::{Principal, Scopes};
use std::time::Duration;

/// How old a look at what was revoked may be before there is another.
const LOOK: Duration = Duration::from_secs(60);

/// How old it may be at most: a token that cannot be known not to be revoked lets nobody in.
const LOOK_MOST: Duration = Duration::from_secs(5 * 60);

/// Makes and verifies our own signed tokens.
#[derive(Debug, Clone)]
pub struct TokenAuthority {
    ring: KeyRing,
    issuer: String,
    policy: TokenPolicy,
}

impl TokenAuthority {
    /// Tokens signed by a ring, made by `issuer` (a URL, usually) and meant for `audience`.
    #[must_use]
    pub fn new(ring: KeyRing, issuer: &str, audience: &str) -> Self {
        let policy = TokenPolicy::own(issuer, audience, TokenUse::Access);
        Self { ring, issuer: issuer.to_owned(), policy }
    }

    /// The keys.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    pub(super) fn access(
        &self,
        user: UserId,
        session: SessionId,
        scopes: Scopes,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Secret<String>> {
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: user.to_string(),
            aud: Audience::One(self.policy.audience.clone()),
            exp: expires_at.as_millis().div_euclid(1_000),
            iat: now.as_millis().div_euclid(1_000),
            nbf: None,
            jti: None,
            token_use: Some(TokenUse::Access),
            scope: Some(scopes.to_names()),
            sid: Some(SessionClaim::Ours(session)),
            other: serde_json::Map::new(),
        };
        self.ring.sign(TokenUse::Access.header_type(), &claims)
    }
}

/// Another issuer whose access tokens let its users in, such as the identity provider of a company.
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    keys: RemoteKeys,
    policy: TokenPolicy,
}

impl TrustedIssuer {
    /// Takes tokens of `issuer` (its `iss`, to the letter) that are meant for `audience`, signed by keys that are
    /// fetched. Its users have accounts under its name and their subject there, made when they first come; what they
    /// may do is what their account says, whatever the token claims.
    ///
    /// # Errors
    /// `config_invalid` when issuer or audience is empty.
    pub fn new(issuer: &str, audience: &str, keys: RemoteKeys) -> Result<Self> {
        if issuer.is_empty() || audience.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "auth.issuer",
                "a trusted issuer has a name and an audience: without them anyone's token would do",
            ));
        }
        let policy = TokenPolicy {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            token_use: None,
            // The type of RFC 9068, and what issuers say that do not know it. Never those of our other uses.
            types: ["at+jwt", "jwt", ""].map(str::to_owned).to_vec(),
            longest_life: Duration::from_secs(24 * 60 * 60),
        };
        Ok(Self { keys, policy })
    }
}

/// The subject under which a user of an issuer is known.
pub(super) fn subject_at(issuer: &str, subject: &str) -> String {
    format!("{issuer} {subject}")
}

impl Auth {
    /// The public keys by which others verify what is signed here; `None` where nothing is.
    #[must_use]
    pub fn jwks(&self) -> Option<Jwks> {
        let tokens = self.parts.tokens.as_ref().map(TokenAuthority::ring);
        let services = self.parts.services.as_ref().map(super::ServiceTokens::ring);
        if tokens.is_none() && services.is_none() {
            return None;
        }
        let mut keys = Vec::new();
        for key in
            tokens.into_iter().chain(services).flat_map(|ring| ring.verifying(self.clock.now()))
        {
            if keys.iter().all(|known: &VerifyingKey| known.id() != key.id()) {
                keys.push(key);
            }
        }
        Some(jwks_of(&keys))
    }

    pub(super) async fn by_signed_token(
        &self,
        token: &str,
        presented: &Presented,
    ) -> Result<Entry, Refused> {
        let refused = |refusal: Refusal| match refusal {
            Refusal::Expired => Refused::expired(),
            other => Refused::because(other.as_str()),
        };
        let now = self.clock.now();
        // Who says to have made it leads to whose keys are asked; it is believed only when they agree.
        let issuer = issuer_of(token).map_err(refused)?;
        if let Some(own) = self.parts.tokens.as_ref().filter(|own| own.issuer == issuer) {
            let claims = own.ring.verify(token, &own.policy, now).map_err(refused)?;
            return self.own_entry(&claims, presented).await;
        }
        let known = self.parts.issuers.iter().find(|known| known.policy.issuer == issuer);
        let known = known.ok_or_else(|| refused(Refusal::WrongIssuer))?;
        let kid = key_id_of(token).map_err(refused)?;
        let keys = known.keys.for_key(kid.as_deref()).await?;
        let claims = known.policy.verify(token, &keys, now).map_err(refused)?;
        self.foreign_entry(&claims, presented).await
    }

    async fn own_entry(&self, claims: &Claims, presented: &Presented) -> Result<Entry, Refused> {
        let malformed = || Refused::because(Refusal::MissingClaim.as_str());
        let user: UserId = claims.sub.parse().map_err(|_| malformed())?;
        let session = claims.session().ok_or_else(malformed)?;
        let scopes = Scopes::from_names(claims.scope.as_deref().unwrap_or_default());
        self.check_not_revoked(user, Some(session), claims.made_at()).await?;
        Ok(Entry {
            principal: Principal::from_session(user, scopes, session),
            way: presented.way,
            expires_at: claims.expires_at(),
        })
    }

    async fn foreign_entry(
        &self,
        claims: &Claims,
        presented: &Presented,
    ) -> Result<Entry, Refused> {
        let subject = subject_at(&claims.iss, &claims.sub);
        let account = self.stores.users.resolve(&subject, self.new_user(self.clock.now())).await?;
        if account.standing != Standing::Active {
            return Err(Refused::because("account_barred").of(account.user, None));
        }
        self.check_not_revoked(account.user, None, claims.made_at()).await?;
        Ok(Entry {
            principal: Principal::vouched(account.user, account.scopes),
            way: presented.way,
            expires_at: claims.expires_at(),
        })
    }

    /// Signed tokens are not looked up, so what was revoked is asked for.
    async fn check_not_revoked(
        &self,
        user: UserId,
        session: Option<SessionId>,
        made_at: Timestamp,
    ) -> Result<(), Refused> {
        let older_than = |age| self.revocations.age().is_none_or(|known| known > age);
        if older_than(LOOK)
            && let Err(error) = self.revocations.look().await
        {
            if older_than(LOOK_MOST) {
                return Err(error.into());
            }
            tracing::warn!(%error, "what was revoked lately is not known for sure");
        }
        if self.revocations.covers(user, session, made_at) {
            return Err(Refused::because("login_ended").of(user, session));
        }
        Ok(())
    }
}
