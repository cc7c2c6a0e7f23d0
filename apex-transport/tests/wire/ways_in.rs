//! The five ways in, what decides between them, and how each refusal looks to a page and to a program.

use crate::support::socket::{Refusal, Socket};
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::store::Stores;
use serde_json::json;
use std::time::Duration;

const ORIGIN: (&str, &str) = ("origin", PAGE);

async fn open(wire: &Wire, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Refusal> {
    Socket::open(wire.address, path, headers).await
}

/// The refusal of a client that is no page.
async fn refused(wire: &Wire, path: &str, headers: &[(&str, &str)]) -> Refusal {
    open(wire, path, headers).await.expect_err("let in")
}

/// The close that a page sees.
async fn closed(wire: &Wire, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let headers = [headers, &[ORIGIN]].concat();
    open(wire, path, &headers).await.expect("a page must be let in to be told").closed().await
}

async fn welcome(socket: &mut Socket) {
    let frame = socket.frame().await;
    assert_eq!(frame["frame"], "welcome", "{frame}");
}

#[tokio::test]
async fn every_way_lets_in() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let cookie = format!("__Host-apex_session={token}");
    let bearer = bearer(&token);
    let by_token = format!("apex.v1, apex.bearer.{token}");
    let by_ticket = format!("apex.v1, apex.ticket.{}", wire.ticket(&token).await);
    for headers in [
        vec![("authorization", bearer.as_str())],
        vec![("sec-websocket-protocol", by_token.as_str())],
        vec![("sec-websocket-protocol", by_ticket.as_str())],
        vec![("cookie", cookie.as_str()), ORIGIN],
    ] {
        let mut socket = open(&wire, "/ws", &headers).await.unwrap();
        let echoed = headers[0].0 == "sec-websocket-protocol";
        assert_eq!(socket.protocol.as_deref(), echoed.then_some("apex.v1"));
        welcome(&mut socket).await;
    }
    let path = format!("/ws?ticket={}", wire.ticket(&token).await);
    welcome(&mut open(&wire, &path, &[]).await.unwrap()).await;
    for credential in [json!({"token": token}), json!({"ticket": wire.ticket(&token).await})] {
        let mut socket = wire.unknown().await;
        let mut hello = credential;
        hello["frame"] = "hello".into();
        assert_eq!(socket.call(hello).await["frame"], "welcome");
    }
    wire.emptied().await;
}

#[tokio::test]
async fn a_bad_credential_is_a_status_for_a_program_and_a_close_code_for_a_page() {
    let wire = Wire::start().await;
    let path = "/ws?ticket=unknown";
    let refusal = refused(&wire, path, &[]).await;
    assert_eq!(refusal.status, 401);
    assert_eq!(refusal.body["code"], "unauthenticated");
    assert!(refusal.body["correlation"].is_string());
    assert!(refusal.headers.contains_key("www-authenticate"));
    assert_eq!(refusal.headers["cache-control"], "no-store");
    assert_eq!(closed(&wire, path, &[]).await, (4401, "unauthenticated".into()));
    wire.emptied().await;
}

#[tokio::test]
async fn the_first_credential_decides_and_a_bad_one_is_never_passed_over() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let good = bearer(&token);
    let cookie = format!("__Host-apex_session={token}");
    let protocol = format!("apex.v1, apex.ticket.{}", wire.ticket(&token).await);
    for headers in [
        vec![("authorization", "Bearer wrong"), ("sec-websocket-protocol", protocol.as_str())],
        vec![("authorization", "Bearer wrong"), ("cookie", cookie.as_str())],
        vec![("sec-websocket-protocol", "apex.v1, apex.bearer.wrong"), ("cookie", cookie.as_str())],
    ] {
        assert_eq!(closed(&wire, "/ws", &headers).await.0, 4401, "{headers:?}");
    }
    // A later bad one lets nobody in, and keeps nobody out.
    let headers =
        [("authorization", good.as_str()), ("sec-websocket-protocol", "apex.v1, apex.ticket.x")];
    welcome(&mut open(&wire, "/ws", &headers).await.unwrap()).await;
    // Another scheme counts as absent.
    let mut socket = open(&wire, "/ws", &[("authorization", "Basic dTpw")]).await.unwrap();
    assert_eq!(socket.call(json!({"frame": "hello", "token": token})).await["frame"], "welcome");
}

