//! Who may do what at the door beyond users: services, operators, and a host's own ways in. And what goes on record.

use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::auth::jwt::{KeyRing, SigningKey};
use apex_core::auth::{
    AddressMask, AuditQuery, Auth, AuthParts, Credential, Entry, Presented, ServiceTokens,
    TokenAuthority,
};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::UserId;
use apex_core::principal::{Principal, Scope, Scopes};
use apex_core::thread::Whose;
use apex_transport::{AuthMethod, Chain, Knock};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ISSUER: &str = "https://apex.example";

fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

/// A node with signed tokens, which lets the service `operator` administer.
async fn signed() -> Wire {
    let services = ServiceTokens::new(KeyRing::new(key()), ISSUER, "apex").unwrap();
    let admin = Scopes::NONE.with(Scope::Admin);
    let parts = AuthParts {
        tokens: Some(TokenAuthority::new(KeyRing::new(key()), ISSUER, "apex")),
        services: Some(services.allow("apex", admin).unwrap()),
        ..AuthParts::default()
    };
    Wire::start_with(Settings { parts, ..Settings::default() }).await
}

fn operator(wire: &Wire) -> String {
    let scopes = Scopes::NONE.with(Scope::Admin);
    bearer(wire.auth.service_token("apex", scopes).unwrap().reveal())
}

async fn record(wire: &Wire) -> Vec<Value> {
    assert!(wire.auth.audit_written(Duration::from_secs(5)).await);
    let auth = operator(wire);
    let page = wire.get("/admin/audit?limit=1000", &[("authorization", &auth)]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_signed_token_opens_every_door_until_its_login_ends() {
    let wire = signed().await;
    let token = wire.token("ada").await;
    assert_eq!(token.split('.').count(), 3);
    let auth = bearer(&token);
    assert_eq!(wire.get("/threads", &[("authorization", &auth)]).await.status, 200);
    let protocol = format!("apex.v1, apex.bearer.{token}");
    let headers = [("sec-websocket-protocol", protocol.as_str())];
    let mut by_protocol = Socket::open(wire.address, "/ws", &headers).await.unwrap();
    assert_eq!(by_protocol.frame().await["frame"], "welcome");
    let mut by_hello = wire.unknown().await;
    assert_eq!(by_hello.call(json!({"frame": "hello", "token": token})).await["frame"], "welcome");
    let path = format!("/ws?ticket={}", wire.ticket(&token).await);
    let mut by_ticket = Socket::open(wire.address, &path, &[]).await.unwrap();
    assert_eq!(by_ticket.frame().await["frame"], "welcome");
    // In the query it is refused, as itself and as a ticket.
    for path in [format!("/ws?token={token}"), format!("/ws?ticket={token}")] {
        assert_eq!(Socket::open(wire.address, &path, &[]).await.unwrap_err().status, 401);
    }
    wire.post("/auth/logout", &[("authorization", &auth)], "").await;
    for socket in [&mut by_protocol, &mut by_hello, &mut by_ticket] {
        assert_eq!(socket.closed().await.0, 4401);
    }
    assert_eq!(wire.get("/threads", &[("authorization", &auth)]).await.status, 401);
}

#[tokio::test]
async fn the_public_keys_are_published_for_everybody() {
    let wire = signed().await;
    let answer = wire.get("/.well-known/jwks.json", &[]).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("public, max-age=300")));
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    for key in keys {
        assert_eq!(
            (&key["kty"], &key["alg"], &key["use"]),
            (&json!("OKP"), &json!("EdDSA"), &json!("sig"))
        );
        assert!(key.get("d").is_none());
    }
    let plain = Wire::start().await;
    assert_eq!(plain.get("/.well-known/jwks.json", &[]).await.status, 404);
}

#[tokio::test]
async fn operators_routes_take_only_a_services_token() {
    let wire = signed().await;
    let login = wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await.json();
    let user = wire.get("/auth/sessions", &[]).await;
    assert_eq!(user.status, 401);
    let token = login["token"].as_str().unwrap();
    let of_user = bearer(token);
    let of_refresh = bearer(login["refresh"].as_str().unwrap());
    let of_ticket = bearer(&wire.ticket(token).await);
    let of_other = bearer(wire.auth.service_token("billing", Scopes::USER).unwrap().reveal());
    let without_right = bearer(wire.auth.service_token("apex", Scopes::USER).unwrap().reveal());
    let unknown = UserId::new(&SystemClock);
    let routes = [
        ("GET", "/admin/audit".to_owned()),
        ("POST", format!("/admin/users/{unknown}/disable")),
        ("POST", format!("/admin/users/{unknown}/enable")),
        ("DELETE", format!("/admin/users/{unknown}")),
        ("DELETE", format!("/admin/users/{unknown}/sessions")),
    ];
    for (method, path) in &routes {
        for auth in ["", &of_user, &of_refresh, &of_ticket, &of_other] {
            let refused = wire.ask(method, path, &[("authorization", auth)], b"").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (401, "unauthenticated"),
                "{path}"
            );
        }
        let cookie = format!("__Host-apex_session={token}");
        let page = [("cookie", cookie.as_str()), ("origin", PAGE), ("x-apex-csrf", "1")];
        assert_eq!(wire.ask(method, path, &page, b"").await.status, 401, "{path}");
        let refused = wire.ask(method, path, &[("authorization", &without_right)], b"").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{path}");
    }
    // And a service's token is no user's.
    let of_service = operator(&wire);
    for path in ["/threads", "/auth/sessions", "/files"] {
        assert_eq!(wire.get(path, &[("authorization", &of_service)]).await.status, 401, "{path}");
    }
    let refused = Socket::open(wire.address, "/ws", &[("authorization", &of_service)]).await;
    assert_eq!(refused.unwrap_err().status, 401);
    // Where no service is set up there is no such token.
    let plain = Wire::start().await;
    assert_eq!(plain.get("/admin/audit", &[("authorization", &of_service)]).await.status, 401);
}

