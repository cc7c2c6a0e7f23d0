//! Tools of MCP servers, against a server of the official Python SDK: PyPI `mcp`.

use apex_agents::mcp::{McpReach, McpServer, McpServers};
use apex_agents::testkit::Node;
use apex_agents::{Approvals, Context, Registry, Request, agent_fn};
use apex_core::config::Secret;
use apex_core::event::{Decision, Event};
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Runner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/mcp/server.py");
const KEY: &str = "Bearer key-of-the-test";

/// The Python that has the SDK; says so where there is none.
fn python() -> Option<PathBuf> {
    let python = std::env::var("APEX_TEST_PYTHON").ok().filter(|path| !path.is_empty());
    if python.is_none() {
        apex_test_services::skip("mcp", "APEX_TEST_PYTHON names no Python");
    }
    python.map(PathBuf::from)
}

fn process(python: &Path, folder: &TempDir) -> McpReach {
    let environment = [("GIVEN".to_owned(), Secret::new("a variable".to_owned()))];
    McpReach::Process {
        command: python.to_owned(),
        arguments: vec![SCRIPT.to_owned(), folder.path().join("notes").display().to_string()],
        environment: environment.into(),
        folder: None,
    }
}

/// The same server over HTTP, until it is dropped.
struct Served {
    child: std::process::Child,
    port: u16,
}

impl Served {
    fn start(python: &Path, folder: &TempDir) -> Self {
        // Free a moment ago, and below those that are given out at random.
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = (0..1_000).map(|_| fastrand::u16(14_000..32_000)).find(free).unwrap();
        Self { child: Self::spawn(python, folder, port), port }
    }

    fn spawn(python: &Path, folder: &TempDir, port: u16) -> std::process::Child {
        let mut command = std::process::Command::new(python);
        command.arg(SCRIPT).arg(folder.path().join("notes")).arg(port.to_string());
        command.spawn().unwrap()
    }

