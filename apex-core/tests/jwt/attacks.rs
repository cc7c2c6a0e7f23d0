use super::{AUDIENCE, ISSUER, NOW, claims, now, policy, signing_keys};
use apex_core::auth::jwt::{Refusal, SigningKey, TokenPolicy, TokenUse, VerifyingKey, jwks_of};
use apex_core::config::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A token of any header and claims, signed by a key whatever the header says.
fn forge(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let token = key.sign("x", claims).unwrap();
    let (_, rest) = token.reveal().split_once('.').unwrap();
    let (claims, _) = rest.rsplit_once('.').unwrap();
    let signed = format!("{}.{claims}", encode(header));
    // Signing again what the header makes of it.
    let signature = raw_signature(key, &signed);
    format!("{signed}.{signature}")
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// A signature over any text, by *ring* itself.
fn raw_signature(key: &SigningKey, text: &str) -> String {
    use ring::signature::Ed25519KeyPair;
    assert_eq!(key.verifying().algorithm().name(), "EdDSA");
    let pem = include_str!("ed25519.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
    URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()))
}

fn refusal(token: &str, keys: &[VerifyingKey]) -> Refusal {
    policy().verify(token, keys, now()).unwrap_err()
}

#[test]
fn a_good_token_of_each_algorithm_is_believed() {
    for key in signing_keys() {
        let token = key.sign("at+jwt", &claims()).unwrap();
        let keys = [key.verifying().clone()];
        let believed = policy().verify(token.reveal(), &keys, now()).unwrap();
        assert_eq!(believed.sub, "0192d1f0-0000-7000-8000-000000000001", "{key:?}");
        assert_eq!(believed.expires_at().as_millis(), (NOW + 600) * 1_000);
        let said_in_full = key.sign("application/AT+JWT", &claims()).unwrap();
        assert!(policy().verify(said_in_full.reveal(), &keys, now()).is_ok());
    }
}

#[test]
fn no_header_leads_to_a_key_or_asks_for_special_treatment() {
    let key = &signing_keys()[0];
    let keys = [key.verifying().clone()];
    let kid = key.verifying().id();
    let own_key = serde_json::to_value(jwks_of(&keys)).unwrap()["keys"][0].clone();
    let header = |change: Value| {
        let mut header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid});
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    };
    assert!(policy().verify(&forge(&header(json!({})), &claims(), key), &keys, now()).is_ok());
    for (change, reason) in [
        (json!({"alg": "none"}), Refusal::WrongAlgorithm),
        (json!({"alg": "None"}), Refusal::WrongAlgorithm),
        (json!({"alg": "eddsa"}), Refusal::WrongAlgorithm),
        (json!({"alg": ""}), Refusal::WrongAlgorithm),
        (json!({"alg": "HS256"}), Refusal::WrongAlgorithm),
        (json!({"alg": "RS256"}), Refusal::WrongAlgorithm),
        (json!({"alg": 1}), Refusal::Malformed),
        (json!({"kid": "../../../../dev/null"}), Refusal::UnknownKey),
        (json!({"kid": "x' UNION SELECT 'key' --"}), Refusal::UnknownKey),
        (json!({"kid": ""}), Refusal::UnknownKey),
        (json!({"kid": "x".repeat(129)}), Refusal::UnknownKey),
        (json!({"kid": "another"}), Refusal::UnknownKey),
        (json!({"kid": 7}), Refusal::Malformed),
        (json!({"jku": "https://evil.example/keys"}), Refusal::SpecialHeader),
        (json!({"x5u": "https://evil.example/cert"}), Refusal::SpecialHeader),
        (json!({"x5c": ["MIIB"]}), Refusal::SpecialHeader),
        (json!({"jwk": own_key}), Refusal::SpecialHeader),
        (json!({"crit": ["exp"], "exp": 1}), Refusal::SpecialHeader),
        (json!({"crit": []}), Refusal::SpecialHeader),
        (json!({"b64": false}), Refusal::SpecialHeader),
        (json!({"zip": "DEF"}), Refusal::SpecialHeader),
        (json!({"enc": "A128GCM"}), Refusal::SpecialHeader),
        (json!({"typ": "JWT"}), Refusal::WrongUse),
        (json!({"typ": null}), Refusal::WrongUse),
        (json!({"typ": "apex-service+jwt"}), Refusal::WrongUse),
    ] {
        let token = forge(&header(change.clone()), &claims(), key);
        assert_eq!(refusal(&token, &keys), reason, "{change}");
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let keys = signing_keys();
    for key in &keys[..3] {
        let public = serde_json::to_value(jwks_of([key.verifying()])).unwrap()["keys"][0].clone();
        for secret in [public.to_string(), include_str!("rsa.pem").to_owned()] {
            let mut secret = secret.into_bytes();
            secret.resize(secret.len().max(32), 0);
            let shared = SigningKey::shared(key.verifying().id(), &Secret::new(secret)).unwrap();
            let token = shared.sign("at+jwt", &claims()).unwrap();
            let known = [key.verifying().clone()];
            assert_eq!(refusal(token.reveal(), &known), Refusal::WrongAlgorithm, "{key:?}");
        }
    }
}

