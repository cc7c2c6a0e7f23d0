//! Connects a second, from the first byte to the first message of the server's, with many clients at a time: raw
//! tokio-tungstenite, which lets everybody in, beside the whole door of Apex by each of its ways. Server and clients
//! share the process and its cores; the rounds are interleaved, and the median is printed. Then what the verification
//! of a signed token takes.
//!
//! `benches/peers/connects/run [CONNECTS ROUNDS]`

use apex_core::auth::jwt::{Algorithm, KeyRing, SigningKey, TokenPolicy, TokenUse};
use apex_core::auth::{Auth, AuthConfig, AuthParts, Presented, TokenAuthority, Way};
use apex_core::clock::{Clock, SystemClock};
use apex_core::config::{Environment, Secret};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::health::Observer;
use apex_core::id::{ApprovalId, RunId, StepId};
use apex_core::limit::Rate;
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Live, Message, Runner};
use apex_core::store::memory;
use apex_transport::{Chain, Transport, TransportConfig, TransportService, serve};
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const CLIENTS: usize = 32;

#[derive(Debug)]
struct NoRuns;

#[async_trait::async_trait]
impl Runner for NoRuns {
    async fn start(&self, _: &Principal, _: Message) -> Result<Accepted> {
        Err(none())
    }
    async fn cancel(&self, _: &Principal, _: RunId) -> Result<()> {
        Err(none())
    }
    async fn stop(&self, _: &Principal, _: RunId, _: StepId) -> Result<()> {
        Err(none())
    }
    async fn decide(
        &self,
        _: &Principal,
        _: RunId,
        _: ApprovalId,
        _: &str,
        _: Decision,
    ) -> Result<()> {
        Err(none())
    }
}

fn none() -> Error {
    Error::new(Kind::Unavailable, "bench", "no runs here")
}

/// How a client shows who it is.
#[derive(Clone)]
enum Show {
    Nothing,
    Bearer(String),
    Tickets(Arc<Vec<String>>),
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let connects: usize = arguments.next().unwrap_or(10_000);
    let rounds: usize = arguments.next().unwrap_or(5);

    let raw = start_raw().await;
    let opaque = House::start(AuthParts::default()).await;
    let (key, _) = SigningKey::generate().expect("a key");
    let tokens = TokenAuthority::new(KeyRing::new(key), "https://apex.example", "apex");
    let signed = House::start(AuthParts { tokens: Some(tokens), ..AuthParts::default() }).await;

    let names = ["raw tokio-tungstenite", "Apex, token", "Apex, signed token", "Apex, ticket"];
    let mut rates = vec![Vec::new(); names.len()];
    for _ in 0..rounds {
        let tickets = opaque.tickets(connects).await;
        for (place, (address, show)) in [
            (raw, Show::Nothing),
            (opaque.address, Show::Bearer(opaque.token.clone())),
            (signed.address, Show::Bearer(signed.token.clone())),
            (opaque.address, Show::Tickets(tickets)),
        ]
        .into_iter()
        .enumerate()
        {
            rates[place].push(round(address, connects, show).await);
        }
    }
    println!("{connects} connects by {CLIENTS} clients at a time, median of {rounds} rounds\n");
    println!("| | connects/s | of raw |\n|---|---:|---:|");
    let base = median(&mut rates[0]);
    for (name, rates) in names.iter().zip(&mut rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / base);
    }
    println!("\n| verification of a token | µs |\n|---|---:|");
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256, Algorithm::Hs256] {
        println!("| {} | {:.1} |", algorithm.name(), verification(algorithm));
    }
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn round(address: SocketAddr, connects: usize, show: Show) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (next, show) = (Arc::clone(&next), show.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connects {
                        return;
                    }
                    connect(address, &show, number).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    connects as f64 / began.elapsed().as_secs_f64()
}

