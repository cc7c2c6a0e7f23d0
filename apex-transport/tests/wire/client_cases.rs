//! What every client has to do, by the list that all languages share, for the Rust one: against the service behind a
//! relay.

use crate::support::relay::{Act, Refuse, Relay};
use crate::support::{Settings, Wire};
use apex_core::clock::SystemClock;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, Epoch, RunId, StepId, ThreadId};
use apex_core::run::{Position, RunState};
use apex_transport::client::{
    Api, Client, ClientOptions, ClientWay, InboxUpdate, Tickets, Update, Updates,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

macro_rules! cases {
    ($($name:ident)*) => {
        mod shared {
            $(#[tokio::test]
            async fn $name() {
                super::$name().await;
            })*
        }

        const HERE: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! {
    golden_path cancel cut lost_answer gap duplicate other_epoch reset inbox codes_that_stop codes_that_resume ways
    token bad_ticket no_login limits busy bad_input draining expiring slow_reader leaving
}

#[test]
fn all_cases_are_here() {
    let list: Value = serde_json::from_str(include_str!("../../../bindings/cases.json")).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names, HERE);
}

/// A service behind a relay, and a user of it.
struct Bench {
    wire: Wire,
    relay: Relay,
    api: Api,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    async fn start_with(settings: Settings) -> Self {
        let wire = Wire::start_with(settings).await;
        let relay = Relay::start(wire.address).await;
        let api = Api::new(&format!("http://{}", relay.address)).unwrap();
        let api = api.log_in("ada").await.unwrap();
        Self { wire, relay, api }
    }

    fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::new(self.api.clone(), Arc::new(SystemClock));
        options.first_pause = Duration::from_millis(10);
        options
    }

    async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }

    /// Until that is said so many times.
    async fn said(&self, name: &str, times: usize) -> Vec<Value> {
        until(|| self.relay.said(name).len() >= times).await;
        self.relay.said(name)
    }

    /// Until so many upgrades were seen and the last one is in.
    async fn back(&self, client: &Client, times: usize) {
        until(|| self.relay.ways().len() > times).await;
        // The answer comes from a connection that stands.
        client.way().await.unwrap();
    }
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it never comes to that");
}

async fn ask(client: &Client, text: &str) -> Updates {
    client.ask(text, None, Vec::new()).await.unwrap().1
}

/// All of a run: its critical events are 1, 2, 3 and so on, and one terminal event is the last.
async fn assert_whole(updates: &mut Updates, end: &str) {
    let (mut seqs, mut last) = (Vec::new(), None);
    while let Some(update) = updates.next().await {
        let Update::Event(event) = update.unwrap() else { panic!("there is no reset") };
        assert!(!last.replace(event.is_terminal()).unwrap_or(false), "nothing follows the end");
        if let Some(seq) = event.seq {
            seqs.push(seq);
        }
        if event.is_terminal() {
            assert_eq!(event.kind, end);
        }
    }
    assert_eq!(last, Some(true));
    let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, expected);
}

async fn assert_completes(client: &Client) {
    assert_whole(&mut ask(client, "thoughts 8").await, "run_completed").await;
}

async fn golden_path() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let (accepted, mut updates) = client.ask("thoughts 3", None, Vec::new()).await.unwrap();
    assert_whole(&mut updates, "run_completed").await;
    let (next, mut updates) =
        client.ask("thoughts 3", Some(accepted.thread), Vec::new()).await.unwrap();
    assert_eq!(next.thread, accepted.thread);
    assert_whole(&mut updates, "run_completed").await;
    let mut again = client.subscribe(accepted.run, Position::default()).await.unwrap();
    assert_whole(&mut again, "run_completed").await;
}

async fn cancel() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let mut updates = ask(&client, "hold").await;
    client.cancel(updates.run()).await.unwrap();
    assert_whole(&mut updates, "run_cancelled").await;
}

async fn cut() {
    let bench = Bench::start().await;
    bench.relay.frame("event", Some(4), 1, Act::Cut);
    let client = bench.client().await;
    assert_completes(&client).await;
    assert_eq!(bench.relay.ways().len(), 2);
    assert_eq!(bench.relay.said("subscribe")[0]["after"], 3);
}

async fn lost_answer() {
    let bench = Bench::start().await;
    bench.relay.frame("accepted", None, 1, Act::Cut);
    let client = bench.client().await;
    assert_completes(&client).await;
    let messages = bench.relay.said("message");
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["request_id"], messages[1]["request_id"]);
    assert_eq!(bench.api.threads().await.unwrap().items.len(), 1);
}

async fn gap() {
    let bench = Bench::start().await;
    bench.relay.frame("event", Some(3), 1, Act::Drop);
    let client = bench.client().await;
    assert_completes(&client).await;
    let asked: Vec<Value> =
        bench.relay.said("subscribe").iter().map(|said| said["after"].clone()).collect();
    assert_eq!(asked, [json!(2)]);
}

