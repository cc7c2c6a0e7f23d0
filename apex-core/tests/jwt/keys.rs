use super::{claims, now, pem, policy, signing_keys};
use apex_core::auth::jwt::{Algorithm, KeyRing, Refusal, SigningKey, read_jwks};
use apex_core::config::Secret;
use apex_core::error::Kind;
use serde_json::json;
use std::time::Duration;

const OVERLAP: Duration = Duration::from_secs(3_600);

#[test]
fn a_rotation_never_refuses_a_token_that_is_good() {
    let (first, _) = SigningKey::generate().unwrap();
    let (second, _) = SigningKey::generate().unwrap();
    let (ring, other_node) = (KeyRing::new(first.clone()), KeyRing::new(first));
    let sign = |ring: &KeyRing| ring.sign("at+jwt", &claims()).unwrap();
    let before = sign(&ring);
    // First the next key is known everywhere, then it signs.
    other_node.announce(second.verifying().clone());
    ring.rotate(second, OVERLAP, now());
    let after = sign(&ring);
    for ring in [&ring, &other_node] {
        for token in [&before, &after] {
            assert!(ring.verify(token.reveal(), &policy(), now()).is_ok());
        }
    }
    assert_eq!(ring.verifying(now()).len(), 2);
    let later = now().plus(OVERLAP);
    let refused = ring.verify(before.reveal(), &policy(), later).unwrap_err();
    assert_eq!(refused, Refusal::UnknownKey, "the overlap is over");
    assert_eq!(ring.verifying(later).len(), 1);
}

#[test]
fn a_withdrawn_key_is_worth_nothing_at_once() {
    let (first, _) = SigningKey::generate().unwrap();
    let (second, _) = SigningKey::generate().unwrap();
    let ring = KeyRing::new(first.clone());
    let token = ring.sign("at+jwt", &claims()).unwrap();
    ring.rotate(second, OVERLAP, now());
    ring.withdraw(first.verifying().id());
    let refused = ring.verify(token.reveal(), &policy(), now()).unwrap_err();
    assert_eq!(refused, Refusal::UnknownKey);
}

#[test]
fn what_is_published_verifies_and_tells_no_secret() {
    let keys = signing_keys();
    let ring = KeyRing::new(keys[0].clone());
    for key in &keys[1..] {
        ring.announce(key.verifying().clone());
    }
    let published = serde_json::to_string(&ring.jwks(now())).unwrap();
    let read = read_jwks(published.as_bytes()).unwrap();
    assert_eq!(read.len(), 3, "a shared secret is never published: {published}");
    for key in &keys[..3] {
        let token = key.sign("at+jwt", &claims()).unwrap();
        assert!(policy().verify(token.reveal(), &read, now()).is_ok(), "{key:?}");
    }
    let parts: Vec<serde_json::Value> = serde_json::from_str::<serde_json::Value>(&published)
        .unwrap()["keys"]
        .as_array()
        .unwrap()
        .clone();
    for part in parts {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(part.get(private).is_none());
        }
    }
}

#[test]
fn a_set_is_read_without_what_is_not_understood() {
    let good = serde_json::to_value(signing_keys()[0].verifying().id()).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": good});
    let with = |change: serde_json::Value| {
        let mut jwk = jwk.clone();
        for (name, value) in change.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    };
    let set = json!({"keys": [
        with(json!({"use": "enc"})),
        with(json!({"alg": "RS256"})),
        with(json!({"x": "AAAA"})),
        with(json!({"crv": "X25519"})),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "RSA"},
        7,
        with(json!({"alg": "EdDSA", "use": "sig", "later": "field"})),
    ]});
    let read = read_jwks(set.to_string().as_bytes()).unwrap();
    assert_eq!(read.len(), 1);
    for bad in ["", "[]", "{}", "<html>"] {
        assert_eq!(read_jwks(bad.as_bytes()).unwrap_err().kind(), Kind::BadData, "{bad}");
    }
}

#[test]
fn a_key_that_is_none_is_refused_plainly() {
    let rsa = include_str!("rsa.pem");
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----";
    for (algorithm, text) in [
        (Algorithm::EdDsa, rsa),
        (Algorithm::Es256, rsa),
        (Algorithm::Hs256, rsa),
        (Algorithm::Rs256, include_str!("rsa-1024.pem")),
        (Algorithm::EdDsa, public),
        (Algorithm::EdDsa, "secret"),
    ] {
        let error = SigningKey::from_pem(algorithm, &pem(text)).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{algorithm:?}");
        assert!(!format!("{error:?}").contains("secret\""));
    }
    assert!(SigningKey::shared("s", &Secret::new(vec![7; 31])).is_err());
    let shown = format!("{:?}", signing_keys());
    assert!(shown.starts_with("[SigningKey(EdDSA "), "{shown}");
}
