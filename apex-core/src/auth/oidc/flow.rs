use super::fetch::{down, post};
use super::provider::OidcProvider;
use crate::auth::audit::AuditAction;
use crate::auth::jwt::{Audience, Claims, Refusal, TokenPolicy, key_id_of};
use crate::auth::recorder::Happened;
use crate::auth::service::{Auth, Refused};
use crate::auth::token::random_token;
use crate::auth::tokens::subject_at;
use crate::auth::{Login, Presented};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::id::UserId;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long a user may take to log in at the provider.
const WITHIN: Duration = Duration::from_secs(10 * 60);

/// The longest place to come back to.
const MAX_RETURN: usize = 1_024;

/// A login that has begun.
#[derive(Clone)]
pub struct OidcBegun {
    /// Where the browser goes.
    pub location: String,
    /// What the browser keeps until it comes back; a secret between it and us.
    pub kept: Secret<String>,
    /// For how long it keeps it.
    pub within: Duration,
}

/// What the provider answered, by way of the browser.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct OidcAnswer {
    /// What the browser went with.
    pub state: Option<String>,
    code: Option<Code>,
    error: Option<String>,
    iss: Option<String>,
}

/// A code, which is worth a login.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct Code(String);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(…)")
    }
}

/// How a login at a provider ended.
#[derive(Clone)]
pub struct OidcFinished {
    /// The new login; `None` where another way to log in was added to the account that was in already.
    pub login: Option<Login>,
    /// The place to come back to: a path on our own site.
    pub return_to: String,
}

/// What the browser keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
    link: Option<UserId>,
    until: i64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<Secret<String>>,
}

impl Auth {
    /// Begins a login at a provider, or, for a user who is in, adds it to their account.
    ///
    /// # Errors
    /// `not_found` for a provider that is not set up; `bad_request` for a place to come back to that is not a path on
    /// our own site; `unavailable` when the provider does not answer.
    pub async fn oidc_begin(
        &self,
        provider: &str,
        return_to: &str,
        link: Option<UserId>,
    ) -> Result<OidcBegun> {
        let provider = self.provider(provider)?;
        if !is_own_path(return_to) {
            return Err(Error::new(
                Kind::BadRequest,
                "oidc.begin",
                "`return_to` must be a path on this site, such as /chat",
            ));
        }
        let endpoints = provider.endpoints().await?;
        let (state, nonce, verifier) = (random_token()?, random_token()?, random_token()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.reveal()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &provider.client_id),
            ("redirect_uri", &provider.redirect_uri),
            ("scope", &provider.scope),
            ("state", state.reveal()),
            ("nonce", nonce.reveal()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if endpoints.authorization_endpoint.contains('?') { '&' } else { '?' };
        let kept = Kept {
            provider: provider.name.clone(),
            state: state.reveal().clone(),
            nonce: nonce.reveal().clone(),
            verifier: verifier.reveal().clone(),
            return_to: return_to.to_owned(),
            link,
            until: self.clock.now().plus(WITHIN).as_millis(),
        };
        let kept = serde_json::to_vec(&kept).map_err(|error| {
            Error::internal("oidc.begin", "what is kept has no JSON form").with_source(error)
        })?;
        Ok(OidcBegun {
            location: format!("{}{joint}{query}", endpoints.authorization_endpoint),
            kept: Secret::new(URL_SAFE_NO_PAD.encode(kept)),
            within: WITHIN,
        })
    }

    /// Ends a login at a provider. `current` is the user who is in already, where one is to be linked.
    ///
    /// # Errors
    /// `not_found` for a provider that is not set up; `unauthenticated` for an answer that does not belong to what
    /// this browser began, or that the provider does not stand by; `conflict` for linking what belongs to another
    /// account; `unavailable` when the provider does not answer.
    pub async fn oidc_finish(
        &self,
        provider: &str,
        kept: Option<&Secret<String>>,
        answer: &OidcAnswer,
        current: Option<UserId>,
        presented: &Presented,
    ) -> Result<OidcFinished> {
        let provider = self.provider(provider)?;
        let verified = self.verify_answer(provider, kept, answer).await;
        let (kept, claims) = verified.map_err(|Refused { error, reason, .. }| {
            let (action, reason) = (AuditAction::Login, Some(reason));
            let presented = Some(presented);
            self.recorder.record(Happened { action, reason, presented, user: None, session: None });
            error
        })?;
        let subject = subject_at(&claims.iss, &claims.sub);
        let return_to = kept.return_to;
        if let Some(user) = kept.link {
            // Who began it has to be who is in when it ends.
            if current != Some(user) {
                return Err(Refused::because("oidc_other_user").error);
            }
            self.link_user(user, &subject).await?;
            return Ok(OidcFinished { login: None, return_to });
        }
        let method = format!("oidc:{}", provider.name);
        let login = self.log_in(&subject, &method, presented).await?;
        Ok(OidcFinished { login: Some(login), return_to })
    }

    fn provider(&self, name: &str) -> Result<&OidcProvider> {
        let found = self.parts.providers.iter().find(|provider| provider.name == name);
        found.ok_or_else(|| Error::not_found("oidc.provider", "login provider"))
    }

    async fn verify_answer(
        &self,
        provider: &OidcProvider,
        kept: Option<&Secret<String>>,
        answer: &OidcAnswer,
    ) -> Result<(Kept, Claims), Refused> {
        let kept = kept
            .and_then(|kept| URL_SAFE_NO_PAD.decode(kept.reveal()).ok())
            .and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok())
            .ok_or_else(|| Refused::because("oidc_not_begun"))?;
        if kept.provider != provider.name || answer.state.as_deref() != Some(kept.state.as_str()) {
            return Err(Refused::because("oidc_wrong_state"));
        }
        if kept.until < self.clock.now().as_millis() || !is_own_path(&kept.return_to) {
            return Err(Refused::because("oidc_too_late"));
        }
        // RFC 9207: the answer of one provider must not be taken for another's.
        if answer.iss.as_ref().is_some_and(|issuer| *issuer != provider.issuer) {
            return Err(Refused::because("oidc_wrong_issuer"));
        }
        if answer.error.is_some() {
            return Err(Refused::because("oidc_denied"));
        }
        let Some(Code(code)) = &answer.code else {
            return Err(Refused::because("oidc_no_code"));
        };
        let token = redeem(provider, code, &kept.verifier).await?;
        let claims = self.verify_id_token(provider, token.reveal()).await?;
        if claims.text("nonce") != Some(kept.nonce.as_str()) {
            return Err(Refused::because("oidc_wrong_nonce"));
        }
        Ok((kept, claims))
    }

