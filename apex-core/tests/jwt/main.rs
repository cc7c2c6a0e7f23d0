//! Signed tokens: what is good, every attack that is known, the vectors of the RFCs, and keys that come and go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod attacks;
mod keys;
mod remote;
mod vectors;

use apex_core::auth::jwt::{Algorithm, SigningKey, TokenPolicy, TokenUse};
use apex_core::clock::Timestamp;
use apex_core::config::Secret;
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "apex";

/// What time it is in these tests, in seconds.
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW * 1_000)
}

fn policy() -> TokenPolicy {
    TokenPolicy::own(ISSUER, AUDIENCE, TokenUse::Access)
}

/// Claims that are good.
fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "0192d1f0-0000-7000-8000-000000000001",
        "aud": AUDIENCE,
        "iat": NOW,
        "exp": NOW + 600,
        "apex_use": "access",
    })
}

fn pem(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

/// A key of each algorithm.
fn signing_keys() -> Vec<SigningKey> {
    vec![
        SigningKey::from_pem(Algorithm::EdDsa, &pem(include_str!("ed25519.pem"))).unwrap(),
        SigningKey::from_pem(Algorithm::Es256, &pem(include_str!("p256.pem"))).unwrap(),
        SigningKey::from_pem(Algorithm::Rs256, &pem(include_str!("rsa.pem"))).unwrap(),
        SigningKey::shared("shared", &Secret::new(vec![7; 32])).unwrap(),
    ]
}
