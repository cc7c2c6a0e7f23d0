//! Careless users, broken proxies and attackers.

use crate::support::http::raw;
use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::clock::SystemClock;
use apex_core::id::RequestId;
use futures_util::SinkExt as _;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

async fn ada(wire: &Wire) -> Socket {
    wire.socket(&wire.token("ada").await).await
}

#[tokio::test]
async fn a_frame_that_is_too_large_is_1009_and_takes_no_memory() {
    let wire = Wire::start().await;
    for size in [65_537, 10 << 20] {
        let mut socket = ada(&wire).await;
        let sending = socket.stream.send(Message::text("x".repeat(size)));
        // The server hangs up while the rest is still being sent.
        let _ = tokio::time::timeout(Duration::from_secs(5), sending).await;
        assert_eq!(socket.closed().await.0, 1009, "{size}");
    }
    wire.emptied().await;
}

#[tokio::test]
async fn a_large_frame_that_is_allowed_is_taken() {
    let wire = Wire::start().await;
    let mut socket = ada(&wire).await;
    let padding = "x".repeat(60_000);
    let pong = socket.call(json!({"frame": "ping", "n": 1, "padding": padding})).await;
    assert_eq!(pong["frame"], "pong");
}

#[tokio::test]
async fn kinds_of_bytes_that_are_not_text_have_their_codes() {
    let wire = Wire::start().await;
    let mut binary = ada(&wire).await;
    binary.stream.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(binary.closed().await.0, 1003);
    let mut not_utf8 = ada(&wire).await;
    let frame = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    not_utf8.stream.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(not_utf8.closed().await.0, 1007);
    let mut reserved = ada(&wire).await;
    // A frame without a mask, and with a bit that means nothing.
    reserved.stream.get_mut().write_all(&[0xf1, 0x00]).await.unwrap();
    assert_eq!(reserved.closed().await.0, 1002);
    drop((binary, not_utf8, reserved));
    wire.emptied().await;
}