    async fn verify_id_token(
        &self,
        provider: &OidcProvider,
        token: &str,
    ) -> Result<Claims, Refused> {
        let refused = |refusal: Refusal| Refused::because(refusal.as_str());
        let policy = TokenPolicy {
            issuer: provider.issuer.clone(),
            audience: provider.client_id.clone(),
            token_use: None,
            types: ["jwt", ""].map(str::to_owned).to_vec(),
            longest_life: Duration::from_secs(24 * 60 * 60),
        };
        let kid = key_id_of(token).map_err(refused)?;
        let keys = provider.keys.for_key(kid.as_deref()).await?;
        let claims = policy.verify(token, &keys, self.clock.now()).map_err(refused)?;
        // OpenID Connect Core 1.0, section 3.1.3.7: a token for several names the one that asked for it.
        let several = matches!(&claims.aud, Audience::Many(many) if many.len() > 1);
        let party = claims.text("azp");
        if party.is_some_and(|party| party != provider.client_id) || (several && party.is_none()) {
            return Err(refused(Refusal::WrongAudience));
        }
        Ok(claims)
    }
}

/// Exchanges a code for the token that says who the user is.
async fn redeem(
    provider: &OidcProvider,
    code: &str,
    verifier: &str,
) -> Result<Secret<String>, Refused> {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &provider.redirect_uri),
        ("client_id", &provider.client_id),
        ("code_verifier", verifier),
    ]);
    // RFC 6749, section 2.3.1: both are encoded as a form's values first.
    let pair =
        format!("{}:{}", encoded(&provider.client_id), encoded(provider.client_secret.reveal()));
    let header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
    let mut header =
        header.map_err(|_| Error::internal("oidc.redeem", "a client that is no header value"))?;
    header.set_sensitive(true);
    let token_endpoint = provider.endpoints().await?.token_endpoint;
    let (status, body) = post(&token_endpoint, body, header).await?;
    if status.is_client_error() {
        // The code was used, is unknown or late, or our client is not who it says.
        tracing::warn!(%status, "a login provider refused a code");
        return Err(Refused::because("oidc_code_refused"));
    }
    if !status.is_success() {
        return Err(down(format!("it answered {status}")).into());
    }
    let answer: TokenAnswer = serde_json::from_slice(&body)
        .map_err(|_| down("its answer to a code cannot be read".to_owned()))?;
    answer.id_token.ok_or_else(|| Refused::because("oidc_no_token"))
}

/// Whether it is a path on our own site, and nothing that a browser takes for another one.
fn is_own_path(path: &str) -> bool {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    path.len() <= MAX_RETURN && path.starts_with('/') && !path.starts_with("//") && plain
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_on_our_own_site_is_come_back_to() {
        for own in ["/", "/chat", "/chat?thread=1#end"] {
            assert!(is_own_path(own), "{own}");
        }
        for other in [
            "",
            "chat",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "/ä",
        ] {
            assert!(!is_own_path(other), "{other}");
        }
        assert!(!is_own_path(&"/x".repeat(600)));
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(form(&[("a", "b c&d=ä"), ("e", "~.-_")]), "a=b%20c%26d%3D%C3%A4&e=~.-_");
    }
}
