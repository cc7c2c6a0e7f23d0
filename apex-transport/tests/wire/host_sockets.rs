//! Sockets and routes of a host's own, behind our door.

use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer, host};
use futures_util::SinkExt as _;
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// A socket over which the host says what it is told.
async fn echo(wire: &Wire, token: &str) -> Socket {
    let address = host::start(wire.service.clone()).await;
    let auth = bearer(token);
    Socket::open(address, "/echo", &[("authorization", &auth)]).await.unwrap()
}

#[tokio::test]
async fn a_route_of_the_hosts_speaks_its_own_language_to_whoever_is_let_in() {
    let wire = Wire::start().await;
    let mut socket = echo(&wire, &wire.token("ada").await).await;
    for said in [Message::text("hello"), Message::binary(vec![0, 255])] {
        socket.stream.send(said.clone()).await.unwrap();
        assert_eq!(socket.message().await, Some(said));
    }
    assert_eq!((wire.statistics().connections, wire.statistics().users), (1, 1));
    drop(socket);
    wire.emptied().await;
}

#[tokio::test]
async fn its_door_is_ours() {
    let wire = Wire::start().await;
    let address = host::start(wire.service.clone()).await;
    for path in ["/echo", "/ws"] {
        let bad = format!("{path}?ticket=unknown");
        let refusal = Socket::open(address, &bad, &[]).await.unwrap_err();
        assert_eq!((refusal.status, &refusal.body["code"]), (401, &json!("unauthenticated")));
        let evil = [("origin", "https://evil.example")];
        let refusal = Socket::open(address, path, &evil).await.unwrap_err();
        assert_eq!((refusal.status, &refusal.body["code"]), (403, &json!("origin_denied")));
        // A page can read no status.
        let closed = Socket::open(address, &bad, &[("origin", PAGE)]).await.unwrap().closed().await;
        assert_eq!(closed, (4401, "unauthenticated".to_owned()), "{path}");
    }
    // Only our own frames have a `hello`.
    assert_eq!(Socket::open(address, "/echo", &[]).await.unwrap_err().status, 401);
    let mut silent = Socket::open(address, "/ws", &[]).await.unwrap();
    let token = wire.token("ada").await;
    let welcome = silent.call(json!({"frame": "hello", "token": token})).await;
    assert_eq!(welcome["frame"], "welcome");
    let ticket = format!("apex.v1, apex.ticket.{}", wire.ticket(&token).await);
    let offered = [("sec-websocket-protocol", ticket.as_str())];
    let page = Socket::open(address, "/ws", &offered).await.unwrap();
    assert_eq!(page.protocol.as_deref(), Some("apex.v1"));
    drop((silent, page));
    wire.emptied().await;
}

#[tokio::test]
async fn binary_messages_over_a_hosts_socket_are_refused_as_over_ours() {
    let wire = Wire::start().await;
    let address = host::start(wire.service.clone()).await;
    let auth = bearer(&wire.token("ada").await);
    let mut socket = Socket::open(address, "/ws", &[("authorization", &auth)]).await.unwrap();
    socket.stream.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(socket.closed().await.0, 1003);
    wire.emptied().await;
}

#[tokio::test]
async fn what_ends_our_connections_ends_the_hosts() {
    let mut settings = Settings::default();
    settings.transport.connection.frame_bytes = 16 * 1024;
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let mut large = echo(&wire, &token).await;
    large.stream.send(Message::text("x".repeat(16 * 1024 + 1))).await.unwrap();
    assert_eq!(large.closed().await.0, 1009);
    let mut logged_out = echo(&wire, &token).await;
    let auth = bearer(&token);
    assert_eq!(wire.post("/auth/logout", &[("authorization", &auth)], "").await.status, 204);
    assert_eq!(logged_out.closed().await.0, 4401);
    let mut drained = echo(&wire, &wire.token("ada").await).await;
    wire.service.hub().drain();
    assert_eq!(drained.closed().await.0, 1012);
    drop((large, logged_out, drained));
    wire.emptied().await;
}

#[tokio::test]
async fn a_credential_that_runs_out_ends_it() {
    let mut settings = Settings::default();
    settings.auth.token_life = Duration::from_secs(6);
    let wire = Wire::start_with(settings).await;
    let mut socket = echo(&wire, &wire.token("ada").await).await;
    assert_eq!(socket.closed().await.0, 4501);
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_or_takes_nothing_is_let_go() {
    let mut settings = Settings::default();
    let connection = &mut settings.transport.connection;
    connection.heartbeat = Duration::from_secs(1);
    connection.outbound_wait = Duration::from_secs(1);
    connection.close_within = Duration::from_millis(200);
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    // Its owner never reads, so that no ping is answered.
    let silent = echo(&wire, &token).await;
    wire.emptied().await;
    drop(silent);
    let mut deaf = echo(&wire, &token).await;
    let large = Message::text("x".repeat(60_000));
    // Until neither side takes any more, or the server has hung up.
    let sending = async { while deaf.stream.send(large.clone()).await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), sending).await;
    wire.emptied().await;
}