#[tokio::test]
async fn credentials_of_different_users_are_refused() {
    let wire = Wire::start().await;
    let (ada, bob) = (wire.token("ada").await, wire.token("bob").await);
    let of_ada = bearer(&ada);
    let path = format!("/ws?ticket={}", wire.ticket(&bob).await);
    let refusal = refused(&wire, &path, &[("authorization", &of_ada)]).await;
    assert_eq!((refusal.status, refusal.body["code"].as_str()), (403, Some("forbidden")));
    let path = format!("/ws?ticket={}", wire.ticket(&bob).await);
    let headers = [("authorization", of_ada.as_str())];
    assert_eq!(closed(&wire, &path, &headers).await.0, 4403);
    // The cookie is not read where another credential is.
    let cookie = format!("__Host-apex_session={bob}");
    let path = format!("/ws?ticket={}", wire.ticket(&ada).await);
    let mut socket = open(&wire, &path, &[("cookie", &cookie), ORIGIN]).await.unwrap();
    welcome(&mut socket).await;
}

#[tokio::test]
async fn a_cookie_without_an_allowed_page_is_nothing() {
    let wire = Wire::start().await;
    let cookie = format!("__Host-apex_session={}", wire.token("ada").await);
    let mut socket = open(&wire, "/ws", &[("cookie", &cookie)]).await.unwrap();
    let answer = socket.call(json!({"frame": "ping", "n": 1})).await;
    assert_eq!(answer["code"], "unauthenticated");
}

#[tokio::test]
async fn a_page_that_is_not_on_the_list_gets_no_socket_whatever_it_has() {
    let wire = Wire::start().await;
    let token = bearer(&wire.token("ada").await);
    for origin in [
        "null",
        "http://chat.example.com",
        "https://chat.example.com:444",
        "https://chat.example.com.evil.example",
        "https://notchat.example.com",
    ] {
        let headers = [("authorization", token.as_str()), ("origin", origin)];
        let refusal = refused(&wire, "/ws", &headers).await;
        assert_eq!(refusal.status, 403, "{origin}");
        assert_eq!(refusal.body["code"], "origin_denied");
    }
    assert_eq!(wire.statistics().admitted, 0);
}

