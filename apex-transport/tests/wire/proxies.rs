//! Behind nginx and HAProxy as they come from Debian: whatever they take out of an upgrade, a client ends up connected
//! by the next way of the chain, and the right code arrives with every refusal.

use crate::support::http::{Answer, raw};
use crate::support::socket::Socket;
use crate::support::{PAGE, Settings, Wire, bearer};
use apex_core::auth::{AddressMask, AuditQuery};
use apex_core::clock::SystemClock;
use apex_test_services::{Kind, Options, Server};
use apex_transport::client::{Api, Client, ClientOptions, ClientWay, Update};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is done to upgrades; plain requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strip {
    Nothing,
    Authorization,
    AllButTheQuery,
}

const STRIPS: [Strip; 3] = [Strip::Nothing, Strip::Authorization, Strip::AllButTheQuery];

impl Strip {
    fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Authorization => &["Authorization"],
            Self::AllButTheQuery => &["Authorization", "Cookie", "Sec-WebSocket-Protocol"],
        }
    }
}

/// How a proxy is set up.
#[derive(Debug, Clone, Copy)]
struct Setup {
    strip: Strip,
    /// After how many seconds without a byte a connection is cut.
    idle: u64,
    /// The largest head that passes, about.
    head: usize,
    http2: bool,
}

const PLAIN: Setup = Setup { strip: Strip::Nothing, idle: 60, head: 16 * 1024, http2: false };

