//! What every language that embeds Apex has to do, by the list that they share, from Rust: functions of a host's that
//! happen to be closures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod seams;

use apex_bindings::{
    AgentSpec, Approval, Ask, Call, Callback, Content, Frame, Head, Host, HostAgent, HostTool,
    Kind, Knocked, Parts, Principal, Problem, Result, Settings, ToolSpec, analyse,
};
use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use seams::{alerts, authenticate, door, knocking, memory, secrets};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

const USAGE: &str = "timestamp,model,input_tokens,output_tokens,cost_usd\n\
    2026-03-01T10:00:00Z,gpt-4o,1000,100,0.0035\n2026-03-02T10:00:00Z,gpt-4o,2000,200,0.007\n";

type Work = dyn Fn(Value, Call) -> BoxFuture<'static, Result<Value>> + Send + Sync;

/// A function of the host's.
struct Function(Box<Work>);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

#[async_trait]
impl Callback for Function {
    async fn call(&self, input: Value, call: Call) -> Result<Value> {
        (self.0)(input, call).await
    }
}

fn function<F, W>(work: F) -> Arc<dyn Callback>
where
    F: Fn(Value, Call) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Value>> + Send + 'static,
{
    Arc::new(Function(Box::new(move |input, call| work(input, call).boxed())))
}

fn agent<F, W>(name: &str, fields: &[&str], work: F) -> HostAgent
where
    F: Fn(Value, Call) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Value>> + Send + 'static,
{
    let properties: serde_json::Map<_, _> =
        fields.iter().map(|field| ((*field).to_owned(), json!(true))).collect();
    let input = json!({ "type": "object", "properties": properties, "required": fields });
    let spec = json!({ "name": name, "purpose": "Works.", "input": input, "output": "any" });
    HostAgent::new(serde_json::from_value::<AgentSpec>(spec).unwrap(), function(work))
}

fn tool<F, W>(spec: Value, work: F) -> HostTool
where
    F: Fn(Value, Call) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Value>> + Send + 'static,
{
    HostTool::new(serde_json::from_value::<ToolSpec>(spec).unwrap(), function(work))
}

fn shout() -> HostTool {
    let arguments = json!({ "type": "object", "properties": { "word": { "type": "string" } },
        "required": ["word"], "additionalProperties": false });
    let spec = json!({ "name": "shout", "description": "Louder.", "arguments": arguments });
    tool(spec, |input, _| async move { Ok(json!(format!("{}!", text(&input["word"])))) })
}

fn hello() -> HostAgent {
    agent("hello", &["text"], |input, call| async move {
        let Call::Agent(work) = call else { panic!("no agent") };
        let said = work.call("shout".to_owned(), json!({ "word": input["text"] })).await?;
        Ok(json!({ "text": said }))
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

async fn open(agents: Vec<HostAgent>, tools: Vec<HostTool>) -> (Host, Principal) {
    let host = Parts { agents, tools, ..Parts::default() }.build().await.unwrap();
    let ada = host.user("ada").await.unwrap();
    (host, ada)
}

fn asking(text: &str) -> Ask {
    Ask { text: text.to_owned(), ..Ask::default() }
}

async fn ask(host: &Host, who: &Principal, text: &str) -> Result<String> {
    let run = host.start(who, asking(text), ()).await?;
    let answer = host.result(who, run["run"].as_str().unwrap()).await?;
    Ok(answer["text"].as_str().unwrap().to_owned())
}

async fn events(host: &Host, who: &Principal, run: &Value) -> Vec<Value> {
    let events = host.follow(who, text(&run["run"]), 0, None).await.unwrap();
    let mut all = Vec::new();
    while let Some(batch) = events.next_many().await.unwrap() {
        let read: Vec<Value> = serde_json::from_slice(&batch.json).unwrap();
        assert_eq!(read.len(), batch.events);
        all.extend(read);
    }
    all
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| text(&event["type"])).collect()
}

fn code<T: fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code()
}

async fn golden_path() {
    let (host, ada) = open(Vec::new(), Vec::new()).await;
    let file = host.upload(&ada, "usage.csv", USAGE.as_bytes().to_vec()).await.unwrap();
    let files = vec![text(&file["file"]).to_owned()];
    let run =
        host.start(&ada, Ask { files, ..asking("Where does our money go?") }, ()).await.unwrap();
    let all = events(&host, &ada, &run).await;
    assert_eq!(*kinds(&all).last().unwrap(), "run_completed");
    let made = host.artifacts(&ada, text(&run["run"])).await.unwrap();
    let report = made.as_array().unwrap().iter().find(|one| one["name"] == "report.json").unwrap();
    let report = host.artifact(&ada, text(&report["artifact"])).await.unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["totals"]["requests"], 2);
    let thread = Some(text(&run["thread"]).to_owned());
    let next = host.start(&ada, Ask { thread, ..asking("And by model?") }, ()).await.unwrap();
    assert_eq!(next["thread"], run["thread"]);
}