async fn connect(address: SocketAddr, show: &Show, number: usize) {
    let mut request = format!("ws://{address}/ws").into_client_request().expect("a request");
    match show {
        Show::Nothing => {}
        Show::Bearer(token) => {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        Show::Tickets(tickets) => {
            let value = format!("apex.v1, apex.ticket.{}", tickets[number]);
            request
                .headers_mut()
                .insert("sec-websocket-protocol", value.parse().expect("a header"));
        }
    }
    let stream = TcpStream::connect(address).await.expect("a socket");
    // A closed socket would keep its port for a minute.
    let _ = stream.set_zero_linger();
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
    let first = socket.next().await.expect("a message").expect("a message");
    assert!(first.to_text().is_ok_and(|text| text.contains("welcome")), "{first:?}");
}

async fn start_raw() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                let welcome = r#"{"frame":"welcome"}"#;
                if socket.send(tungstenite::Message::text(welcome)).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            });
        }
    });
    address
}

struct House {
    address: SocketAddr,
    auth: Auth,
    token: String,
}

impl House {
    async fn start(parts: AuthParts) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
        let config = AuthConfig {
            environment: Environment::Development,
            unused_tickets: usize::MAX,
            ticket_life: Duration::from_secs(60),
            ticket_rate: Rate { burst: u32::MAX, refill: Duration::ZERO },
            ..AuthConfig::default()
        };
        let auth = Auth::new(stores.auth(), parts, Arc::clone(&clock), config);
        let mut transport = TransportConfig::default();
        transport.hub.per_user = 10_000;
        let observer = Observer::quiet(Arc::clone(&clock));
        let service = TransportService::new(Transport {
            stores,
            auth: auth.clone(),
            runner: Arc::new(NoRuns),
            live: Live::default(),
            clock,
            observer,
            chain: Chain::default(),
            config: transport,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, service.expect("a service"), std::future::pending()));
        let login = auth.development_login("ada", &Presented::by(Way::Own)).await.expect("a login");
        Self { address, auth, token: login.token.reveal().clone() }
    }

    async fn tickets(&self, count: usize) -> Arc<Vec<String>> {
        let token = apex_core::auth::Credential::Token(Secret::new(self.token.clone()));
        let by = Presented::by(Way::Bearer);
        let entry = self.auth.authenticate(&token, &by).await.expect("an entry");
        let mut tickets = Vec::new();
        for _ in 0..count {
            let ticket = self.auth.issue_ticket(&entry, None, &by).await.expect("a ticket");
            tickets.push(ticket.ticket.reveal().clone());
        }
        Arc::new(tickets)
    }
}

/// Microseconds for the whole of it: taken apart, verified, its claims read and checked.
fn verification(algorithm: Algorithm) -> f64 {
    let pem = |text: &str| Secret::new(text.to_owned());
    let key = match algorithm {
        Algorithm::EdDsa => SigningKey::generate().map(|(key, _)| key),
        Algorithm::Es256 => SigningKey::from_pem(
            algorithm,
            &pem(include_str!("../../../../apex-core/tests/jwt/p256.pem")),
        ),
        Algorithm::Rs256 => SigningKey::from_pem(
            algorithm,
            &pem(include_str!("../../../../apex-core/tests/jwt/rsa.pem")),
        ),
        Algorithm::Hs256 => SigningKey::shared("shared", &Secret::new(vec![7; 32])),
    }
    .expect("a key");
    let now = SystemClock.now();
    let seconds = now.as_millis() / 1_000;
    let claims = std::collections::BTreeMap::from([
        ("iss", "https://apex.example".into()),
        ("sub", "0192d1f0-0000-7000-8000-000000000001".into()),
        ("aud", "apex".into()),
        ("apex_use", "access".into()),
        ("iat", serde_json::Value::from(seconds)),
        ("exp", serde_json::Value::from(seconds + 600)),
    ]);
    let token = key.sign(TokenUse::Access.header_type(), &claims).expect("a token");
    let policy = TokenPolicy::own("https://apex.example", "apex", TokenUse::Access);
    let keys = [key.verifying().clone()];
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..2_000 {
                policy.verify(token.reveal(), &keys, now).expect("a good token");
            }
            began.elapsed().as_secs_f64() * 1e6 / 2_000.0
        })
        .collect();
    median(&mut times)
}