fn nginx(setup: Setup, to: SocketAddr) -> String {
    let Setup { strip, idle, head, http2 } = setup;
    let stripped: String =
        strip.headers().iter().map(|name| format!("proxy_set_header {name} \"\";\n")).collect();
    let http2 = if http2 { " http2" } else { "" };
    format!(
        r#"
events {{ worker_connections 256; }}
http {{
    access_log ${{FOLDER}}/access.log;
    client_body_temp_path ${{FOLDER}}/body; proxy_temp_path ${{FOLDER}}/proxy;
    fastcgi_temp_path ${{FOLDER}}/f; uwsgi_temp_path ${{FOLDER}}/u; scgi_temp_path ${{FOLDER}}/s;
    large_client_header_buffers 4 {head};
    server {{
        listen 127.0.0.1:${{PORT}}{http2};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_read_timeout {idle}s;
        proxy_send_timeout {idle}s;
        proxy_buffering on;
        location / {{ proxy_pass http://{to}; }}
        location /ws {{
            proxy_pass http://{to};
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            {stripped}
        }}
    }}
}}
"#
    )
}

fn haproxy(setup: Setup, to: SocketAddr) -> String {
    let Setup { strip, idle, head, http2 } = setup;
    let stripped: String = strip
        .headers()
        .iter()
        .map(|name| format!("    http-request del-header {name} if {{ path /ws }}\n"))
        .collect();
    let http2 = if http2 { " proto h2" } else { "" };
    format!(
        "global
    maxconn 256
    tune.bufsize {buffer}
    tune.maxrewrite 1024
defaults
    mode http
    timeout connect 5s
    timeout client {idle}s
    timeout server {idle}s
    timeout tunnel {idle}s
    option forwardfor
frontend all
    bind 127.0.0.1:${{PORT}}{http2}
{stripped}    default_backend apex
backend apex
    server one {to}
",
        buffer = head + 1_024,
    )
}

/// A proxy before the service; `None` where it is not installed.
fn start(kind: Kind, setup: Setup, to: SocketAddr) -> Option<(Server, SocketAddr)> {
    let text = match kind {
        Kind::Nginx => nginx(setup, to),
        _ => haproxy(setup, to),
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.conf");
    std::fs::write(&config, text).unwrap();
    let options = Options { config: Some(config), ..Options::default() };
    let server = Server::start_or_skip(kind, &options)?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    Some((server, address))
}

async fn connect(proxy: SocketAddr) -> Client {
    let api = Api::new(&format!("http://{proxy}")).unwrap().log_in("ada").await.unwrap();
    let mut options = ClientOptions::new(api, Arc::new(SystemClock));
    options.first_pause = Duration::from_millis(10);
    Client::connect(options).await.unwrap()
}

/// Asks, and waits for the end; how many recorded events there were.
async fn ask(client: &Client, text: &str) -> usize {
    let (_, mut updates) = client.ask(text, None, Vec::new()).await.unwrap();
    let (mut events, mut last) = (0, String::new());
    while let Some(update) = updates.next().await {
        if let Update::Event(event) = update.unwrap() {
            events += 1;
            last = event.kind;
        }
    }
    assert_eq!(last, "run_completed");
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_connected_by_the_next_way_whatever_is_stripped() {
    let wire = Wire::start().await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        for strip in STRIPS {
            let Some((_server, proxy)) = start(kind, Setup { strip, ..PLAIN }, wire.address) else {
                break;
            };
            let client = connect(proxy).await;
            let expected = match strip {
                Strip::AllButTheQuery => ClientWay::Query,
                Strip::Nothing | Strip::Authorization => ClientWay::Subprotocol,
            };
            assert_eq!(client.way().await.unwrap(), expected, "{kind:?} {strip:?}");
            assert_eq!(ask(&client, "thoughts 2").await, 6, "{kind:?} {strip:?}");
            // A server's own way, by header, where the header gets through; and by hello where nothing does.
            let auth = bearer(&wire.token("bob").await);
            let by_header = Socket::open(proxy, "/ws", &[("authorization", &auth)]).await;
            let mut socket = by_header.unwrap();
            if strip != Strip::Nothing {
                let token = auth.trim_start_matches("Bearer ");
                socket.say(serde_json::json!({"frame": "hello", "token": token})).await;
            }
            assert_eq!(socket.frame().await["frame"], "welcome", "{kind:?} {strip:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_arrives_as_it_was_sent() {
    let wire = Wire::start().await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        for strip in STRIPS {
            let Some((_server, proxy)) = start(kind, Setup { strip, ..PLAIN }, wire.address) else {
                break;
            };
            let page = ("origin", PAGE);
            let evil = ("origin", "https://evil.example");
            let open = |path, headers: Vec<(&'static str, &'static str)>| async move {
                Socket::open(proxy, path, &headers).await
            };
            let refusal = open("/ws?ticket=unknown", vec![]).await.unwrap_err();
            assert_eq!((refusal.status, &refusal.body["code"]), (401, &"unauthenticated".into()));
            let closed = open("/ws?ticket=unknown", vec![page]).await.unwrap().closed().await;
            assert_eq!(closed, (4401, "unauthenticated".into()), "{kind:?} {strip:?}");
            let refusal = open("/ws?ticket=unknown", vec![evil]).await.unwrap_err();
            assert_eq!((refusal.status, &refusal.body["code"]), (403, &"origin_denied".into()));
            let refusal = open("/ws?token=a.b.c", vec![]).await.unwrap_err();
            assert_eq!(refusal.status, 401);
            let wrong = vec![("authorization", "Bearer wrong"), page];
            if strip == Strip::Nothing {
                let closed = open("/ws", wrong).await.unwrap().closed().await;
                assert_eq!(closed.0, 4401, "{kind:?}");
            }
            let mut silent = open("/ws", vec![]).await.unwrap();
            assert_eq!(silent.closed().await.0, 4504, "{kind:?} {strip:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cut_after_two_seconds_is_outlived_by_heartbeats_and_else_resumed() {
    for kind in [Kind::Nginx, Kind::Haproxy] {
        for (heartbeat, survives) in [(1, true), (20, false)] {
            let mut settings = Settings::default();
            settings.transport.connection.heartbeat = Duration::from_secs(heartbeat);
            let wire = Wire::start_with(settings).await;
            let setup = Setup { idle: 2, ..PLAIN };
            let Some((_server, proxy)) = start(kind, setup, wire.address) else { break };
            let auth = bearer(&wire.token("ada").await);
            let headers = [("authorization", auth.as_str())];
            let mut socket = Socket::open(proxy, "/ws", &headers).await.unwrap();
            assert_eq!(socket.frame().await["frame"], "welcome");
            let began = Instant::now();
            let idle = tokio::time::timeout(Duration::from_millis(4_500), socket.message()).await;
            assert_eq!(idle.is_err(), survives, "{kind:?} {:?} {idle:?}", began.elapsed());
            // A run during which nothing happens for longer than that is seen whole all the same.
            let client = connect(proxy).await;
            assert_eq!(ask(&client, "slow 3000 thoughts 1").await, 5, "{kind:?} {heartbeat}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_for_the_proxy_stops_long_tokens_but_no_ticket() {
    let wire = Wire::start().await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let Some((_server, proxy)) = start(kind, Setup { head: 2_048, ..PLAIN }, wire.address)
        else {
            continue;
        };
        let long = bearer(&"x".repeat(6_000));
        let refused = Socket::open(proxy, "/ws", &[("authorization", &long)]).await.unwrap_err();
        assert_eq!(refused.status, 400, "{kind:?}: the proxy's own answer");
        assert_eq!(refused.body, serde_json::Value::Null, "{kind:?}");
        assert_eq!(ask(&connect(proxy).await, "thoughts 1").await, 5, "{kind:?}");
    }
}

/// HTTP/2 to the proxy: plain requests come over it; a WebSocket needs HTTP/1.1, to which browsers go back by
/// themselves, and gets no half-open answer where it is tried all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_requests_come_over_http_2_in_front() {
    let wire = Wire::start().await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let Some((_server, proxy)) = start(kind, Setup { http2: true, ..PLAIN }, wire.address)
        else {
            continue;
        };
        let token = wire.token("ada").await;
        let curl = |path: &str| {
            let mut curl = std::process::Command::new("curl");
            curl.args([
                "-sS",
                "-m",
                "10",
                "--http2-prior-knowledge",
                "-w",
                "\n%{http_code} %{http_version}",
            ])
            .args(["-H", &format!("authorization: Bearer {token}")])
            .arg(format!("http://{proxy}{path}"));
            match curl.output() {
                Ok(output) => Some(format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stderr),
                    String::from_utf8_lossy(&output.stdout)
                )),
                Err(why) => {
                    apex_test_services::skip("curl", &why.to_string());
                    None
                }
            }
        };
        let Some(answer) = curl("/auth/sessions") else { return };
        assert!(answer.ends_with("\n200 2"), "{kind:?} {answer}");
        let upgrade = curl("/ws").unwrap();
        assert!(upgrade.contains("upgrade") && upgrade.ends_with("\n400 2"), "{kind:?} {upgrade}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_comes_through_the_trusted_proxy_and_no_ticket_into_its_log() {
    let mut settings = Settings::default();
    settings.transport.trusted_proxies = 1;
    settings.auth.addresses = AddressMask::Full;
    settings.auth.ticket_address = true;
    let wire = Wire::start_with(settings).await;
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let Some((server, proxy)) = start(kind, PLAIN, wire.address) else { continue };
        let token = wire.token("ada").await;
        let claimed = format!(
            "POST /auth/ticket HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             x-forwarded-for: 6.6.6.6\r\ncontent-length: 0\r\n\r\n"
        );
        let answer: Answer = raw(proxy, claimed.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
        let protocol = format!("apex.v1, apex.ticket.{ticket}");
        let headers =
            [("sec-websocket-protocol", protocol.as_str()), ("x-forwarded-for", "7.7.7.7")];
        let mut socket = Socket::open(proxy, "/ws", &headers).await.unwrap();
        assert_eq!(socket.frame().await["frame"], "welcome", "{kind:?}");
        assert!(wire.auth.audit_written(Duration::from_secs(5)).await);
        let all = AuditQuery { user: None, before: None, limit: 1_000 };
        let record = wire.auth.audit(all).await.unwrap();
        let addresses: Vec<_> = record.into_iter().filter_map(|event| event.address).collect();
        assert!(addresses.contains(&"127.0.0.1".to_owned()), "{addresses:?}");
        assert!(addresses.iter().all(|address| address == "127.0.0.1"), "{addresses:?}");
        drop(socket);
        if kind == Kind::Nginx {
            // By subprotocol a ticket is in no access log, even in nginx's own format.
            let log = std::fs::read_to_string(server.folder().join("access.log")).unwrap();
            assert!(log.contains("/auth/ticket") && !log.contains(&ticket), "{log}");
        }
    }
}
