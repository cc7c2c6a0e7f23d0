//! What others have signed.

use super::now;
use apex_core::auth::jwt::{Refusal, TokenPolicy, VerifyingKey, read_jwks};
use serde_json::{Value, json};
use std::time::Duration;

fn key(jwk: &Value) -> VerifyingKey {
    let set = json!({"keys": [jwk]}).to_string();
    read_jwks(set.as_bytes()).unwrap().remove(0)
}

/// Takes any header without a type: what is left to refuse is the claims, which are read after the signature.
fn refusal(token: &str, jwk: &Value) -> Refusal {
    let policy = TokenPolicy {
        issuer: "joe".into(),
        audience: "x".into(),
        token_use: None,
        types: vec![String::new()],
        longest_life: Duration::from_secs(60),
    };
    policy.verify(token, &[key(jwk)], now()).unwrap_err()
}

fn assert_signed(token: &str, jwk: &Value) {
    assert_eq!(refusal(token, jwk), Refusal::MissingClaim, "the signature is good");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut changed = signature.to_owned().into_bytes();
    changed[10] = if changed[10] == b'A' { b'B' } else { b'A' };
    let changed = format!("{signed}.{}", String::from_utf8(changed).unwrap());
    assert_eq!(refusal(&changed, jwk), Refusal::WrongSignature);
}

/// RFC 8037, appendix A.
#[test]
fn ed25519() {
    let jwk =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(key(&jwk).id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_signed(
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
         hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        &jwk,
    );
}

/// RFC 7515, appendix A.3.
#[test]
fn p256() {
    let jwk = json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    assert_signed(
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS\
         9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJq\
         PP3-Kg6NU1Q",
        &jwk,
    );
}

/// RFC 7638, section 3.1.
#[test]
fn the_thumbprint_of_an_rsa_key() {
    let jwk = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPe\
              bWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368Q\
              QMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2Nc\
              Rwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
    });
    assert_eq!(key(&jwk).id(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}
