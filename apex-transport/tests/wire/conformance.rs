//! The Autobahn cases through our own handshake and with our own settings, beside a bare tokio-tungstenite: by the same
//! list, nothing may be worse.

use crate::support::{Settings, Wire, host};
use apex_core::auth::{TicketRecord, TicketStore, TokenHash};
use apex_core::clock::Timestamp;
use apex_core::error::Result;
use async_trait::async_trait;
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Large messages take minutes, and compression is not offered.
const LEFT_OUT: [&str; 3] = ["9.*", "12.*", "13.*"];

/// At least so many cases have to have been run.
const CASES: usize = 240;

/// A ticket for each of hundreds of connections would have to be put into each one's address: here one opens them all.
#[derive(Debug)]
struct UsedAgain(Mutex<HashMap<TokenHash, TicketRecord>>);

#[async_trait]
impl TicketStore for UsedAgain {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, _: usize) -> Result<()> {
        let expires_at = now.plus(Duration::from_secs(3_600));
        let ticket = TicketRecord { expires_at, ..ticket };
        self.0.lock().insert(ticket.hash, ticket);
        Ok(())
    }

    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        Ok(self.0.lock().get(hash).cloned())
    }
}

/// A bare server that says what it is told.
async fn bare() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let said = message.is_text() || message.is_binary();
                    if said && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// How each case went, and how its close did.
fn run(program: &str, url: &str, folder: &Path) -> BTreeMap<String, [u8; 2]> {
    let mut command = Command::new(program);
    command.args(["--parallelism", "4", "--outdir"]).arg(folder);
    command.args(LEFT_OUT.iter().flat_map(|left_out| ["--exclude", *left_out]));
    // It says by its status whether every case passed, which some do not on either side.
    let output = command.arg(url).output().unwrap();
    let index = std::fs::read(folder.join("index.json"))
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let index: Value = serde_json::from_slice(&index).unwrap();
    let agents = index.as_object().unwrap();
    let cases = agents.values().flat_map(|cases| cases.as_object().unwrap());
    let how = |case: &Value, what: &str| rank(case[what].as_str().unwrap());
    cases
        .map(|(id, case)| (id.clone(), [how(case, "behavior"), how(case, "behaviorClose")]))
        .collect()
}

/// The less the better.
fn rank(how: &str) -> u8 {
    match how {
        "OK" | "INFORMATIONAL" => 0,
        "NON-STRICT" => 1,
        _ => 2,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_autobahn_case_is_worse_than_with_a_bare_socket() {
    let Some(program) =
        std::env::var("APEX_TEST_KOSOKU").ok().filter(|program| !program.is_empty())
    else {
        return apex_test_services::skip("kosoku", "APEX_TEST_KOSOKU does not name it");
    };
    let mut settings = Settings::default();
    settings.transport.connection.frame_bytes = 1 << 20;
    settings.stores = Box::new(|stores| apex_core::store::Stores {
        tickets: Arc::new(UsedAgain(Mutex::default())),
        ..stores
    });
    let wire = Wire::start_with(settings).await;
    let ticket = wire.ticket(&wire.token("ada").await).await;
    let (ours, bare) = (host::start(wire.service.clone()).await, bare().await);
    let folder = tempfile::tempdir().unwrap();
    let cases = |url: String, name: &str| {
        let (program, folder) = (program.clone(), folder.path().join(name));
        tokio::task::spawn_blocking(move || run(&program, &url, &folder))
    };
    let bare = cases(format!("ws://{bare}/"), "bare").await.unwrap();
    let ours = cases(format!("ws://{ours}/echo?ticket={ticket}"), "ours").await.unwrap();
    assert!(ours.len() >= CASES && ours.keys().eq(bare.keys()), "{} of {}", ours.len(), bare.len());
    let worse: Vec<_> = ours
        .iter()
        .filter(|(case, how)| how.iter().zip(bare[*case]).any(|(ours, bare)| *ours > bare))
        .collect();
    assert!(worse.is_empty(), "{worse:?}");
    let strict = |all: &BTreeMap<String, [u8; 2]>| {
        all.iter().filter(|(_, how)| **how != [0, 0]).map(|(case, _)| case.clone()).collect()
    };
    let (ours, bare): (Vec<String>, Vec<String>) = (strict(&ours), strict(&bare));
    println!("not strictly passed: {ours:?}, with a bare socket {bare:?}");
    wire.emptied().await;
}