async fn hello_case() {
    let (host, ada) = open(vec![hello()], vec![shout()]).await;
    let run = host.start(&ada, asking("hello"), ()).await.unwrap();
    let all = events(&host, &ada, &run).await;
    let expected = ["run_started", "agent_started", "agent_thinking", "tool_executing"];
    assert!(kinds(&all).starts_with(&expected), "{:?}", kinds(&all));
    assert_eq!(all.last().unwrap()["data"]["result"]["text"], "hello!");
}

async fn mixed() {
    let front = agent("front", &["text"], |_, call| async move {
        let Call::Agent(work) = call else { panic!("no agent") };
        let mut plan = work.plan("data_helper", &[])?.unwrap();
        let end = json!({ "agent": "ending", "purpose": "", "needs": ["data_helper"], "optional": false });
        plan["steps"].as_array_mut().unwrap().push(end);
        Ok(json!({ "plan": plan }))
    });
    let ending = agent("ending", &["data_helper"], |input, _| async move {
        Ok(json!({ "text": input["data_helper"].to_string() }))
    });
    let agents = vec![front, ending];
    let entry = Some("front".to_owned());
    let host = Parts { agents, entry, team: true, ..Parts::default() }.build().await.unwrap();
    let ada = host.user("ada").await.unwrap();
    let file = host.upload(&ada, "usage.csv", USAGE.as_bytes().to_vec()).await.unwrap();
    let files = vec![text(&file["file"]).to_owned()];
    let run = host.start(&ada, Ask { files, ..asking("look") }, ()).await.unwrap();
    let all = events(&host, &ada, &run).await;
    let started = all.iter().filter(|event| event["type"] == "agent_started");
    let agents: Vec<_> = started.map(|event| text(&event["data"]["agent"])).collect();
    assert_eq!(agents, ["front", "triage", "data_helper", "ending"]);
}

async fn triggers() {
    let spec = json!({ "name": "desk", "purpose": "Opens.", "input": true, "triggers": ["open a ticket"] });
    let opens = function(|_, _| async {
        let steps = json!([{ "agent": "clerk", "purpose": "", "needs": [], "optional": false }]);
        Ok(json!({ "plan": { "steps": steps, "question": "a ticket about otters" } }))
    });
    let desk = HostAgent::new(serde_json::from_value::<AgentSpec>(spec).unwrap(), opens);
    let clerk = agent("clerk", &["text"], |input, _| async move {
        Ok(json!({ "text": format!("opened: {}", text(&input["text"])) }))
    });
    let agents = vec![desk, clerk];
    let host = Parts { agents, team: true, ..Parts::default() }.build().await.unwrap();
    let ada = host.user("ada").await.unwrap();
    let opened = ask(&host, &ada, "Please OPEN a ticket: otters!").await.unwrap();
    assert_eq!(opened, "opened: a ticket about otters");
    assert!(ask(&host, &ada, "What do we spend?").await.unwrap().contains("No usage data"));
}

