use super::key::{Public, VerifyingKey};
use crate::error::{Error, Kind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The most keys of a set that are looked at.
const MAX_KEYS: usize = 64;

/// A set of public keys as it is published (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    keys: Vec<Jwk>,
}

/// A public key as it is published. Parts of private keys are not even read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    key_use: Option<String>,
}

/// The set of those keys that may be published: never a shared secret.
#[must_use]
pub fn jwks_of<'a>(keys: impl IntoIterator<Item = &'a VerifyingKey>) -> Jwks {
    let published = keys.into_iter().filter_map(|key| {
        let mut jwk = parts_of(key.public())?;
        jwk.kid = Some(key.id().to_owned());
        jwk.alg = Some(key.algorithm().name().to_owned());
        jwk.key_use = Some("sig".to_owned());
        Some(jwk)
    });
    Jwks { keys: published.collect() }
}

/// The keys of a published set that sign by an algorithm that is known here; the others are passed over.
///
/// # Errors
/// `bad_data` when it is no set of keys.
pub fn read_jwks(json: &[u8]) -> Result<Vec<VerifyingKey>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(json).map_err(|error| {
        Error::new(Kind::BadData, "jwt.jwks", "the answer is no set of keys").with_source(error)
    })?;
    let known = set.keys.into_iter().take(MAX_KEYS);
    Ok(known.filter_map(|jwk| key_of(serde_json::from_value(jwk).ok()?)).collect())
}

fn key_of(jwk: Jwk) -> Option<VerifyingKey> {
    if jwk.key_use.as_deref().is_some_and(|key_use| key_use != "sig") {
        return None;
    }
    let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let sized = |text: &Option<String>| part(text).filter(|part| part.len() == 32);
    let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => Public::Ed25519(sized(&jwk.x)?),
        ("EC", Some("P-256")) => {
            Public::P256([&[4][..], &sized(&jwk.x)?, &sized(&jwk.y)?].concat())
        }
        ("RSA", None) => Public::Rsa { modulus: part(&jwk.n)?, exponent: part(&jwk.e)? },
        // A shared secret in a published set is a mistake of whoever published it.
        _ => return None,
    };
    let key = VerifyingKey::new(jwk.kid, public);
    let fits = jwk.alg.is_none_or(|alg| alg == key.algorithm().name());
    fits.then_some(key)
}

/// The parts of a public key; `None` for a shared secret.
fn parts_of(public: &Public) -> Option<Jwk> {
    let text = |part: &[u8]| Some(URL_SAFE_NO_PAD.encode(part));
    let none = Jwk {
        kty: String::new(),
        crv: None,
        x: None,
        y: None,
        n: None,
        e: None,
        kid: None,
        alg: None,
        key_use: None,
    };
    Some(match public {
        Public::Ed25519(key) => {
            Jwk { kty: "OKP".into(), crv: Some("Ed25519".into()), x: text(key), ..none }
        }
        Public::P256(point) => {
            let (x, y) = point.get(1..)?.split_at_checked(32)?;
            Jwk { kty: "EC".into(), crv: Some("P-256".into()), x: text(x), y: text(y), ..none }
        }
        Public::Rsa { modulus, exponent } => {
            Jwk { kty: "RSA".into(), n: text(modulus), e: text(exponent), ..none }
        }
        Public::Shared(_) => return None,
    })
}

/// The name that follows from a public key alone (RFC 7638).
pub(super) fn thumbprint(public: &Public) -> String {
    let Some(Jwk { crv, x, y, n, e, .. }) = parts_of(public) else {
        return "shared".to_owned();
    };
    let text = |part: Option<String>| part.unwrap_or_default();
    // Only the parts that make the key, in the order of the alphabet and without a space; none needs an escape.
    let canonical = match public {
        Public::Rsa { .. } => {
            format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n))
        }
        Public::P256(_) => {
            format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, text(crv), text(x), text(y))
        }
        Public::Ed25519(_) | Public::Shared(_) => {
            format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, text(crv), text(x))
        }
    };
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}