async fn duplicate() {
    let bench = Bench::start().await;
    bench.relay.frame("event", None, 1_000, Act::Double);
    let client = bench.client().await;
    assert_completes(&client).await;
    assert_eq!(bench.relay.said("subscribe").len(), 0);
}

async fn other_epoch() {
    let bench = Bench::start().await;
    let Value::Object(fields) = json!({ "epoch": Epoch::new(&SystemClock) }) else { return };
    bench.relay.frame("event", Some(3), 1, Act::Merge(fields));
    let client = bench.client().await;
    assert_completes(&client).await;
    assert_eq!(bench.relay.said("subscribe").len(), 1);
}

async fn reset() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let mut updates = ask(&client, "thoughts 3").await;
    assert_whole(&mut updates, "run_completed").await;
    let other = Position { epoch: Some(Epoch::new(&SystemClock)), after: 3 };
    let mut updates = client.subscribe(updates.run(), other).await.unwrap();
    let Some(Ok(Update::Reset(reset))) = updates.next().await else { panic!("no reset") };
    assert_eq!(reset.snapshot.unwrap().state, RunState::Completed);
    assert!(updates.next().await.is_none());
}

async fn inbox() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let mut inbox = client.inbox(Position::default()).await.unwrap();
    let updates = ask(&client, "thoughts 3").await;
    let mut states = Vec::new();
    while states.last() != Some(&RunState::Completed) {
        let Some(Ok(InboxUpdate::Entry(entry))) = inbox.next().await else { panic!("no entry") };
        assert_eq!(entry.run, updates.run());
        states.push(entry.state);
    }
    assert!(states.len() >= 2, "{states:?}");
}

async fn codes_that_stop() {
    let bench = Bench::start().await;
    let codes = [
        (1000, Kind::Cancelled),
        (1002, Kind::Unavailable),
        (1003, Kind::Unavailable),
        (1007, Kind::Unavailable),
        (1008, Kind::Unavailable),
        (1009, Kind::TooLarge),
        (4400, Kind::BadFrame),
        (4403, Kind::Forbidden),
        (4409, Kind::Conflict),
        (4429, Kind::TooManyConnections),
    ];
    for (code, kind) in codes {
        let client = bench.client().await;
        let mut inbox = client.inbox(Position::default()).await.unwrap();
        client.way().await.unwrap();
        bench.relay.close(code);
        let told = inbox.next().await.unwrap().unwrap_err();
        assert_eq!(told.kind(), kind, "{code}: {told}");
        assert!(inbox.next().await.is_none());
    }
    assert_eq!(bench.relay.ways().len(), codes.len(), "none came back");
}

async fn codes_that_resume() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let run = ask(&client, "thoughts 3").await.run();
    for (times, code) in (1..).zip([1001, 1005, 1006, 1011, 1012, 1013, 4401, 4501, 4508, 4510]) {
        bench.relay.close(code);
        bench.back(&client, times).await;
        let mut updates = client.subscribe(run, Position::default()).await.unwrap();
        assert_whole(&mut updates, "run_completed").await;
    }
}

async fn ways() {
    let bench = Bench::start().await;
    bench.relay.strip(&["authorization", "sec-websocket-protocol"]);
    bench.relay.refuse(Some("subprotocol"), Refuse::Close(4504));
    let client = bench.client().await;
    assert_eq!(client.way().await.unwrap(), ClientWay::Query);
    // A server that sees no credential waits for the hello: the relay cuts that wait short.
    bench.relay.strip(&["authorization", "sec-websocket-protocol", "?"]);
    for way in ["query", "subprotocol"] {
        bench.relay.refuse(Some(way), Refuse::Close(4504));
    }
    bench.relay.close(1006);
    bench.back(&client, 4).await;
    assert_eq!(client.way().await.unwrap(), ClientWay::Hello);
    assert_eq!(bench.relay.ways(), ["subprotocol", "query", "query", "subprotocol", "hello"]);
    assert_completes(&client).await;
}

async fn token() {
    let bench = Bench::start().await;
    let mut options = bench.options();
    options.ways = vec![ClientWay::Header, ClientWay::Subprotocol];
    let client = Client::connect(options.clone()).await.unwrap();
    assert_eq!(client.way().await.unwrap(), ClientWay::Header);
    assert_completes(&client).await;
    bench.relay.refuse(Some("header"), Refuse::Close(4504));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.way().await.unwrap(), ClientWay::Subprotocol);
    assert_eq!(bench.relay.ways(), ["header", "header", "subprotocol"]);
}

/// Tickets that are bad, or not to be had for a while.
#[derive(Debug)]
struct Trouble {
    api: Api,
    refusals: AtomicUsize,
    bad: bool,
}