#[test]
fn a_token_of_one_key_is_not_one_of_another() {
    let keys = signing_keys();
    for signer in &keys {
        let token = signer.sign("at+jwt", &claims()).unwrap();
        for other in keys.iter().filter(|other| other.verifying().id() != signer.verifying().id()) {
            let known = [other.verifying().clone()];
            assert_eq!(refusal(token.reveal(), &known), Refusal::UnknownKey);
        }
        let all: Vec<_> = keys.iter().map(|key| key.verifying().clone()).collect();
        assert!(policy().verify(token.reveal(), &all, now()).is_ok());
        assert_eq!(refusal(token.reveal(), &[]), Refusal::UnknownKey);
    }
}

#[test]
fn a_changed_token_is_refused() {
    for key in signing_keys() {
        let known = [key.verifying().clone()];
        let token = key.sign("at+jwt", &claims()).unwrap();
        let token = token.reveal();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        let mut other = claims();
        other["sub"] = json!("admin");
        let zeros = URL_SAFE_NO_PAD.encode(vec![0; signature.len() * 3 / 4]);
        for (changed, reason) in [
            (format!("{header}.{}.{signature}", encode(&other)), Refusal::WrongSignature),
            (format!("{header}.{body}."), Refusal::WrongSignature),
            (format!("{header}.{body}.{zeros}"), Refusal::WrongSignature),
            (format!("{header}.{body}"), Refusal::Malformed),
            (format!("{header}.{body}.{signature}="), Refusal::Malformed),
            (format!("{header}.{body}.{signature}.x"), Refusal::Malformed),
            (format!(" {token}"), Refusal::Malformed),
            (format!("{header}.{body}.{}", &signature[1..]), Refusal::WrongSignature),
            (String::new(), Refusal::Malformed),
            ("..".to_owned(), Refusal::Malformed),
            ("a.b.c".to_owned(), Refusal::Malformed),
            (format!("{token}{}", "x".repeat(8 * 1024)), Refusal::TooLong),
        ] {
            let told = refusal(&changed, &known);
            let malformed = told == Refusal::Malformed && reason == Refusal::WrongSignature;
            assert!(told == reason || malformed, "{changed}: {told:?}");
        }
    }
}

