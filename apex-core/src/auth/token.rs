use crate::config::Secret;
use crate::error::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The SHA-256 of a token or ticket: what stores keep and look up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The digest of a token as presented.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The digest as bytes, for keys of a store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest from bytes, as [`Self::as_bytes`] gave them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// 32 bytes of the system's generator, base64url without padding.
pub(super) fn random_token() -> Result<Secret<String>> {
    random::<32>()
}

/// 16 bytes: the part of a refresh token that names its family.
pub(super) fn random_part() -> Result<Secret<String>> {
    random::<16>()
}

/// The part of a refresh token that names its family; `None` for what is none.
pub(super) fn family_of(refresh: &str) -> Option<&str> {
    let (family, secret) = refresh.split_once('.')?;
    (family.len() == 22 && secret.len() == 43).then_some(family)
}

fn random<const N: usize>() -> Result<Secret<String>> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::internal("auth.random", "the system's random generator failed").with("cause", error)
    })?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}
