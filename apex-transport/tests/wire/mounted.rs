//! The service in a host's own server.

use crate::support::socket::Socket;
use crate::support::{Wire, bearer};
use serde_json::json;

#[tokio::test]
async fn it_mounts_in_axum_under_a_prefix_with_upgrades() {
    let wire = Wire::start().await;
    let app = axum::Router::new()
        .route("/", axum::routing::get(|| async { "the host's own" }))
        .nest_service("/apex", wire.service.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let token = bearer(&wire.token("ada").await);
    let mut socket = Socket::open(address, "/apex/ws", &[("authorization", &token)]).await.unwrap();
    assert_eq!(socket.frame().await["frame"], "welcome");
    let run = socket.start("thoughts 1").await["run"].clone();
    assert_eq!(socket.events(&run).await.len(), 5);
    assert_eq!(socket.call(json!({"frame": "ping", "n": 1})).await["frame"], "pong");
    let refusal = Socket::open(address, "/apex/ws?ticket=x", &[]).await.unwrap_err();
    assert_eq!(refusal.status, 401);
}