#[test]
fn every_claim_that_matters_is_checked() {
    let key = &signing_keys()[0];
    let known = [key.verifying().clone()];
    let with = |change: Value| {
        let mut changed = claims();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                changed.as_object_mut().unwrap().remove(name);
            } else {
                changed[name] = value.clone();
            }
        }
        let token = key.sign("at+jwt", &changed).unwrap();
        policy().verify(token.reveal(), &known, now()).map(drop)
    };
    for good in [
        json!({"aud": ["other", AUDIENCE]}),
        json!({"exp": NOW - 30, "iat": NOW - 600}),
        json!({"iat": NOW + 30, "nbf": NOW + 30}),
        json!({"anything": {"else": [1, 2]}}),
        json!({"sid": 4711}),
    ] {
        assert_eq!(with(good.clone()), Ok(()), "{good}");
    }
    for (change, reason) in [
        (json!({"exp": NOW - 31, "iat": NOW - 600}), Refusal::Expired),
        (json!({"iat": NOW + 31}), Refusal::NotYet),
        (json!({"nbf": NOW + 31}), Refusal::NotYet),
        (json!({"exp": NOW + 25 * 60 * 60}), Refusal::TooLongLived),
        (json!({"exp": i64::MAX}), Refusal::TooLongLived),
        (json!({"iat": i64::MIN}), Refusal::TooLongLived),
        (json!({"aud": "other"}), Refusal::WrongAudience),
        (json!({"aud": ["other"]}), Refusal::WrongAudience),
        (json!({"aud": []}), Refusal::WrongAudience),
        (json!({"aud": format!("{AUDIENCE} ")}), Refusal::WrongAudience),
        (json!({"iss": "https://issuer.example.evil"}), Refusal::WrongIssuer),
        (json!({"iss": format!("{ISSUER}/")}), Refusal::WrongIssuer),
        (json!({"sub": ""}), Refusal::MissingClaim),
        (json!({"sub": 5}), Refusal::MissingClaim),
        (json!({"exp": "soon"}), Refusal::MissingClaim),
        (json!({"exp": null}), Refusal::MissingClaim),
        (json!({"iss": null}), Refusal::MissingClaim),
        (json!({"aud": null}), Refusal::MissingClaim),
        (json!({"sub": null}), Refusal::MissingClaim),
        (json!({"iat": null}), Refusal::MissingClaim),
        (json!({"apex_use": null}), Refusal::WrongUse),
        (json!({"apex_use": "service"}), Refusal::WrongUse),
        (json!({"apex_use": "root"}), Refusal::MissingClaim),
    ] {
        assert_eq!(with(change.clone()), Err(reason), "{change}");
    }
}

#[test]
fn a_claim_that_comes_twice_refuses_the_token() {
    let key = &signing_keys()[0];
    let body = claims().to_string().replacen('{', "{\"sub\":\"admin\",", 1);
    let header = encode(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": key.verifying().id()}));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(body));
    let token = format!("{signed}.{}", raw_signature(key, &signed));
    assert_eq!(refusal(&token, &[key.verifying().clone()]), Refusal::MissingClaim);
}

#[test]
fn no_use_stands_in_for_another() {
    let key = &signing_keys()[0];
    let known = [key.verifying().clone()];
    for made in TokenUse::ALL {
        let mut claims = claims();
        claims["apex_use"] = serde_json::to_value(made).unwrap();
        claims["exp"] = json!(NOW + 60);
        let token = key.sign(made.header_type(), &claims).unwrap();
        for wanted in TokenUse::ALL {
            let policy = TokenPolicy::own(ISSUER, AUDIENCE, wanted);
            let verified = policy.verify(token.reveal(), &known, now());
            assert_eq!(verified.is_ok(), made == wanted, "{made:?} as {wanted:?}");
        }
        // Neither the type nor the claim alone is enough.
        for wanted in TokenUse::ALL.into_iter().filter(|wanted| *wanted != made) {
            let half = key.sign(wanted.header_type(), &claims).unwrap();
            let policy = TokenPolicy::own(ISSUER, AUDIENCE, wanted);
            let refused = policy.verify(half.reveal(), &known, now());
            assert_eq!(refused.unwrap_err(), Refusal::WrongUse);
        }
    }
}

proptest::proptest! {
    #[test]
    fn nothing_random_is_believed(token in "[A-Za-z0-9_.-]{0,200}|ey[A-Za-z0-9_-]{0,80}\\.ey[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,90}") {
        let known: Vec<_> = signing_keys().iter().map(|key| key.verifying().clone()).collect();
        proptest::prop_assert!(policy().verify(&token, &known, now()).is_err());
    }
}
