//! The Rust client against the service, and against what a proxy may do to each of its ways in.

use crate::support::{Settings, Wire};
use apex_core::clock::SystemClock;
use apex_core::error::Kind;
use apex_core::id::{RunId, StepId};
use apex_core::run::Position;
use apex_transport::client::{Api, Client, ClientOptions, ClientWay, Update, Updates};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn connect(api: Api) -> Client {
    let mut options = ClientOptions::new(api, Arc::new(SystemClock));
    options.first_pause = Duration::from_millis(10);
    Client::connect(options).await.unwrap()
}

async fn kinds(updates: &mut Updates) -> Vec<String> {
    let mut kinds = Vec::new();
    while let Some(update) = updates.next().await {
        if let Update::Event(event) = update.unwrap() {
            kinds.push(event.kind);
        }
    }
    kinds
}

#[tokio::test]
async fn the_whole_conversation() {
    let wire = Wire::start().await;
    let api = wire.api("ada").await;
    let sent = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&sent);
    let content = "a,b\n".repeat(50_000).into_bytes();
    let length = content.len() as u64;
    let file = api
        .upload("usage für uns.csv", Some(length), std::io::Cursor::new(content), move |bytes| {
            told.store(bytes, Ordering::SeqCst);
        })
        .await
        .unwrap();
    assert_eq!((file.name.as_str(), file.bytes), ("usage für uns.csv", length));
    assert_eq!(sent.load(Ordering::SeqCst), length);

    let client = connect(api.clone()).await;
    assert_eq!(client.way().await.unwrap(), ClientWay::Subprotocol);
    let (accepted, mut updates) = client.ask("report", None, vec![file.file]).await.unwrap();
    let seen = kinds(&mut updates).await;
    assert_eq!(seen.first().unwrap(), "run_started");
    assert_eq!(seen.last().unwrap(), "run_completed");
    let report = api.report(accepted.run, "report.json").await.unwrap();
    assert!(report.starts_with(b"{\"schema\""));
    let id = apex_core::file::artifact_id(accepted.run, "report.md");
    assert_eq!(&api.artifact(id).await.unwrap()[..], b"# Report");

    let (held, mut updates) = client.ask("hold", Some(accepted.thread), Vec::new()).await.unwrap();
    assert_eq!(held.thread, accepted.thread);
    client.cancel(held.run).await.unwrap();
    assert_eq!(kinds(&mut updates).await.last().unwrap(), "run_cancelled");
    assert_eq!(api.threads().await.unwrap().items[0].thread, accepted.thread);
    api.delete_thread(accepted.thread).await.unwrap();
    let error = api.report(accepted.run, "report.json").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_client_renews_its_login_by_itself_and_stays_connected() {
    let mut settings = Settings::default();
    settings.auth.token_life = Duration::from_secs(61);
    let wire = Wire::start_with(settings).await;
    let api = wire.api("ada").await;
    let first = api.login().unwrap();
    let client = connect(api.clone()).await;
    // A minute before the end it is told, and stays by a renewed login.
    let renewed = async {
        while api.login().unwrap().token.reveal() == first.token.reveal() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("nothing is renewed");
    let (_, mut updates) = client.ask("thoughts 1", None, Vec::new()).await.unwrap();
    assert_eq!(kinds(&mut updates).await.last().unwrap(), "run_completed");
    assert_eq!(wire.statistics().admitted, 1, "it was one connection");
    // What has run out while nobody was connected is renewed by the next request, once for all who ask.
    drop((client, updates));
    wire.emptied().await;
    wire.clock.advance(Duration::from_secs(120));
    let before = api.login().unwrap();
    let asked = futures_util::future::join_all((0..8).map(|_| api.threads())).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_ne!(api.login().unwrap().token.reveal(), before.token.reveal());
    let client = connect(api.clone()).await;
    // And so is one whose connection ran out with it.
    wire.clock.advance(Duration::from_secs(120));
    let (_, mut updates) = client.ask("thoughts 1", None, Vec::new()).await.unwrap();
    assert_eq!(kinds(&mut updates).await.last().unwrap(), "run_completed");
    // A login that has ended is not renewed, and says so.
    api.log_out().await.unwrap();
    assert_eq!(api.threads().await.unwrap_err().kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn a_client_that_nobody_holds_is_gone() {
    let wire = Wire::start().await;
    let client = connect(wire.api("ada").await).await;
    let (_, updates) = client.ask("hold", None, Vec::new()).await.unwrap();
    drop(client);
    assert_eq!(wire.statistics().connections, 1);
    drop(updates);
    wire.emptied().await;
}

#[tokio::test]
async fn what_the_server_refuses_is_the_error_that_it_says() {
    let wire = Wire::start().await;
    let client = connect(wire.api("ada").await).await;
    let stranger = RunId::new(&SystemClock);
    for error in [
        client.cancel(stranger).await.unwrap_err(),
        client.stop(stranger, StepId(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.correlation().is_some());
    }
    let mut nothing = client.subscribe(stranger, Position::default()).await.unwrap();
    let error = nothing.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(nothing.next().await.is_none());
}

#[tokio::test]
async fn a_file_that_is_too_large_says_so() {
    let mut settings = Settings::default();
    settings.transport.files.file_bytes = 1_000;
    let wire = Wire::start_with(settings).await;
    let api = wire.api("ada").await;
    let content = std::io::Cursor::new(vec![b'x'; 2_000]);
    let error = api.upload("a", Some(2_000), content, |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
}

#[tokio::test]
async fn connecting_to_nothing_or_without_a_login_says_why() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Api::new(&format!("http://{free}")).unwrap().log_in("ada").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let wire = Wire::start().await;
    let api = Api::new(&wire.url()).unwrap();
    let options = ClientOptions::new(api, Arc::new(SystemClock));
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn logging_out_ends_the_client_and_everybody_who_waits() {
    let wire = Wire::start().await;
    let api = wire.api("ada").await;
    let client = connect(api.clone()).await;
    let (_, mut updates) = client.ask("hold", None, Vec::new()).await.unwrap();
    api.log_out().await.unwrap();
    let end = async { while let Some(Ok(_)) = updates.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), end).await.expect("it goes on for ever");
    let error = client.cancel(updates.run()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Cancelled | Kind::Unauthenticated), "{error:?}");
    wire.emptied().await;
}

#[tokio::test]
async fn a_client_of_a_node_that_shuts_down_comes_back_to_the_next_one() {
    let mut first = Wire::start().await;
    let second = Wire::start().await;
    let way = Switch::start(first.address).await;
    let api = Api::new(&format!("http://{}", way.address)).unwrap();
    let client = connect(api.log_in("ada").await.unwrap()).await;
    let (_, mut updates) = client.ask("thoughts 1", None, Vec::new()).await.unwrap();
    kinds(&mut updates).await;
    way.turn(second.address);
    first.stop().await.unwrap();
    // The other one knows neither login nor user: the client is told, and ends.
    let error = client.cancel(updates.run()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Unauthenticated | Kind::Cancelled), "{error:?}");
}

/// A proxy that can be pointed elsewhere, and can take things out of requests as real ones do.
struct Switch {
    address: SocketAddr,
    to: Arc<parking_lot::Mutex<SocketAddr>>,
    stripped: Arc<parking_lot::Mutex<Vec<&'static str>>>,
}

impl Switch {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let switch = Self {
            address: listener.local_addr().unwrap(),
            to: Arc::new(parking_lot::Mutex::new(to)),
            stripped: Arc::default(),
        };
        let (to, stripped) = (Arc::clone(&switch.to), Arc::clone(&switch.stripped));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (to, stripped) = (*to.lock(), stripped.lock().clone());
                tokio::spawn(async move {
                    let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                    let mut head = vec![0; 8_192];
                    let read = client.read(&mut head).await.unwrap();
                    let head = strip(&head[..read], &stripped);
                    server.write_all(&head).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        switch
    }

    fn turn(&self, to: SocketAddr) {
        *self.to.lock() = to;
    }

    fn strip(&self, what: &[&'static str]) {
        *self.stripped.lock() = what.to_vec();
    }
}

/// A head of an upgrade without the named headers, and without its query where `?` is named.
fn strip(head: &[u8], stripped: &[&str]) -> Vec<u8> {
    let text = String::from_utf8_lossy(head);
    if !text.starts_with("GET") || !text.contains("/ws") {
        return head.to_vec();
    }
    let kept: Vec<String> = text
        .split("\r\n")
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !stripped.contains(&name.as_str())
        })
        .map(|line| match line.split_once('?') {
            Some((path, _)) if line.starts_with("GET") && stripped.contains(&"?") => {
                format!("{path} HTTP/1.1")
            }
            _ => line.to_owned(),
        })
        .collect();
    kept.join("\r\n").into_bytes()
}

#[tokio::test]
async fn the_client_walks_on_to_the_way_that_the_proxy_leaves_open() {
    let mut settings = Settings::default();
    settings.transport.connection.hello_within = Duration::from_secs(1);
    let wire = Wire::start_with(settings).await;
    for (stripped, way) in [
        (vec!["authorization", "cookie"], ClientWay::Subprotocol),
        (vec!["authorization", "cookie", "sec-websocket-protocol"], ClientWay::Query),
        (vec!["authorization", "cookie", "sec-websocket-protocol", "?"], ClientWay::Hello),
    ] {
        let proxy = Switch::start(wire.address).await;
        proxy.strip(&stripped);
        let api = Api::new(&format!("http://{}", proxy.address)).unwrap();
        let client = connect(api.log_in("ada").await.unwrap()).await;
        assert_eq!(client.way().await.unwrap(), way, "{stripped:?}");
        let (_, mut updates) = client.ask("thoughts 1", None, Vec::new()).await.unwrap();
        assert_eq!(kinds(&mut updates).await.last().unwrap(), "run_completed");
    }
}