#[tokio::test]
async fn a_ticket_opens_one_connection_once_however_many_try() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let path = format!("/ws?ticket={}", wire.ticket(&token).await);
    let attempts = (0..40).map(|_| open(&wire, &path, &[]));
    let sockets = futures_util::future::join_all(attempts).await;
    assert_eq!(sockets.iter().filter(|socket| socket.is_ok()).count(), 1);
    for refusal in sockets.iter().filter_map(|socket| socket.as_ref().err()) {
        assert_eq!(refusal.body["code"], "unauthenticated");
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_its_page_and_audience_and_half_a_minute() {
    let wire = Wire::start_with(Settings {
        transport: apex_transport::TransportConfig {
            origins: vec![PAGE.into(), "https://other.example".into()],
            ..Default::default()
        },
        ..Settings::default()
    })
    .await;
    let auth = bearer(&wire.token("ada").await);
    let buy = async |headers: &[(&str, &str)], body: &str| {
        let headers = [&[("authorization", auth.as_str())], headers].concat();
        let answer = wire.post("/auth/ticket", &headers, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        format!("/ws?ticket={}", answer.json()["ticket"].as_str().unwrap())
    };
    let of_page = buy(&[ORIGIN], "").await;
    let other = [("origin", "https://other.example")];
    let mut socket = open(&wire, &of_page, &other).await.unwrap();
    assert_eq!(socket.closed().await.0, 4401);
    // The failed check has burnt it.
    assert_eq!(closed(&wire, &of_page, &[]).await.0, 4401);
    let elsewhere = buy(&[], r#"{"audience":"reports"}"#).await;
    assert_eq!(refused(&wire, &elsewhere, &[]).await.status, 401);
    let late = buy(&[], "{}").await;
    wire.clock.advance(Duration::from_secs(31));
    assert_eq!(refused(&wire, &late, &[]).await.status, 401);
}

#[tokio::test]
async fn a_token_in_the_query_is_refused_by_any_name() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for path in [
        format!("/ws?token={token}"),
        format!("/ws?access_token={token}"),
        format!("/ws?ticket=x&jwt={token}"),
        "/ws?ticket=aaa.bbb.ccc".to_owned(),
    ] {
        let refusal = refused(&wire, &path, &[]).await;
        assert_eq!(refusal.status, 401, "{path}");
        assert!(!refusal.body.to_string().contains(&token));
        assert_eq!(closed(&wire, &path, &[]).await.0, 4401);
    }
}

#[tokio::test]
async fn a_user_has_twenty_connections() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let auth = bearer(&token);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(wire.socket(&token).await);
    }
    let refusal = refused(&wire, "/ws", &[("authorization", &auth)]).await;
    assert_eq!(
        (refusal.status, refusal.body["code"].as_str()),
        (429, Some("too_many_connections"))
    );
    assert_eq!(closed(&wire, "/ws", &[("authorization", &auth)]).await.0, 4429);
    let mut unknown = wire.unknown().await;
    unknown.say(json!({"frame": "hello", "token": token})).await;
    assert_eq!(unknown.closed().await.0, 4429);
    // Others are not affected, and a place that is left is free again.
    let bob = wire.token("bob").await;
    wire.socket(&bob).await;
    sockets.pop();
    for _ in 0..200 {
        if wire.statistics().connections < 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wire.socket(&token).await;
    drop(sockets);
    drop(unknown);
    wire.emptied().await;
}

/// Two nodes over one store of limits.
#[tokio::test]
async fn a_users_connections_are_limited_over_all_nodes() {
    let limited = |stores: Option<Stores>| {
        let mut settings = Settings::default();
        settings.transport.hub.per_user = 2;
        if let Some(shared) = stores {
            settings.stores = Box::new(|_| shared);
        }
        settings
    };
    let one = Wire::start_with(limited(None)).await;
    let two = Wire::start_with(limited(Some(one.stores.clone()))).await;
    let token = one.token("ada").await;
    let auth = bearer(&token);
    let first = one.socket(&token).await;
    let _second = two.socket(&token).await;
    for wire in [&one, &two] {
        let refusal = refused(wire, "/ws", &[("authorization", &auth)]).await;
        assert_eq!(refusal.status, 429);
        let mut unknown = wire.unknown().await;
        unknown.say(json!({"frame": "hello", "token": token})).await;
        assert_eq!(unknown.closed().await.0, 4429);
        wire.socket(&wire.token("bob").await).await;
    }
    // A place that is left on one node is free on the other.
    drop(first);
    one.emptied().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    two.socket(&token).await;
}

#[tokio::test]
async fn bytes_that_come_with_the_upgrade_are_not_lost() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    let hello = json!({"frame": "hello", "id": 1, "token": token}).to_string();
    let mut bytes = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        wire.address
    )
    .into_bytes();
    // A masked text frame with a mask of zeros, sent with the request itself.
    bytes.extend_from_slice(&[0x81, 0x80 | 126]);
    bytes.extend_from_slice(&u16::try_from(hello.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(hello.as_bytes());
    let mut stream = tokio::net::TcpStream::connect(wire.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("welcome") {
        let mut piece = [0; 1_024];
        let read = stream.read(&mut piece);
        let read = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..read]);
    }
    assert!(String::from_utf8_lossy(&answer).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_what_one_is() {
    let wire = Wire::start().await;
    for headers in [
        vec![],
        vec![("upgrade", "websocket")],
        vec![
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "x"),
        ],
        vec![("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")],
        vec![
            ("connection", "upgrade"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "x"),
        ],
    ] {
        let answer = wire.get("/ws", &headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{headers:?}");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[tokio::test]
async fn logging_out_closes_the_connections_of_that_login_alone() {
    let wire = Wire::start().await;
    let (first, second) = (wire.token("ada").await, wire.token("ada").await);
    let unused = wire.ticket(&first).await;
    let mut closed = wire.socket(&first).await;
    let mut stays = wire.socket(&second).await;
    let auth = bearer(&first);
    let answer = wire.post("/auth/logout", &[("authorization", &auth)], "").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(closed.closed().await, (4401, "logged out".into()));
    // A ticket that the login bought before opens nothing any more.
    let path = format!("/ws?ticket={unused}");
    assert_eq!(refused(&wire, &path, &[]).await.status, 401);
    assert_eq!(stays.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    let again = wire.get("/threads", &[("authorization", &auth)]).await;
    assert_eq!((again.status, again.code().as_str()), (401, "unauthenticated"));
}