    fn reach(&self, key: &str) -> McpReach {
        let headers = [("Authorization".to_owned(), Secret::new(key.to_owned()))];
        McpReach::Http {
            url: format!("http://127.0.0.1:{}/mcp", self.port).parse().unwrap(),
            headers: headers.into(),
            proxy: None,
            roots: Vec::new(),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node whose agent makes the call that it is asked for, and answers with what came of it.
async fn node(server: McpServer) -> Node {
    let caller = agent_fn("caller", "Calls.", |request: Request, run: Context| async move {
        let asked: Value = serde_json::from_str(&request.text).unwrap();
        let tool = asked["tool"].as_str().unwrap().to_owned();
        Ok(match run.call::<Value>(tool, asked["arguments"].clone()).await {
            Ok(value) => value.to_string(),
            Err(error) => format!("{}: {}", error.code(), error.message()),
        })
    });
    let servers = McpServers::connect(vec![server]).await.unwrap();
    Node::new(Registry::default().agent(caller).servers(&servers))
}

async fn start(node: &Node, user: &Principal, tool: &str, arguments: Value) -> Accepted {
    node.ask(user, &json!({ "tool": format!("py__{tool}"), "arguments": arguments }).to_string())
        .await
}

async fn call(node: &Node, user: &Principal, tool: &str, arguments: Value) -> String {
    let accepted = start(node, user, tool, arguments).await;
    node.ended(user, accepted.run).await;
    node.answer(user, accepted).await
}

fn notes(folder: &TempDir) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join("notes")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn noted(folder: &TempDir, line: &str) {
    for _ in 0..200 {
        if notes(folder).iter().any(|note| note == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{line:?} is not among {:?}", notes(folder));
}

/// What holds however the server is reached.
async fn tools_are_called(node: &Node, folder: &TempDir) {
    let user = &node.user();
    assert_eq!(call(node, user, "add", json!({"a": 2, "b": 3})).await, r#"{"result":5}"#);
    let told = call(node, user, "add", json!({"a": "two", "b": 3})).await;
    assert!(told.starts_with("bad_arguments: ") && told.contains("at /a:"), "{told}");
    let told = call(node, user, "fails", json!({})).await;
    assert!(told.starts_with("tool_failed: ") && told.contains("the cellar is flooded"), "{told}");
    let told = call(node, user, "nothing", json!({})).await;
    assert!(told.starts_with("bad_arguments: there is no tool py__nothing"), "{told}");
    // Names that are none here end in a digest of what they were.
    let told = call(node, user, "nothing", json!({})).await;
    let odd = told.split(", ").find(|name| name.contains("py__odd_name-")).unwrap();
    let odd = odd.rsplit("py__").next().unwrap();
    assert_eq!(call(node, user, odd, json!({})).await, r#"{"result":"odd"}"#);

    // A large result is kept by reference, and given back whole.
    let accepted = start(node, user, "much", json!({"size": 100_000})).await;
    node.ended(user, accepted.run).await;
    let kept = node.stores.artifacts.list(user, accepted.run).await.unwrap();
    assert!(kept.iter().any(|artifact| artifact.bytes == 100_002), "{kept:?}");
    let told = call(node, user, "much", json!({"size": 5_000_000})).await;
    assert!(told.starts_with("too_large: "), "{told}");

    // What writes waits for a person, bound to the exact call.
    let accepted = start(node, user, "pay", json!({"cents": 700})).await;
    let asked = |event: &Event| matches!(event, Event::ApprovalRequested { .. });
    let events = node.until(user, accepted.run, asked).await;
    let Some(Event::ApprovalRequested { approval, digest, tool, .. }) =
        events.last().map(|e| &e.event)
    else {
        panic!("{events:?}");
    };
    assert_eq!((tool.as_str(), notes(folder).contains(&"pay 700".to_owned())), ("py__pay", false));
    node.engine.decide(user, accepted.run, *approval, digest, Decision::Approve).await.unwrap();
    node.ended(user, accepted.run).await;
    assert_eq!(node.answer(user, accepted).await, r#"{"result":"700 cents"}"#);

    // A call that is cancelled is told to the server; how far it was, the user saw.
    let accepted = start(node, user, "slow", json!({})).await;
    noted(folder, "slow began").await;
    node.engine.cancel(user, accepted.run).await.unwrap();
    node.ended(user, accepted.run).await;
    noted(folder, "slow was cancelled").await;

    // Another tool is there as soon as the server says so.
    assert_eq!(call(node, user, "grow", json!({})).await, r#"{"result":"grown"}"#);
    for _ in 0..100 {
        let told = call(node, user, "late", json!({})).await;
        if !told.starts_with("bad_arguments") {
            return assert_eq!(told, r#""late""#);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the new tool was not noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_a_child_process() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server =
        McpServer::new("py", process(&python, &folder)).connect_within(Duration::from_secs(30));
    let node = node(server.clone()).await;
    let user = &node.user();
    // Its environment is what was given, and nothing of this process's.
    assert_eq!(
        call(&node, user, "variable", json!({"name": "GIVEN"})).await,
        r#"{"result":"a variable"}"#
    );
    assert_eq!(
        call(&node, user, "variable", json!({"name": "CARGO_MANIFEST_DIR"})).await,
        r#"{"result":"nothing"}"#
    );
    assert!(!format!("{server:?}").contains("a variable"));
    // A process that ends during a call that only reads is started again, and the call with it.
    assert_eq!(call(&node, user, "die", json!({})).await, r#"{"result":"alive"}"#);
    assert_eq!(notes(&folder), ["began", "died", "began"]);
    tools_are_called(&node, &folder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_over_http() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(&python, &folder);
    noted(&folder, "began").await;
    let server = McpServer::new("py", served.reach(KEY)).timeout(Duration::from_secs(20));
    let node = node(server).await;
    for _ in 0..200 {
        // It says that it began a moment before it listens.
        if call(&node, &node.user(), "add", json!({"a": 1, "b": 1})).await == r#"{"result":2}"# {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tools_are_called(&node, &folder).await;

    // A server that is gone is said to be; one that came back is called again.
    let _ = served.child.kill();
    let _ = served.child.wait();
    let told = call(&node, &node.user(), "add", json!({"a": 1, "b": 1})).await;
    assert!(told.starts_with("unavailable: ") && told.contains("the MCP server py"), "{told}");
    served.child = Served::spawn(&python, &folder, served.port);
    let mut told = String::new();
    for _ in 0..200 {
        told = call(&node, &node.user(), "add", json!({"a": 1, "b": 1})).await;
        if told == r#"{"result":2}"# {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(told, r#"{"result":2}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_key_and_a_missing_program_are_said_and_shown_to_nobody() {
    let missing = McpReach::Process {
        command: "/nowhere/at/all".into(),
        arguments: vec!["--key=secret-argument".to_owned()],
        environment: BTreeMap::new(),
        folder: None,
    };
    let node = node(McpServer::new("py", missing)).await;
    let told = call(&node, &node.user(), "add", json!({})).await;
    assert!(told.starts_with("bad_arguments: there is no tool"), "{told}");
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&python, &folder);
    noted(&folder, "began").await;
    let server = McpServer::new("py", served.reach("Bearer a-bad-key")).approval(Approvals::Always);
    let servers = McpServers::connect(vec![server]).await.unwrap();
    let error = servers.probes()[0].probe().await.unwrap_err();
    assert!(
        !error.to_string().contains("a-bad-key") && !error.report().message.contains("a-bad-key"),
        "{error}"
    );
}

/// Every call is answered as what it was, whatever it was called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_side_by_side_get_their_own_answers() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server =
        McpServer::new("py", process(&python, &folder)).connect_within(Duration::from_secs(30));
    let node = node(server).await;
    let user = &node.user();
    let calls = (0..12).map(|n| call(&node, user, "add", json!({"a": n, "b": 1_000})));
    let told = futures_util::future::join_all(calls).await;
    let expected: Vec<_> = (0..12).map(|n| format!(r#"{{"result":{}}}"#, n + 1_000)).collect();
    assert_eq!(told, expected);
}
