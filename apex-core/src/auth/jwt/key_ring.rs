use super::claims::Claims;
use super::jwk::{Jwks, jwks_of};
use super::key::{SigningKey, VerifyingKey};
use super::policy::{Refusal, TokenPolicy};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::error::Result;
use parking_lot::RwLock;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// The keys of one issuer: one signs, and others verify what is still on its way. Clones are the same ring.
///
/// A new key is first announced everywhere, then takes over, and the one before it goes on verifying for longer than
/// its last token lives: no token that is good is ever refused.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: Arc<RwLock<Keys>>,
}

#[derive(Debug)]
struct Keys {
    signing: SigningKey,
    others: Vec<Other>,
}

/// A key that only verifies; until when, where that is known.
#[derive(Debug)]
struct Other {
    key: VerifyingKey,
    until: Option<Timestamp>,
}

impl KeyRing {
    /// A ring with one key.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        Self { keys: Arc::new(RwLock::new(Keys { signing, others: Vec::new() })) }
    }

    /// Verifies by a key too, such as the next one of another node, and publishes it.
    pub fn announce(&self, key: VerifyingKey) {
        let mut keys = self.keys.write();
        if keys.signing.verifying().id() != key.id() {
            keys.others.retain(|other| other.key.id() != key.id());
            keys.others.push(Other { key, until: None });
        }
    }

    /// Signs by another key from now on. The one before it verifies for `overlap` more, which is to be longer than
    /// the longest life of a token.
    pub fn rotate(&self, next: SigningKey, overlap: Duration, now: Timestamp) {
        let mut keys = self.keys.write();
        let next_id = next.verifying().id().to_owned();
        let before = std::mem::replace(&mut keys.signing, next);
        keys.others.retain(|other| {
            other.key.id() != next_id && other.until.is_none_or(|until| until > now)
        });
        if before.verifying().id() != next_id {
            let until = Some(now.plus(overlap));
            keys.others.push(Other { key: before.verifying().clone(), until });
        }
    }

    /// Forgets a key at once, such as one that was stolen; what it signed is worth nothing any more. The signing key
    /// is not forgotten: rotate first.
    pub fn withdraw(&self, id: &str) {
        self.keys.write().others.retain(|other| other.key.id() != id);
    }

    /// The name of the key that signs.
    #[must_use]
    pub fn signing_id(&self) -> String {
        self.keys.read().signing.verifying().id().to_owned()
    }

    /// Every key that verifies now.
    #[must_use]
    pub fn verifying(&self, now: Timestamp) -> Vec<VerifyingKey> {
        let keys = self.keys.read();
        let others = keys.others.iter().filter(|other| other.until.is_none_or(|until| until > now));
        let others = others.map(|other| other.key.clone());
        std::iter::once(keys.signing.verifying().clone()).chain(others).collect()
    }

    /// The keys as they are published.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Jwks {
        jwks_of(&self.verifying(now))
    }

    /// A token of those claims.
    ///
    /// # Errors
    /// As [`SigningKey::sign`].
    pub fn sign(&self, header_type: &str, claims: &impl Serialize) -> Result<Secret<String>> {
        let signing = self.keys.read().signing.clone();
        signing.sign(header_type, claims)
    }

    /// Verifies a token by any of the keys.
    ///
    /// # Errors
    /// The first reason why it is not good.
    pub fn verify(
        &self,
        token: &str,
        policy: &TokenPolicy,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        policy.verify(token, &self.verifying(now), now)
    }
}