async fn plan() {
    let boss = agent("boss", &[], |_, _| async {
        let step = |agent: &str, needs: &[&str]| json!({ "agent": agent, "purpose": "", "needs": needs, "optional": false });
        Ok(json!({ "plan": { "steps": [step("count", &[]), step("tell", &["count"])] } }))
    });
    let count = agent("count", &["text"], |input, _| async move {
        Ok(json!({ "value": { "words": text(&input["text"]).split(' ').count() } }))
    });
    let tell = agent("tell", &["count"], |input, _| async move {
        Ok(json!({ "text": format!("{} words", input["count"]["words"]) }))
    });
    let (host, ada) = open(vec![boss, count, tell], Vec::new()).await;
    assert_eq!(ask(&host, &ada, "one two three").await.unwrap(), "3 words");
}

fn busy() -> HostAgent {
    agent("busy", &[], |_, call| async move {
        let Call::Agent(work) = call else { panic!("no agent") };
        for n in 0..200 {
            work.think(n.to_string()).await?;
        }
        Ok(json!({ "text": "done" }))
    })
}

async fn batches() {
    let (host, ada) = open(vec![busy()], Vec::new()).await;
    let run = host.start(&ada, asking("go"), ()).await.unwrap();
    host.result(&ada, text(&run["run"])).await.unwrap();
    let all = events(&host, &ada, &run).await;
    let numbers: Vec<_> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=204).collect::<Vec<_>>());
}

async fn resume() {
    let (host, ada) = open(vec![hello()], vec![shout()]).await;
    let run = host.start(&ada, asking("hello"), ()).await.unwrap();
    let all = events(&host, &ada, &run).await;
    let (run, epoch) = (text(&run["run"]), text(&all[0]["epoch"]));
    let rest = host.follow(&ada, run, 4, Some(epoch)).await.unwrap().next_many().await.unwrap();
    let rest: Vec<Value> = serde_json::from_slice(&rest.unwrap().json).unwrap();
    assert_eq!(rest, all[4..]);
    let lost = host.follow(&ada, run, 2, Some(&Host::request_id())).await.unwrap();
    let lost: Vec<Value> =
        serde_json::from_slice(&lost.next_many().await.unwrap().unwrap().json).unwrap();
    assert_eq!((kinds(&lost), &lost[0]["data"]["reason"]), (vec!["reset"], &json!("epoch")));
    assert_eq!(code(host.follow(&ada, run, 2, None).await), "bad_request");
}

async fn tickets() {
    let (host, ada) = open(Vec::new(), Vec::new()).await;
    let ticket = host.ticket(&ada).await.unwrap();
    let target = format!("/ws?ticket={}", text(&ticket["ticket"]));
    let head = || Head { method: "GET".to_owned(), target: target.clone(), ..Head::default() };
    assert!(matches!(host.knock(head()).await.unwrap(), Knocked::Accepted { .. }));
    let Knocked::Refused(answer) = host.knock(head()).await.unwrap() else { panic!("twice") };
    assert_eq!(answer.status, 401);
}

