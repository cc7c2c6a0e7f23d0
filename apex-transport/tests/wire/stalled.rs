//! Clients that stop reading in the middle of an answer: whatever the route, the socket is given up in the same time.

use crate::support::listener::{begin, uuid};
use crate::support::{Settings, Wire, bearer};
use bytes::Bytes;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

const WAIT: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Far more than the sockets of both sides and the bound together.
const LARGE: usize = 32 << 20;

async fn start() -> Wire {
    let mut settings = Settings::default();
    settings.transport.connection.outbound_wait = WAIT;
    settings.transport.connection.close_within = Duration::from_millis(200);
    Wire::start_with(settings).await
}

/// Asks, and reads nothing but the beginning of the answer.
async fn stall(wire: &Wire, what: &str, token: &str, body: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(wire.address).await.unwrap();
    let (bearer, length) = (bearer(token), body.len());
    let request = format!(
        "{what} HTTP/1.1\r\nhost: {}\r\nauthorization: {bearer}\r\ncontent-length: {length}\r\n\r\n{body}",
        wire.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 15];
    stream.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200 OK");
    stream
}

/// Whether the server still has its end of the connection: what the system says of it, since whoever does not read
/// learns nothing.
fn is_open(server: SocketAddr, client: SocketAddr) -> bool {
    const ESTABLISHED: &str = "01";
    let shown = |address: SocketAddr| {
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
        format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), address.port())
    };
    let (near, far) = (shown(server), shown(client));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut next = || fields.next();
        (next(), next(), next()) == (Some(&near), Some(&far), Some(ESTABLISHED))
    })
}

/// Waits until the server has given the socket up, no sooner than it may; what is still read of it then has no end.
async fn given_up(wire: &Wire, mut stalled: TcpStream, begun: Instant) {
    let client = stalled.local_addr().unwrap();
    while is_open(wire.address, client) {
        assert!(begun.elapsed() < PATIENCE, "the socket is kept");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= WAIT, "given up after {:?}", begun.elapsed());
    let mut rest = Vec::new();
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(rest.len() < LARGE && !rest.ends_with(b"0\r\n\r\n"), "the answer was whole");
    wire.emptied().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_stops_reading_is_cut_off() {
    let wire = start().await;
    let token = wire.token("ada").await;
    let run = begin(&wire, &token, "slow 1 big 1000").await;
    let begun = Instant::now();
    let stalled = stall(&wire, &format!("GET /runs/{run}/events"), &token, "").await;
    given_up(&wire, stalled, begun).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_end_of_ag_ui_that_stops_reading_is_cut_off() {
    let wire = start().await;
    let token = wire.token("ada").await;
    let input = json!({
        "threadId": uuid(), "runId": uuid(), "state": {}, "tools": [], "context": [], "forwardedProps": {},
        "messages": [{"id": "1", "role": "user", "content": "slow 1 big 1000"}],
    });
    let begun = Instant::now();
    let stalled = stall(&wire, "POST /ag-ui", &token, &input.to_string()).await;
    given_up(&wire, stalled, begun).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_stops_is_cut_off() {
    let wire = start().await;
    let token = wire.token("ada").await;
    let principal = wire.principal(&token).await;
    let run = begin(&wire, &token, "thoughts 1").await;
    let artifacts = &wire.stores.artifacts;
    let content = Bytes::from(vec![b'x'; LARGE]);
    let artifact = artifacts
        .put(&principal, run, "large.bin", "application/octet-stream", content)
        .await
        .unwrap();
    let begun = Instant::now();
    let path = format!("GET /artifacts/{}", artifact.artifact);
    let stalled = stall(&wire, &path, &token, "").await;
    given_up(&wire, stalled, begun).await;
}