#[tokio::test]
async fn an_operator_bars_and_erases() {
    let wire = signed().await;
    let auth = operator(&wire);
    let admin = [("authorization", auth.as_str())];
    let token = wire.token("ada").await;
    let mut socket = wire.unknown().await;
    let welcome = socket.call(json!({"frame": "hello", "token": token})).await;
    let user = welcome["user"].as_str().unwrap().to_owned();
    let barred = wire.ask("POST", &format!("/admin/users/{user}/disable"), &admin, b"").await;
    assert_eq!((barred.status, &barred.json()["standing"]), (200, &json!("disabled")));
    assert_eq!(socket.closed().await.0, 4401);
    assert_eq!(wire.post("/auth/dev", &[], r#"{"user":"ada"}"#).await.status, 403);
    let back = wire.ask("POST", &format!("/admin/users/{user}/enable"), &admin, b"").await;
    assert_eq!(back.json()["standing"], "active");
    wire.clock.advance(Duration::from_secs(1));
    let token = wire.token("ada").await;
    let ended = wire.ask("DELETE", &format!("/admin/users/{user}/sessions"), &admin, b"").await;
    assert_eq!(ended.status, 204);
    let of_user = bearer(&token);
    assert_eq!(wire.get("/threads", &[("authorization", &of_user)]).await.status, 401);
    // With all that the user has, and all that is under way.
    let token = wire.token("ada").await;
    let principal = wire.principal(&token).await;
    let mut socket = wire.socket(&token).await;
    let begun = socket.start("ask").await;
    let run = begun["run"].as_str().unwrap().parse().unwrap();
    wire.stores.runs.view(&principal, run).await.unwrap();
    let erased = wire.ask("DELETE", &format!("/admin/users/{user}"), &admin, b"").await;
    assert_eq!(erased.status, 204);
    assert_eq!(socket.closed().await.0, 4401);
    let gone = wire.stores.runs.view(&principal, run).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    let threads = wire.stores.threads.threads(&principal, Whose::Own, None, 10).await.unwrap();
    assert!(threads.items.is_empty());
    wire.clock.advance(Duration::from_secs(1));
    let mut anew = wire.unknown().await;
    let token = wire.token("ada").await;
    assert_ne!(anew.call(json!({"frame": "hello", "token": token})).await["user"], user);
    let nobody = UserId::new(&SystemClock);
    for (method, path) in [
        ("POST", format!("/admin/users/{nobody}/disable")),
        ("DELETE", format!("/admin/users/{nobody}")),
        ("DELETE", "/admin/users/x".to_owned()),
    ] {
        assert_eq!(wire.ask(method, &path, &admin, b"").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_happens_at_the_door_can_be_read_afterwards() {
    let mut settings = Settings::default();
    let services = ServiceTokens::new(KeyRing::new(key()), ISSUER, "apex").unwrap();
    let admin = Scopes::NONE.with(Scope::Admin);
    settings.parts.services = Some(services.allow("apex", admin).unwrap());
    settings.auth.addresses = AddressMask::Full;
    settings.transport.trusted_proxies = 1;
    let wire = Wire::start_with(settings).await;
    let from = ("x-forwarded-for", "6.6.6.6, 192.0.2.77");
    let token = wire.token("ada").await;
    let auth = bearer(&token);
    let refusal = Socket::open(wire.address, "/ws?ticket=unknown", &[from]).await.unwrap_err();
    drop(Socket::open(wire.address, "/ws", &[("authorization", &auth), from]).await.unwrap());
    let evil = [("origin", "https://evil.example"), from];
    assert_eq!(wire.get("/threads", &evil).await.status, 403);
    wire.post("/auth/logout", &[("authorization", &auth), from], "").await;
    let record = record(&wire).await;
    let find = |action: &str, reason: Value| {
        let found = record.iter().find(|event| {
            event["action"] == action && event.get("reason").cloned().unwrap_or_default() == reason
        });
        found.unwrap_or_else(|| panic!("no {action} {reason} in {record:?}")).clone()
    };
    let refused = find("ticket_redeem", json!("ticket_unknown"));
    assert_eq!(refused["correlation"], refusal.body["correlation"], "it leads to the answer");
    assert_eq!((&refused["way"], &refused["address"]), (&json!("query"), &json!("192.0.2.77")));
    let entered = find("entry", Value::Null);
    assert_eq!((&entered["way"], &entered["address"]), (&json!("bearer"), &json!("192.0.2.77")));
    assert!(entered["user"].is_string() && entered["session"].is_string());
    let denied = find("entry", json!("origin_denied"));
    assert_eq!(denied["address"], "192.0.2.77");
    find("login", Value::Null);
    assert_eq!(find("logout", Value::Null)["user"], entered["user"]);
    assert!(!format!("{record:?}").contains(&token));
    // Paged, and for one user only.
    let auth = operator(&wire);
    let admin = [("authorization", auth.as_str())];
    let first = wire.get("/admin/audit?limit=2", &admin).await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let second = wire.get(&format!("/admin/audit?limit=2&before={next}"), &admin).await.json();
    assert_ne!(first["items"], second["items"]);
    let user = entered["user"].as_str().unwrap();
    let of_user = wire.get(&format!("/admin/audit?user={user}"), &admin).await.json();
    let items = of_user["items"].as_array().unwrap();
    assert!(items.len() >= 3 && items.iter().all(|event| event["user"] == user));
}

#[tokio::test]
async fn without_a_trusted_proxy_the_address_is_that_of_the_socket() {
    let mut settings = Settings::default();
    settings.auth.addresses = AddressMask::Full;
    settings.auth.ticket_address = true;
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let path = format!("/ws?ticket={}", wire.ticket(&token).await);
    let claims = [("x-forwarded-for", "6.6.6.6")];
    let mut socket = Socket::open(wire.address, &path, &claims).await.unwrap();
    assert_eq!(socket.frame().await["frame"], "welcome");
    assert!(wire.auth.audit_written(Duration::from_secs(5)).await);
    let all = AuditQuery { user: None, before: None, limit: 100 };
    let record = wire.auth.audit(all).await.unwrap();
    assert!(record.len() >= 3);
    assert!(record.iter().all(|event| event.address.as_deref() == Some("127.0.0.1")));
}

/// A host's own way in: a key in a header, for one user.
#[derive(Debug)]
struct ApiKey(UserId);

#[async_trait]
impl AuthMethod for ApiKey {
    fn name(&self) -> &'static str {
        "api-key"
    }

    fn find(&self, knock: &Knock<'_>) -> Result<Option<Credential>> {
        let key = knock.headers.get("x-api-key").and_then(|key| key.to_str().ok());
        Ok(key.map(|key| Credential::Token(Secret::new(key.to_owned()))))
    }

    async fn verify(&self, _: &Auth, credential: &Credential, by: &Presented) -> Result<Entry> {
        match credential {
            Credential::Token(key) if key.reveal() == "sesame" => Ok(Entry {
                principal: Principal::vouched(self.0, Scopes::USER),
                way: by.way,
                expires_at: SystemClock.now().plus(Duration::from_secs(600)),
            }),
            _ => Err(Error::new(Kind::Unauthenticated, "test.key", "no such key")),
        }
    }
}

#[tokio::test]
async fn a_host_adds_a_way_of_its_own_and_takes_others_out() {
    let user = UserId::new(&SystemClock);
    let chain = Chain::default().without("query").without("hello").first(Arc::new(ApiKey(user)));
    let wire = Wire::start_with(Settings { chain, ..Settings::default() }).await;
    let token = wire.token("ada").await;
    let by_key = [("x-api-key", "sesame")];
    assert_eq!(wire.get("/threads", &by_key).await.status, 200);
    let mut socket = Socket::open(wire.address, "/ws", &by_key).await.unwrap();
    assert_eq!(socket.frame().await["user"], user.to_string());
    // First in the chain, it decides; and users do not mix.
    let auth = bearer(&token);
    let bad = [("x-api-key", "wrong"), ("authorization", auth.as_str())];
    assert_eq!(wire.get("/threads", &bad).await.status, 401);
    let two = [("x-api-key", "sesame"), ("authorization", auth.as_str())];
    let refused = Socket::open(wire.address, "/ws", &two).await.unwrap_err();
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("forbidden")));
    // What was taken out is no way in, and nobody waits for a hello.
    let path = format!("/ws?ticket={}", wire.ticket(&token).await);
    for path in [path.as_str(), "/ws"] {
        let refused = Socket::open(wire.address, path, &[]).await.unwrap_err();
        assert_eq!((refused.status, &refused.body["code"]), (401, &json!("unauthenticated")));
        let mut page = Socket::open(wire.address, path, &[("origin", PAGE)]).await.unwrap();
        assert_eq!(page.closed().await.0, 4401);
    }
}