async fn limits() {
    let calling = agent("calling", &["text"], |input, call| async move {
        let Call::Agent(work) = call else { panic!("no agent") };
        let arguments = serde_json::from_str(text(&input["text"])).unwrap();
        Ok(json!({ "text": work.call("shout".to_owned(), arguments).await? }))
    });
    let (host, ada) = open(vec![calling], vec![shout()]).await;
    assert_eq!(code(ask(&host, &ada, &"x".repeat(20_000)).await), "too_large");
    assert_eq!(code(ask(&host, &ada, r#"{"wrod": "a"}"#).await), "bad_arguments");
    assert_eq!(ask(&host, &ada, r#"{"word": "a"}"#).await.unwrap(), "a!");
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn until(flag: &AtomicBool) {
    for _ in 0..500 {
        if flag.load(Ordering::SeqCst) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come");
}

async fn cancel() {
    let (begun, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flags = (Arc::clone(&begun), Arc::clone(&stopped));
    let slow = agent("slow", &[], move |_, _| {
        let (begun, stopped) = flags.clone();
        async move {
            let _guard = Dropped(stopped);
            begun.store(true, Ordering::SeqCst);
            std::future::pending().await
        }
    });
    let (host, ada) = open(vec![slow], Vec::new()).await;
    let run = host.start(&ada, asking("go"), ()).await.unwrap();
    until(&begun).await;
    host.cancel(&ada, text(&run["run"])).await.unwrap();
    until(&stopped).await;
    assert_eq!(code(host.result(&ada, text(&run["run"])).await), "cancelled");
}

async fn deadline() {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let spec =
        json!({ "name": "shout", "description": "Slow.", "arguments": true, "timeout_ms": 50 });
    let slow = tool(spec, move |_, _| {
        let guard = Dropped(Arc::clone(&flag));
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    let (host, ada) = open(vec![hello()], vec![slow]).await;
    assert_eq!(code(ask(&host, &ada, "hello").await), "deadline_exceeded");
    until(&stopped).await;
}

async fn raises() {
    let bad = agent("bad", &["text"], |input, _| async move {
        assert_ne!(text(&input["text"]), "panic", "on purpose");
        Err(Problem::of_host(None, Kind::AgentFailed, "ValueError: no such luck"))
    });
    let (host, ada) = open(vec![bad], Vec::new()).await;
    let error = ask(&host, &ada, "go").await.unwrap_err();
    assert_eq!((error.code(), error.message()), ("agent_failed", "ValueError: no such luck"));
    assert_eq!(code(ask(&host, &ada, "panic").await), "agent_panicked");
}

async fn codes() {
    let failing = agent("failing", &["text"], |input, _| async move {
        Err(Problem::of_host(input["text"].as_str(), Kind::AgentFailed, "because"))
    });
    let (host, ada) = open(vec![failing], Vec::new()).await;
    for kind in Kind::ALL.iter().filter(|kind| !matches!(kind, Kind::Cancelled | Kind::Fenced)) {
        let error = ask(&host, &ada, kind.row().code).await.unwrap_err();
        assert_eq!(error.kind(), *kind);
        let told: Value = serde_json::from_str(&Problem::from(error).to_json()).unwrap();
        assert_eq!(told["category"], json!(kind.row().class));
    }
}

async fn approval() {
    let spec = json!({ "name": "shout", "description": "Louder.", "arguments": true });
    let made = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&made);
    let order = tool(spec, move |input, _| {
        calls.lock().unwrap().push(input["word"].clone());
        async { Ok(json!("ordered")) }
    });
    let order = order.approval(Approval::When(Arc::new(|input| Ok(input["word"] != "small"))));
    let (host, ada) = open(vec![hello()], vec![order]).await;
    assert_eq!(ask(&host, &ada, "small").await.unwrap(), "ordered");
    for (word, decision) in [("big", "approve"), ("huge", "deny")] {
        let run = host.start(&ada, asking(word), ()).await.unwrap();
        let id = text(&run["run"]);
        let follows = host.follow(&ada, id, 0, None).await.unwrap();
        while let Some(batch) = follows.next_many().await.unwrap() {
            for event in serde_json::from_slice::<Vec<Value>>(&batch.json).unwrap() {
                let data = &event["data"];
                if event["type"] == "approval_requested" {
                    let (approval, digest) = (text(&data["approval"]), text(&data["digest"]));
                    host.decide(&ada, id, approval, digest, decision).await.unwrap();
                }
            }
        }
        let denied = host.result(&ada, id).await.err().map(|error| error.code());
        assert_eq!(denied, (decision == "deny").then_some("denied"));
    }
    assert_eq!(*made.lock().unwrap(), ["small", "big"]);
}

async fn bad_configuration() {
    let settings = json!({
        "values": { "runs": { "runing": 3 }, "connections": 7, "database": { "url": "sqlite:a.db" } },
        "environment": { "APEX_RUNS_RUNNING": "many" },
    });
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let problem = settings.load(None).unwrap_err();
    let told: Value = serde_json::from_str(&problem.to_json()).unwrap();
    let keys: Vec<_> = told["faults"].as_array().unwrap().iter().map(|f| text(&f["key"])).collect();
    assert_eq!(keys, ["connections", "runs.runing", "runs.running"]);
    assert_eq!(told["code"], "config_invalid");
    let twice = Parts { agents: vec![hello(), hello()], ..Parts::default() }.build().await;
    assert!(twice.unwrap_err().to_string().contains("twice"));
}

async fn bad_values() {
    let strange = agent("strange", &[], |_, _| async { Ok(json!({ "txet": "x" })) });
    let (host, ada) = open(vec![strange], Vec::new()).await;
    assert_eq!(code(ask(&host, &ada, "go").await), "bad_output");
    assert_eq!(code(host.user(&"x".repeat(10_000)).await), "bad_request");
    assert_eq!(code(host.usage(&ada, None, "weekday").await), "bad_request");
    assert_eq!(host.usage(&ada, None, "step").await.unwrap(), json!([]));
    assert_eq!(code(host.run(&ada, "no id").await), "not_found");
}

async fn socket() {
    let parts = Parts {
        agents: vec![hello()],
        tools: vec![shout()],
        doors: vec![door()],
        ..Parts::default()
    };
    let host = parts.build().await.unwrap();
    let Knocked::Accepted { pipe, .. } = host.knock(knocking("/ws", "good")).await.unwrap() else {
        panic!("refused");
    };
    let message =
        json!({ "frame": "message", "id": "1", "request_id": Host::request_id(), "text": "hello" });
    assert!(pipe.text(message.to_string()).await);
    loop {
        match pipe.next().await.unwrap() {
            Frame::Text(frame) => {
                let frame: Value = serde_json::from_slice(&frame).unwrap();
                if frame["type"] == "run_completed" {
                    assert_eq!(frame["data"]["result"]["text"], "hello!");
                    break;
                }
            }
            Frame::Ping => {}
            Frame::Close(code, reason) => panic!("{code} {reason}"),
        }
    }
    pipe.close().await;
    assert!(!pipe.text("late".to_owned()).await);
    let Knocked::Refused(answer) = host.knock(knocking("/ws", "bad")).await.unwrap() else {
        panic!("let in");
    };
    assert_eq!(answer.status, 401);
}

async fn serve() {
    let (host, _) = open(Vec::new(), Vec::new()).await;
    let serving = host.serve(Some("127.0.0.1:0")).await.unwrap();
    let address = serving.address().to_string();
    tokio::net::TcpStream::connect(&address).await.unwrap();
    assert_eq!(host.serve(Some(&address)).await.err().map(|e| e.code()), Some("unavailable"));
    assert_eq!(host.serve(Some("nowhere")).await.err().map(|e| e.code()), Some("bad_request"));
    serving.stop().await.unwrap();
    serving.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

async fn threads() {
    let (host, ada) = open(vec![hello()], vec![shout()]).await;
    for word in ["one", "two", "three"] {
        ask(&host, &ada, word).await.unwrap();
    }
    let first = host.threads(&ada, false, None, 2).await.unwrap();
    let second = host.threads(&ada, false, first["next"].as_str(), 2).await.unwrap();
    assert_eq!(second["items"][0]["title"], "one");
    let thread = text(&second["items"][0]["thread"]);
    let bob = host.user("bob").await.unwrap();
    assert_eq!(code(host.messages(&bob, thread, None, 9).await), "not_found");
    assert_eq!(code(host.forget(&bob, thread).await), "not_found");
    host.forget(&ada, thread).await.unwrap();
    assert_eq!(code(host.messages(&ada, thread, None, 9).await), "not_found");
}

async fn context() {
    let seen = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seen);
    let agent = agent("one", &[], move |_, call| {
        *kept.lock().unwrap() = call.request().map(str::to_owned);
        async { Ok(json!({ "text": "x" })) }
    });
    let (host, ada) = open(vec![agent], Vec::new()).await;
    let request = Some(Host::request_id());
    let run = host.start(&ada, Ask { request: request.clone(), ..asking("x") }, ()).await.unwrap();
    host.result(&ada, text(&run["run"])).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), request);
}

/// Tells when it is dropped.
struct Kept(Arc<Notify>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn context_ends() {
    let gone = Arc::new(Notify::new());
    let kept = || Kept(Arc::clone(&gone));
    let longest = Duration::from_secs(10);
    let (host, ada) = open(vec![hello()], vec![shout()]).await;
    host.start(&ada, asking("hello"), kept()).await.unwrap();
    timeout(longest, gone.notified()).await.unwrap();

    let waits = agent("waits", &[], |_, _| std::future::pending());
    let (host, ada) = open(vec![waits], Vec::new()).await;
    let run = host.start(&ada, asking("go"), kept()).await.unwrap();
    timeout(Duration::from_millis(50), gone.notified()).await.unwrap_err();
    host.cancel(&ada, text(&run["run"])).await.unwrap();
    timeout(longest, gone.notified()).await.unwrap();

    let no_thread = Ask { thread: Some("none".into()), ..asking("go") };
    assert_eq!(code(host.start(&ada, no_thread, kept()).await), "not_found");
    timeout(longest, gone.notified()).await.unwrap();

    host.start(&ada, asking("go"), kept()).await.unwrap();
    drop(host);
    timeout(longest, gone.notified()).await.unwrap();
}

async fn analysis() {
    let file = Content::Bytes("usage.csv".to_owned(), USAGE.as_bytes().into());
    let report = analyse(&[file], None, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(report.totals.requests, 2);
    let nowhere = Content::Path("nowhere.csv".into());
    let missing = analyse(&[nowhere], None, &mut |_| ControlFlow::Continue(()));
    assert_eq!(code(missing.map(|_| ())), "bad_data");
}

async fn health() {
    let (host, _) = open(Vec::new(), Vec::new()).await;
    assert_eq!(host.health().await.unwrap()["status"], "pass");
}

async fn closed() {
    let (host, ada) = open(vec![hello()], vec![shout()]).await;
    assert!(host.drain(Duration::from_secs(5)).await);
    assert!(host.drain(Duration::from_secs(5)).await);
    assert_eq!(code(ask(&host, &ada, "hello").await), "draining");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_list() {
    let list = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../embedded.json"));
    let list: Vec<BTreeMap<String, String>> = serde_json::from_str(&list.unwrap()).unwrap();
    let mut cases: BTreeMap<&str, BoxFuture<'static, ()>> = BTreeMap::new();
    macro_rules! cases {
        ($($name:literal $case:ident)*) => {$( cases.insert($name, $case().boxed()); )*};
    }
    cases! {
        "golden_path" golden_path "hello" hello_case "mixed" mixed "triggers" triggers "plan" plan "batches" batches
        "resume" resume "tickets" tickets "limits" limits "cancel" cancel "deadline" deadline
        "raises" raises "codes" codes "approval" approval "bad_configuration" bad_configuration
        "bad_values" bad_values "authenticate" authenticate "socket" socket "serve" serve
        "threads" threads "secrets" secrets "alerts" alerts "memory" memory "context" context
        "context_ends" context_ends "analysis" analysis
        "health" health "closed" closed
    }
    for case in &list {
        let name = case["name"].as_str();
        let work = cases.remove(name).unwrap_or_else(|| panic!("{name} is missing"));
        println!("{name}");
        tokio::time::timeout(Duration::from_secs(30), work)
            .await
            .unwrap_or_else(|_| panic!("{name} hangs"));
    }
    assert!(cases.is_empty(), "the list lacks {:?}", cases.keys());
}
