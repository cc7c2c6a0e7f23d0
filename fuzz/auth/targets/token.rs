//! A token, whatever it holds, is not believed unless it is signed by a key that is known: and the only token that is
//! signed here is never made of the input. A set of keys, whatever it holds, is read or refused.

#![no_main]

use apex_core::auth::jwt::{
    Algorithm, SigningKey, TokenPolicy, TokenUse, VerifyingKey, jwks_of, read_jwks,
};
use apex_core::clock::Timestamp;
use apex_core::config::Secret;
use std::sync::LazyLock;

static KEYS: LazyLock<Vec<VerifyingKey>> = LazyLock::new(|| {
    let pem = |text: &str| Secret::new(text.to_owned());
    let key = |algorithm, text| SigningKey::from_pem(algorithm, &pem(text)).unwrap();
    [
        key(Algorithm::EdDsa, include_str!("../../../apex-core/tests/jwt/ed25519.pem")),
        key(Algorithm::Es256, include_str!("../../../apex-core/tests/jwt/p256.pem")),
        SigningKey::shared("shared", &Secret::new(vec![7; 32])).unwrap(),
    ]
    .iter()
    .map(|key| key.verifying().clone())
    .collect()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = std::str::from_utf8(bytes) {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for token_use in TokenUse::ALL {
            let policy = TokenPolicy::own("https://issuer.example", "apex", token_use);
            assert!(policy.verify(token, &KEYS, now).is_err(), "a forged token is believed");
        }
    }
    if let Ok(keys) = read_jwks(bytes) {
        let again = jwks_of(&keys);
        assert!(read_jwks(&serde_json_of(&again)).is_ok());
    }
});

fn serde_json_of(keys: &apex_core::auth::jwt::Jwks) -> Vec<u8> {
    serde_json::to_vec(keys).unwrap()
}
