use super::jwk::thumbprint;
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA (PKCS #1 v1.5) with SHA-256, 2,048 to 8,192 bits.
    Rs256,
    /// HMAC with SHA-256: whoever can verify can also sign. Only where both ends are one.
    Hs256,
}

impl Algorithm {
    /// Its name in headers and key sets.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

/// A key that verifies signatures of its one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    id: String,
    public: Public,
}

/// The public half of a key, or a shared secret.
#[derive(Clone)]
pub(super) enum Public {
    Ed25519(Vec<u8>),
    /// The point, uncompressed: 4, x, y.
    P256(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Shared(hmac::Key),
}

impl VerifyingKey {
    pub(super) fn new(id: Option<String>, public: Public) -> Self {
        Self { id: id.unwrap_or_else(|| thumbprint(&public)), public }
    }

    /// The name by which tokens call it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.public {
            Public::Ed25519(_) => Algorithm::EdDsa,
            Public::P256(_) => Algorithm::Es256,
            Public::Rsa { .. } => Algorithm::Rs256,
            Public::Shared(_) => Algorithm::Hs256,
        }
    }

    pub(super) fn public(&self) -> &Public {
        &self.public
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
            Public::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
                .verify(message, signature)
                .is_ok(),
            Public::Rsa { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Public::Shared(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({} {})", self.algorithm().name(), self.id)
    }
}

/// A key that signs.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    verifying: VerifyingKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Shared(hmac::Key),
}

impl SigningKey {
    /// A new Ed25519 key, and how to keep it: as PKCS #8.
    ///
    /// # Errors
    /// `internal` when the system's generator of random numbers fails.
    pub fn generate() -> Result<(Self, Secret<Vec<u8>>)> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Error::internal("jwt.generate", "the system's random generator failed"))?;
        let document = Secret::new(made.as_ref().to_vec());
        Ok((Self::from_pkcs8(Algorithm::EdDsa, &document)?, document))
    }

    /// A key from PKCS #8 in DER.
    ///
    /// # Errors
    /// `config_invalid` when it is no key of that algorithm.
    pub fn from_pkcs8(algorithm: Algorithm, document: &Secret<Vec<u8>>) -> Result<Self> {
        let bytes = document.reveal();
        let wrong = |error: ring::error::KeyRejected| {
            refused(format!("the key is no {} key in PKCS #8: {error}", algorithm.name()))
        };
        let (pair, public) = match algorithm {
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map_err(wrong)?;
                let public = Public::Ed25519(pair.public_key().as_ref().to_vec());
                (Pair::Ed25519(pair), public)
            }
            Algorithm::Es256 => {
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(signing, bytes, &SystemRandom::new())
                    .map_err(wrong)?;
                let public = Public::P256(pair.public_key().as_ref().to_vec());
                (Pair::P256(pair), public)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(wrong)?;
                let key = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                (Pair::Rsa(pair), Public::Rsa { modulus: key.n, exponent: key.e })
            }
            Algorithm::Hs256 => {
                return Err(refused("an HS256 key is a secret and no PKCS #8".to_owned()));
            }
        };
        Ok(Self { pair: Arc::new(pair), verifying: VerifyingKey::new(None, public) })
    }

    /// A key from PKCS #8 in PEM (`-----BEGIN PRIVATE KEY-----`).
    ///
    /// # Errors
    /// `config_invalid` when it is no PEM, or no key of that algorithm.
    pub fn from_pem(algorithm: Algorithm, pem: &Secret<String>) -> Result<Self> {
        let decoded = x509_cert::der::pem::decode_vec(pem.reveal().trim().as_bytes());
        match decoded {
            Ok(("PRIVATE KEY", document)) => Self::from_pkcs8(algorithm, &Secret::new(document)),
            Ok((label, _)) => {
                Err(refused(format!("the key is a PEM of `{label}`; it must be a `PRIVATE KEY`")))
            }
            Err(error) => Err(refused(format!("the key is no PEM: {error}"))),
        }
    }

    /// A shared secret for HS256, of 32 bytes at least, under a name.
    ///
    /// # Errors
    /// `config_invalid` for a shorter one.
    pub fn shared(id: &str, secret: &Secret<Vec<u8>>) -> Result<Self> {
        if secret.reveal().len() < 32 {
            return Err(refused("a secret for HS256 has at least 32 bytes".to_owned()));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
        let verifying = VerifyingKey::new(Some(id.to_owned()), Public::Shared(key.clone()));
        Ok(Self { pair: Arc::new(Pair::Shared(key)), verifying })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// A token of those claims.
    ///
    /// # Errors
    /// `internal` when they have no JSON form or the system's generator of random numbers fails.
    pub fn sign(&self, header_type: &str, claims: &impl Serialize) -> Result<Secret<String>> {
        let header = serde_json::json!({
            "alg": self.verifying.algorithm().name(),
            "typ": header_type,
            "kid": self.verifying.id(),
        });
        let encode = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|error| {
                Error::internal("jwt.sign", "the claims have no JSON form").with_source(error)
            })
        };
        let mut token = encode(serde_json::to_vec(&header))?;
        token.push('.');
        token.push_str(&encode(serde_json::to_vec(claims))?);
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::internal("jwt.sign", "the signature could not be made");
        Ok(match &*self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(failed)?;
                signature
            }
            Pair::Shared(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.verifying.algorithm().name(), self.verifying.id())
    }
}

fn refused(message: String) -> Error {
    Error::new(Kind::Config, "jwt.key", message)
}
