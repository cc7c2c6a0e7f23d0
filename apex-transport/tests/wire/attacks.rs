//! The known attacks on the door, in one table, and those that need more than one request.

use crate::support::http::raw;
use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::auth::jwt::{KeyRing, SigningKey};
use apex_core::auth::{AuthParts, TokenAuthority};
use apex_core::clock::Clock as _;
use apex_core::config::Secret;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

const ISSUER: &str = "https://apex.example";
const PAGE_ORIGIN: (&str, &str) = ("origin", PAGE);

struct Forge {
    wire: Wire,
    key: SigningKey,
    good: String,
}

impl Forge {
    async fn start() -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let tokens = TokenAuthority::new(KeyRing::new(key.clone()), ISSUER, "apex");
        let parts = AuthParts { tokens: Some(tokens), ..AuthParts::default() };
        let wire = Wire::start_with(Settings { parts, ..Settings::default() }).await;
        let good = wire.token("ada").await;
        Self { wire, key, good }
    }

    /// The good token's claims with a change, signed by the good key.
    fn signed(&self, change: Value) -> String {
        let mut claims = part(&self.good, 1);
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.key.sign("at+jwt", &claims).unwrap().reveal().clone()
    }

    /// The good token under another header.
    fn under(&self, change: Value) -> String {
        let mut header = part(&self.good, 0);
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        let (_, rest) = self.good.split_once('.').unwrap();
        format!("{}.{rest}", encode(header.to_string().as_bytes()))
    }
}