#[tokio::test]
async fn nonsense_is_answered_nine_times_and_then_4400() {
    let wire = Wire::start().await;
    let mut socket = ada(&wire).await;
    let deep = format!(r#"{{"frame":"ping","id":1,"n":{}"#, "[".repeat(30_000));
    let nonsense =
        ["", "{", "null", "[]", "\"x\"", "{}", &deep, r#"{"frame":"ping","id":{},"n":1}"#, "\u{0}"];
    for text in nonsense {
        socket.text(text).await;
        let answer = socket.frame().await;
        assert_eq!(answer["code"], "bad_frame", "{text:.40}");
    }
    socket.text("one too many").await;
    assert_eq!(socket.frame().await["code"], "bad_frame");
    assert_eq!(socket.closed().await.0, 4400);
}

#[tokio::test]
async fn pieces_of_a_frame_and_pings_in_between_are_one_frame() {
    let wire = Wire::start().await;
    let mut socket = ada(&wire).await;
    let text = json!({"frame": "ping", "id": 7, "n": 3}).to_string();
    let (first, second) = text.as_bytes().split_at(9);
    let begin = Frame::message(first.to_vec(), OpCode::Data(Data::Text), false);
    let end = Frame::message(second.to_vec(), OpCode::Data(Data::Continue), true);
    socket.stream.send(Message::Frame(begin)).await.unwrap();
    socket.stream.send(Message::Ping(vec![1].into())).await.unwrap();
    socket.stream.send(Message::Frame(end)).await.unwrap();
    assert_eq!(socket.frame().await["n"], 3);
}

#[tokio::test]
async fn upgrades_without_hello_are_bounded_and_go_away() {
    let mut settings = Settings::default();
    settings.transport.hub.unknown = 50;
    settings.transport.connection.hello_within = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..1_000 {
        match Socket::open(wire.address, "/ws", &[]).await {
            Ok(socket) => held.push(socket),
            Err(refusal) => {
                assert_eq!(refusal.status, 503);
                assert_eq!(refusal.body["code"], "unavailable");
                assert!(refusal.headers.contains_key("retry-after"));
                refused += 1;
            }
        }
        assert!(wire.statistics().unknown <= 50);
    }
    assert!(refused > 0);
    for socket in &mut held {
        assert_eq!(socket.closed().await.0, 4504);
    }
    drop(held);
    wire.emptied().await;
    // Whoever has a credential is let in again.
    wire.socket(&token).await;
}

#[tokio::test]
async fn slow_headers_are_given_up_on() {
    let mut settings = Settings::default();
    settings.transport.http.headers_within = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    let mut stream = TcpStream::connect(wire.address).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if stream.write_all(b"x-a: b\r\n").await.is_err() {
                return;
            }
            let mut answer = [0; 512];
            if let Ok(read) = stream.try_read(&mut answer) {
                let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
                assert!(read == 0 || answer.starts_with("HTTP/1.1 408"), "{answer}");
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), drip).await.expect("it may drip for ever");
}

#[tokio::test]
async fn heads_that_are_too_large_or_smuggle_are_refused() {
    let wire = Wire::start().await;
    let host = wire.address;
    let large =
        format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\nx-a: {}\r\n\r\n", "a".repeat(70_000));
    let many =
        format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\n{}\r\n", "a: b\r\n".repeat(200));
    let both = format!(
        "POST /auth/dev HTTP/1.1\r\nhost: {host}\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         0\r\n\r\nGET /health/ready HTTP/1.1\r\nhost: {host}\r\n\r\n"
    );
    let two_lengths = format!(
        "POST /auth/dev HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\ncontent-length: 9\r\n\r\n{{}}GET / HT"
    );
    let space =
        format!("POST /auth/dev HTTP/1.1\r\nhost: {host}\r\ncontent-length : 2\r\n\r\n{{}}");
    let folded = format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\nx-a: b\r\n c\r\n\r\n");
    for request in [large, many, both, two_lengths, space, folded] {
        let answer = raw(host, request.as_bytes()).await;
        let status = answer.as_ref().map(|answer| answer.status);
        assert!(
            status.is_none_or(|status| (400..500).contains(&status)),
            "{status:?} for {request:.200}"
        );
        // Nothing of a second request was answered.
        let body = answer.map(|answer| answer.text()).unwrap_or_default();
        assert!(!body.contains("HTTP/1.1 200"), "{body}");
    }
}

#[tokio::test]
async fn two_headers_with_credentials_are_refused() {
    let wire = Wire::start().await;
    let (ada, bob) = (bearer(&wire.token("ada").await), bearer(&wire.token("bob").await));
    let twice = [("authorization", ada.as_str()), ("authorization", bob.as_str())];
    let answer = wire.get("/threads", &twice).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"));
    assert_eq!(Socket::open(wire.address, "/ws", &twice).await.unwrap_err().status, 401);
    let origins = [("origin", PAGE), ("origin", "https://evil.example")];
    assert_eq!(wire.get("/health/live", &origins).await.status, 403);
}

#[tokio::test]
async fn bodies_are_bounded_and_what_is_wrong_with_them_is_said() {
    let wire = Wire::start().await;
    let auth = bearer(&wire.token("ada").await);
    let headers = [("authorization", auth.as_str())];
    let large = "x".repeat(65_537);
    let answer = wire.post("/messages", &headers, &large).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    // Without a length told beforehand it is counted.
    let chunked = format!(
        "POST /messages HTTP/1.1\r\nhost: {}\r\nauthorization: {auth}\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        wire.address,
        large.len()
    );
    assert_eq!(raw(wire.address, chunked.as_bytes()).await.unwrap().status, 413);
    for (body, says) in [
        ("", "takes a JSON body"),
        ("{", "EOF"),
        ("[]", "body"),
        (r#"{"text":"x"}"#, "request_id"),
        (r#"{"request_id":"x","text":"x"}"#, "UUID"),
        (r#"{"request_id":"018f0000-0000-7000-8000-000000000001","text":7}"#, "string"),
    ] {
        let answer = wire.post("/messages", &headers, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{body}");
        assert!(answer.text().contains(says), "{body}: {}", answer.text());
    }
    let other = json!({"request_id": "018f0000-0000-7000-8000-000000000001", "text": "x", "thread": "018f0000-0000-7000-8000-000000000002"});
    let path = "/threads/018f0000-0000-7000-8000-000000000003/messages";
    let answer = wire.post(path, &headers, &other.to_string()).await;
    assert!(answer.text().contains("in the path"), "{}", answer.text());
}

#[tokio::test]
async fn a_body_that_stops_is_given_up_on() {
    let mut settings = Settings::default();
    settings.transport.http.body_idle = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    let request = format!(
        "POST /auth/dev HTTP/1.1\r\nhost: {}\r\ncontent-length: 20\r\n\r\n{{",
        wire.address
    );
    let mut stream = TcpStream::connect(wire.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .expect("it waits for ever")
        .unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_large_body_that_is_refused_does_not_take_the_answer_down_with_it() {
    let mut settings = Settings::default();
    settings.memory.files.file_bytes = 1_000;
    let wire = Wire::start_with(settings).await;
    let auth = bearer(&wire.token("ada").await);
    let body = vec![b'x'; 20 << 20];
    for (auth, status, code) in
        [("Bearer wrong", 401, "unauthenticated"), (auth.as_str(), 413, "too_large")]
    {
        let head = format!(
            "POST /files HTTP/1.1\r\nhost: a\r\nauthorization: {auth}\r\nx-file-name: a.csv\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(wire.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // Nothing is reset under the sender, who sees the answer only after the last byte.
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let wire = Wire::start().await;
    let token = wire.token("ada").await;
    for _ in 0..20 {
        let mut socket = wire.socket(&token).await;
        socket.start("hold").await;
        // Reset, without any close.
        socket.stream.get_ref().tcp().set_zero_linger().unwrap();
        drop(socket);
        wire.emptied().await;
        for entry in
            wire.stores.runs.inbox(&wire.principal(&token).await, 0, 1_000).await.unwrap().entries
        {
            let _ = wire
                .stores
                .runs
                .signal(&wire.principal(&token).await, entry.run, apex_core::run::Signal::Cancel)
                .await;
        }
    }
    let mut half = wire.socket(&token).await;
    half.stream.get_mut().shutdown().await.unwrap();
    wire.emptied().await;
}

/// What a host lowers is told in `welcome`, and kept.
#[tokio::test]
async fn lowered_limits_are_told_and_kept() {
    let mut settings = Settings::default();
    let connection = &mut settings.transport.connection;
    (connection.frame_bytes, connection.hello_bytes) = (4_096, 2_048);
    (connection.frames_per_s, connection.frames_burst) = (1, 8);
    (connection.subscriptions, connection.bad_frames) = (2, 1);
    settings.transport.http.body_bytes = 1_024;
    let wire = Wire::start_with(settings).await;
    let token = wire.token("ada").await;
    let (mut socket, welcome) = wire.welcomed(&token).await;
    let told = |name: &str| welcome["limits"][name].clone();
    assert_eq!((told("frame_bytes"), told("frames_per_s")), (json!(4_096), json!(1)));
    assert_eq!((told("frames_burst"), told("subscriptions")), (json!(8), json!(2)));
    for _ in 0..2 {
        socket.start("thoughts 20 slow 100").await;
    }
    // Whoever starts a run follows it.
    let request_id = RequestId::new(&SystemClock);
    let third = json!({"frame": "message", "request_id": request_id, "text": "thoughts 1"});
    assert_eq!(socket.call(third).await["code"], "rate_limited");
    drop(socket);

    let mut large = ada(&wire).await;
    large.text("x".repeat(4_097)).await;
    assert_eq!(large.closed().await.0, 1009);
    let mut bad = ada(&wire).await;
    bad.text("{").await;
    assert_eq!(bad.frame().await["code"], "bad_frame");
    assert_eq!(bad.closed().await.0, 4400);
    let mut hasty = ada(&wire).await;
    for n in 0..8 {
        assert_eq!(hasty.call(json!({"frame": "ping", "n": n})).await["n"], n);
    }
    let refused = hasty.call(json!({"frame": "ping", "n": 8})).await;
    assert_eq!(refused["code"], "rate_limited");
    let wait = Duration::from_millis(refused["retry_after_ms"].as_u64().unwrap());
    tokio::time::sleep(wait).await;
    assert_eq!(hasty.call(json!({"frame": "ping", "n": 9})).await["n"], 9);
    let auth = bearer(&token);
    let body = json!({ "text": "x".repeat(1_024) }).to_string();
    let answer = wire.post("/messages", &[("authorization", &auth)], &body).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    drop((large, bad, hasty));
    wire.emptied().await;
}