#[async_trait]
impl Tickets for Trouble {
    async fn ticket(&self) -> Result<Secret<String>> {
        if self.bad {
            return Ok(Secret::new("x".repeat(43)));
        }
        let left = self.refusals.load(Ordering::SeqCst);
        if left > 0 {
            self.refusals.store(left - 1, Ordering::SeqCst);
            return Err(Error::new(Kind::Unavailable, "test.ticket", "not now"));
        }
        self.api.ticket().await
    }
}

async fn bad_ticket() {
    let bench = Bench::start().await;
    let mut options = bench.options();
    let api = bench.api.clone();
    options.tickets = Arc::new(Trouble { api, refusals: AtomicUsize::new(0), bad: true });
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
    let expected = ["subprotocol", "subprotocol", "query", "query", "hello", "hello"];
    assert_eq!(bench.relay.ways(), expected);
}

async fn no_login() {
    let bench = Bench::start().await;
    let trouble =
        Arc::new(Trouble { api: bench.api.clone(), refusals: AtomicUsize::new(0), bad: false });
    let mut options = bench.options();
    options.tickets = Arc::clone(&trouble) as _;
    let client = Client::connect(options.clone()).await.unwrap();
    trouble.refusals.store(2, Ordering::SeqCst);
    bench.relay.close(1006);
    bench.back(&client, 1).await;
    assert_eq!(trouble.refusals.load(Ordering::SeqCst), 0);
    assert_completes(&client).await;
    options.tickets = Arc::new(Api::new(bench.api.url()).unwrap());
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
}

async fn limits() {
    let mut settings = Settings::default();
    settings.transport.hub.per_user = 1;
    let bench = Bench::start_with(settings).await;
    let _client = bench.client().await;
    let error = Client::connect(bench.options()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooManyConnections);
}

async fn busy() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    bench.relay.refuse(None, Refuse::Status(503));
    bench.relay.refuse(None, Refuse::Close(1013));
    bench.relay.close(1006);
    bench.back(&client, 3).await;
    assert_eq!(bench.relay.ways(), ["subprotocol"; 4]);
}

async fn bad_input() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let nothing = RunId::new(&SystemClock);
    let thread = Some(ThreadId::new(&SystemClock));
    let error = client.ask("hi", thread, Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let mut updates = client.subscribe(nothing, Position::default()).await.unwrap();
    assert_eq!(updates.next().await.unwrap().unwrap_err().kind(), Kind::NotFound);
    assert_eq!(client.cancel(nothing).await.unwrap_err().kind(), Kind::NotFound);
    let step: StepId = "s1".parse().unwrap();
    assert_eq!(client.stop(nothing, step).await.unwrap_err().kind(), Kind::NotFound);
    let approval = ApprovalId::new(&SystemClock);
    let decided = client.decide(nothing, approval, "d", Decision::Approve).await;
    assert_eq!(decided.unwrap_err().kind(), Kind::NotFound);
    bench.relay.say(r#"{"frame":"from another time"}"#);
    assert_completes(&client).await;
    bench.relay.say("no frame");
    bench.back(&client, 1).await;
    assert_completes(&client).await;
}

async fn draining() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let mut updates = ask(&client, "thoughts 20 slow 10").await;
    bench.relay.say(r#"{"frame":"draining","after_ms":50,"jitter_ms":20}"#);
    bench.relay.close(1012);
    assert_whole(&mut updates, "run_completed").await;
    assert_eq!(bench.relay.ways().len(), 2);
}

async fn expiring() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    let before = bench.api.login().unwrap();
    bench.relay.say(r#"{"frame":"expiring","at":"2026-11-22T10:00:00.000Z"}"#);
    assert!(bench.said("hello", 1).await[0]["ticket"].is_string());
    let after = bench.api.login().unwrap();
    assert_ne!(before.token.reveal(), after.token.reveal(), "by a login that was renewed");
    assert_completes(&client).await;
    assert_eq!(bench.relay.ways().len(), 1, "it was one connection");
}

async fn slow_reader() {
    let bench = Bench::start().await;
    let mut options = bench.options();
    options.buffer = 4;
    let client = Client::connect(options).await.unwrap();
    let mut updates = ask(&client, "thoughts 20").await;
    bench.said("unsubscribe", 1).await;
    assert_whole(&mut updates, "run_completed").await;
    assert_eq!(bench.relay.said("subscribe")[0]["after"], 4);
}

async fn leaving() {
    let bench = Bench::start().await;
    let client = bench.client().await;
    // Who has left is noticed at the next event.
    let updates = ask(&client, "thoughts 200 slow 10").await;
    let run = updates.run();
    drop(updates);
    bench.said("unsubscribe", 1).await;
    client.cancel(run).await.unwrap();
    drop(client);
    bench.wire.emptied().await;
}