fn part(token: &str, place: usize) -> Value {
    serde_json::from_slice(&decode(token.split('.').nth(place).unwrap())).unwrap()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let value = |byte| ALPHABET.iter().position(|known| *known == byte).unwrap() as u32;
        let bits = four.iter().fold(0_u32, |bits, byte| bits << 6 | value(*byte));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

#[tokio::test]
async fn every_attack_on_the_door_is_turned_away() {
    let forge = Forge::start().await;
    let wire = &forge.wire;
    let now = wire.clock.now().as_millis() / 1_000;
    let (other_key, _) = SigningKey::generate().unwrap();
    let published = wire.get("/.well-known/jwks.json", &[]).await.json()["keys"][0].clone();
    let mut public = published.to_string().into_bytes();
    public.resize(public.len().max(32), 0);
    let kid = published["kid"].as_str().unwrap();
    let shared = SigningKey::shared(kid, &Secret::new(public)).unwrap();
    let by_public = shared.sign("at+jwt", &part(&forge.good, 1)).unwrap().reveal().clone();
    let (unsigned, _) = forge.good.rsplit_once('.').unwrap();
    let none = forge.under(json!({"alg": "none"}));
    let attacks = [
        ("alg none", none.clone()),
        ("alg none without a signature", format!("{}.", none.rsplit_once('.').unwrap().0)),
        ("no signature", format!("{unsigned}.")),
        ("HS256 with the public key", by_public),
        ("a kid that is a path", forge.under(json!({"kid": "../../../dev/null"}))),
        ("a kid that is SQL", forge.under(json!({"kid": "' OR 1=1 --"}))),
        ("jku", forge.under(json!({"jku": "https://evil.example/jwks.json"}))),
        ("a key of its own", forge.under(json!({"jwk": published}))),
        ("another key", other_key.sign("at+jwt", &part(&forge.good, 1)).unwrap().reveal().clone()),
        ("a huge token", format!("{}{}", forge.good, "A".repeat(8 * 1024))),
        ("expired by 31 s", forge.signed(json!({"iat": now - 600, "exp": now - 31}))),
        ("from the future", forge.signed(json!({"iat": now + 60}))),
        ("good for years", forge.signed(json!({"exp": now + 100_000_000}))),
        ("for another audience", forge.signed(json!({"aud": "other"}))),
        ("of another issuer", forge.signed(json!({"iss": "https://evil.example"}))),
        ("a refresh token's use", forge.signed(json!({"apex_use": "refresh"}))),
        ("no user", forge.signed(json!({"sub": "admin"}))),
        ("no login", forge.signed(json!({"sid": null}))),
    ];
    for (attack, token) in &attacks {
        let auth = bearer(token);
        let answer = wire.get("/threads", &[("authorization", &auth)]).await;
        assert_eq!(answer.status, 401, "{attack}, for a request");
        let refused = Socket::open(wire.address, "/ws", &[("authorization", &auth)]).await;
        assert_eq!(refused.expect_err(attack).status, 401, "{attack}, by header");
        let protocol = format!("apex.v1, apex.bearer.{token}");
        let headers = [("sec-websocket-protocol", protocol.as_str()), PAGE_ORIGIN];
        let mut page = Socket::open(wire.address, "/ws", &headers).await.unwrap();
        assert_eq!(page.closed().await.0, 4401, "{attack}, by subprotocol");
        let cookie = format!("__Host-apex_session={token}");
        let headers = [("cookie", cookie.as_str()), PAGE_ORIGIN];
        let mut page = Socket::open(wire.address, "/ws", &headers).await.unwrap();
        assert_eq!(page.closed().await.0, 4401, "{attack}, by cookie");
        let mut hello = wire.unknown().await;
        hello.say(json!({"frame": "hello", "token": token})).await;
        assert_eq!(hello.closed().await.0, 4401, "{attack}, by hello");
        for path in [format!("/ws?token={token}"), format!("/ws?ticket={token}")] {
            let refused = Socket::open(wire.address, &path, &[]).await.unwrap_err();
            assert_eq!(refused.status, 401, "{attack}, in the query");
        }
    }
    wire.socket(&forge.good).await;
}

#[tokio::test]
async fn a_page_elsewhere_gets_nothing_by_whatever_name_it_has() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let auth = bearer(&token);
    let cookie = format!("__Host-apex_session={token}");
    for origin in [
        "null",
        "https://chat.example.com.evil.example",
        "https://evilchat.example.com",
        "https://chat.example.com:444",
        "http://chat.example.com",
        "https://CHAT.example.com",
        "https://chat.example.com@evil.example",
        "https://chat.example.com%2f@evil.example",
        "file://",
        "",
    ] {
        let headers = [("origin", origin), ("authorization", auth.as_str()), ("cookie", &cookie)];
        let refused = Socket::open(wire.address, "/ws", &headers).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (403, &json!("origin_denied")),
            "{origin}"
        );
        let answer = wire.get("/threads", &headers).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn a_ticket_is_used_once_by_its_own_user_from_its_own_page() {
    let wire = Wire::start().await;
    let (ada, bob) = (wire.token("ada").await, wire.token("bob").await);
    let path = format!("/ws?ticket={}", wire.ticket(&ada).await);
    // The ticket decides; the cookie of another is not even read.
    let cookie = format!("__Host-apex_session={bob}");
    let mut socket =
        Socket::open(wire.address, &path, &[("cookie", &cookie), PAGE_ORIGIN]).await.unwrap();
    let user = wire.principal(&ada).await.user().to_string();
    assert_eq!(socket.frame().await["user"], user);
    assert_eq!(Socket::open(wire.address, &path, &[]).await.unwrap_err().status, 401, "twice");
}

#[tokio::test]
async fn a_request_is_not_smuggled_in_the_head_of_another() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let host = wire.address;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for head in [
        format!("authorization: Bearer {token}\r\nauthorization: Bearer wrong\r\n"),
        format!("authorization: Bearer wrong\r\nAuthorization: Bearer {token}\r\n"),
        format!("authorization: Bearer wrong, Bearer {token}\r\n"),
        format!("authorization: Bearer\t{token} x\r\n"),
        "sec-websocket-protocol: apex.v1, apex.ticket.a\r\nsec-websocket-protocol: apex.ticket.b\r\n".into(),
        format!("origin: {PAGE}\r\norigin: https://evil.example\r\n"),
        format!("cookie: __Host-apex_session={token}\r\ncookie: __Host-apex_session=x\r\norigin: {PAGE}\r\n"),
    ] {
        let request = format!("GET /ws HTTP/1.1\r\nhost: {host}\r\n{upgrade}{head}\r\n");
        let answer = tokio::time::timeout(Duration::from_millis(500), raw(host, request.as_bytes()));
        // Who stays connected was answered with a close, and has not been let in.
        if let Ok(Some(answer)) = answer.await {
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(matches!(answer.status, 101 | 400 | 401 | 403), "{} {head}", answer.status);
            assert!(!told.contains("welcome"), "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_who_say_nothing_keep_nobody_out() {
    let mut settings = Settings::default();
    settings.transport.hub.unknown = 100;
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let mut held = Vec::new();
    let mut turned_away = 0;
    for _ in 0..100 {
        let opened = (0..100).map(|_| Socket::open(wire.address, "/ws", &[]));
        for opened in join_all(opened).await {
            match opened {
                Ok(socket) => held.push(socket),
                Err(refusal) => {
                    assert_eq!(refusal.status, 503);
                    turned_away += 1;
                }
            }
        }
        assert!(wire.statistics().unknown <= 100);
    }
    assert!(turned_away > 5_000, "{turned_away}");
    // Whoever has something to show comes in all the same.
    drop(wire.socket(&token).await);
    let protocol = format!("apex.v1, apex.ticket.{}", wire.ticket(&token).await);
    let headers = [("sec-websocket-protocol", protocol.as_str())];
    let mut socket = Socket::open(wire.address, "/ws", &headers).await.unwrap();
    assert_eq!(socket.frame().await["frame"], "welcome");
    drop((held, socket));
    wire.emptied().await;
}
