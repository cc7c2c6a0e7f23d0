use super::claims::{Claims, TokenUse};
use super::compact::Compact;
use super::key::VerifyingKey;
use crate::clock::Timestamp;
use std::time::Duration;

/// How far the clocks of issuer and verifier may be apart.
pub const LEEWAY: Duration = Duration::from_secs(30);

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $text:literal),* $(,)?) => {
        /// Why a token is not good. Clients get one answer for all but [`Refusal::Expired`]; the reason is for the
        /// record and for metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// Its name, as in the record and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// It is longer than a token may be.
    TooLong "token_too_long",
    /// It is no token.
    Malformed "token_malformed",
    /// Its header asks for something that no token may ask for.
    SpecialHeader "token_special_header",
    /// Its key is not one of those known here.
    UnknownKey "token_unknown_key",
    /// Its algorithm is not that of its key.
    WrongAlgorithm "token_wrong_algorithm",
    /// Its signature is not that of its key.
    WrongSignature "token_wrong_signature",
    /// It is a token of another type or for another use.
    WrongUse "token_wrong_use",
    /// A claim that it must have is missing or of another shape.
    MissingClaim "token_missing_claim",
    /// It comes from another issuer.
    WrongIssuer "token_wrong_issuer",
    /// It is meant for someone else.
    WrongAudience "token_wrong_audience",
    /// It is over.
    Expired "token_expired",
    /// It begins later, or was made in the future.
    NotYet "token_not_yet",
    /// It claims to be good for longer than a token may be.
    TooLongLived "token_too_long_lived",
}

/// What a token must be to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// Who must have made it.
    pub issuer: String,
    /// Whom it must be meant for.
    pub audience: String,
    /// What it must be for. `None` takes tokens of an issuer that knows nothing of our uses.
    pub token_use: Option<TokenUse>,
    /// The types that its header may say, in lower case and without `application/`; an empty text stands for none
    /// said.
    pub types: Vec<String>,
    /// How long it may be good from when it was made.
    pub longest_life: Duration,
}

impl TokenPolicy {
    /// The policy for tokens that Apex itself has made for one use.
    #[must_use]
    pub fn own(issuer: &str, audience: &str, token_use: TokenUse) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            token_use: Some(token_use),
            types: vec![token_use.header_type().to_owned()],
            longest_life: token_use.longest_life(),
        }
    }

    /// Verifies a token by the keys that may have signed it.
    ///
    /// # Errors
    /// The first reason why it is not good.
    pub fn verify(
        &self,
        token: &str,
        keys: &[VerifyingKey],
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        self.judge(&Compact::read(token)?, keys, now)
    }

    fn judge(
        &self,
        token: &Compact<'_>,
        keys: &[VerifyingKey],
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let key = choose(token.header.kid.as_deref(), keys)?;
        if key.algorithm().name() != token.header.alg {
            return Err(Refusal::WrongAlgorithm);
        }
        if !key.verifies(token.signed, &token.signature) {
            return Err(Refusal::WrongSignature);
        }
        let said = token.header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        let said = said.strip_prefix("application/").unwrap_or(&said);
        if !self.types.iter().any(|known| known == said) {
            return Err(Refusal::WrongUse);
        }
        // Only what is signed by a key of ours is read.
        let claims: Claims =
            serde_json::from_slice(&token.claims).map_err(|_| Refusal::MissingClaim)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), Refusal> {
        if self.token_use.is_some() && claims.token_use != self.token_use {
            return Err(Refusal::WrongUse);
        }
        if claims.iss != self.issuer {
            return Err(Refusal::WrongIssuer);
        }
        if !claims.aud.contains(&self.audience) {
            return Err(Refusal::WrongAudience);
        }
        if claims.sub.is_empty() {
            return Err(Refusal::MissingClaim);
        }
        if now > claims.expires_at().plus(LEEWAY) {
            return Err(Refusal::Expired);
        }
        let ahead = now.plus(LEEWAY);
        if claims.made_at() > ahead || claims.begins_at().is_some_and(|begin| begin > ahead) {
            return Err(Refusal::NotYet);
        }
        if claims.expires_at().since(claims.made_at()) > self.longest_life {
            return Err(Refusal::TooLongLived);
        }
        Ok(())
    }
}

/// The one key that a token may have been signed by: that of its name, or, without a name, the only one.
fn choose<'a>(kid: Option<&str>, keys: &'a [VerifyingKey]) -> Result<&'a VerifyingKey, Refusal> {
    match (kid, keys) {
        (Some(kid), keys) => keys.iter().find(|key| key.id() == kid).ok_or(Refusal::UnknownKey),
        (None, [only]) => Ok(only),
        (None, _) => Err(Refusal::UnknownKey),
    }
}
