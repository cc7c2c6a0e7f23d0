//! A node of a group: a process of its own, so that it can be killed and stopped. It is this test program, run again.

use super::connections::{self, Watched, Watching};
use apex_test_services::{Signal, signal};
use async_trait::async_trait;
use netra_apex::core::config::Environment;
use netra_apex::core::run::{Append, Appended, Lease, RunLimits, RunLog};
use netra_apex::core::store::Stores;
use netra_apex::core::testkit::history::{Counted, Written};
use netra_apex::core::testkit::{Between, Over};
use netra_apex::prelude::*;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// How long a node may be silent before its runs are taken over.
pub(super) const LEASE: Duration = Duration::from_secs(4);

/// What a run says and does, so many times, so far apart.
const STEPS: u64 = 10;
const PACE: Duration = Duration::from_millis(200);

/// Where the nodes of a group keep everything.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) database: String,
    pub(super) redis: Option<String>,
    /// Whether the events are there.
    pub(super) event_log: bool,
    /// The name of the schema, and the prefix of the keys.
    pub(super) name: String,
}

impl Place {
    fn builder(&self) -> netra_apex::Builder {
        let builder = Apex::builder()
            .environment(Environment::Development)
            .runs(RunLimits { lease: LEASE, ..RunLimits::default() })
            .database(self.database.parse().unwrap())
            .schema(self.name.parse().unwrap());
        match &self.redis {
            Some(redis) => {
                let builder = builder.redis(redis.parse().unwrap(), self.name.clone());
                if self.event_log { builder.event_log_in_redis() } else { builder }
            }
            None => builder,
        }
    }

    pub(super) async fn stores(&self) -> Stores {
        self.builder().stores_alone().await.unwrap()
    }
}

/// A node that was started.
#[derive(Debug)]
pub(super) struct Node {
    process: Child,
    input: Option<ChildStdin>,
    pub(super) port: u16,
    journal: PathBuf,
    /// What it has left, said when its users were gone.
    said: mpsc::Receiver<String>,
    killed: Option<u64>,
}

/// Tells a node that its users have gone, and it may follow.
const GONE: &[u8] = b"gone";

/// How many more tasks and descriptors a node may have in the end than before its first user came: those of pools and of
/// its own servants, of which some begin late.
const MORE: u64 = 24;

impl Node {
    /// Starts a node that writes down in `folder` what its store acknowledges.
    pub(super) fn start(place: &Place, folder: &Path) -> Self {
        let journal = folder.join(format!("acknowledged-{}", uuid()));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture", "delivery::node::a_node_serves_until_its_input_ends"])
            .env("APEX_TEST_NODE", &place.name)
            .env("APEX_TEST_NODE_DATABASE", &place.database)
            .env("APEX_TEST_NODE_JOURNAL", &journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join(format!("log-{}", uuid()))).unwrap());
        if let Some(redis) = &place.redis {
            command.env("APEX_TEST_NODE_REDIS", redis);
        }
        if place.event_log {
            command.env("APEX_TEST_NODE_EVENT_LOG", "1");
        }
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .find_map(|line| line.ok()?.split_once("port ")?.1.trim().parse().ok())
            .unwrap_or_else(|| panic!("a node did not start; see {}", folder.display()));
        // What else it prints is of no interest, but has to go somewhere.
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(std::result::Result::ok) {
                if let Some(left) = line.split_once("left ") {
                    let _ = say.send(left.1.to_owned());
                }
            }
        });
        Self { process, input, port, journal, said, killed: None }
    }

    pub(super) fn kill(&mut self) {
        self.killed = Some(connections::now());
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(super) fn pause(&self) {
        signal(self.process.id(), Signal::Stop);
    }

    pub(super) fn go_on(&self) {
        signal(self.process.id(), Signal::Continue);
    }

    /// Tells it to drain, and to end.
    pub(super) fn leave(&mut self) {
        drop(self.input.take());
    }

    /// Lets it end, and says what it still had when nobody was connected any more; nothing of one that was killed.
    pub(super) fn left(&mut self) -> Vec<Counted> {
        let Some(mut input) = self.input.take().filter(|_| self.killed.is_none()) else {
            return Vec::new();
        };
        input.write_all(GONE).unwrap();
        drop(input);
        let left = self.said.recv_timeout(Duration::from_secs(120)).unwrap();
        self.process.wait().unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        let counts = left.as_object().unwrap().iter().map(|(what, counted)| Counted {
            what: format!("{what} left"),
            count: counted[0].as_u64().unwrap(),
            most: counted[1].as_u64().unwrap(),
        });
        counts.collect()
    }

    /// What it wrote down of connections.
    pub(super) fn watched(&self) -> Watched {
        Watched::read(&self.journal, self.killed)
    }

    /// Waits for its end; whether it was a good one.
    pub(super) fn ended(&mut self) -> bool {
        self.leave();
        self.process.wait().unwrap().success()
    }

    /// What its store has acknowledged; a line that a kill cut short tells nothing.
    pub(super) fn acknowledged(&self) -> Vec<Written> {
        let Ok(text) = std::fs::read_to_string(&self.journal) else { return Vec::new() };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter_map(|line| Written::read(&serde_json::from_str(line).unwrap()))
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

fn uuid() -> RequestId {
    RequestId::new(&netra_apex::core::clock::SystemClock)
}

/// Serves as a node where it was started as one; and starts one, which answers, and ends when its input does.
#[test]
fn a_node_serves_until_its_input_ends() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(name) = std::env::var("APEX_TEST_NODE") {
        let database = std::env::var("APEX_TEST_NODE_DATABASE").unwrap();
        let redis = std::env::var("APEX_TEST_NODE_REDIS").ok();
        let event_log = std::env::var_os("APEX_TEST_NODE_EVENT_LOG").is_some();
        let journal = PathBuf::from(std::env::var_os("APEX_TEST_NODE_JOURNAL").unwrap());
        runtime.block_on(serve(&Place { database, redis, event_log, name }, &journal));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("apex.db").display());
    let place = Place { database, redis: None, event_log: false, name: "apex".to_owned() };
    let mut node = Node::start(&place, folder.path());
    let url = format!("http://127.0.0.1:{}", node.port);
    let answer = runtime.block_on(async {
        let api = netra_apex::transport::client::Api::new(&url).unwrap();
        api.log_in("ada").await.unwrap().threads().await.unwrap()
    });
    assert!(answer.items.is_empty());
    assert!(node.ended());
}

async fn serve(place: &Place, journal: &Path) {
    let stores = place.stores().await;
    let limits = Arc::new(Watching::over(Arc::clone(&stores.limits), journal));
    let journal = std::fs::File::create(journal).unwrap();
    let runs = Arc::new(Over(Journalled { runs: Arc::clone(&stores.runs), journal }));
    let tick = tool_fn("tick", "Waits a little.", |n: u64, _| async move {
        tokio::time::sleep(PACE).await;
        Ok(n)
    })
    .effect(Effect::Read);
    let clerk = agent_fn("clerk", "Takes its time.", |_: Request, context| async move {
        for n in 0..STEPS {
            context.think(format!("round {n}")).await?;
            context.call::<u64>("tick", n).await?;
        }
        Ok("done".to_owned())
    });
    let apex = place
        .builder()
        .agent(clerk)
        .tool(tick)
        .stores(Stores { runs, limits, ..stores })
        .build()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tasks, descriptors) = in_use();
    println!("port {}", listener.local_addr().unwrap().port());
    std::io::stdout().flush().unwrap();
    let hub = apex.service().hub().clone();
    let leaving = async {
        let mut told = Vec::new();
        tokio::io::stdin().read_to_end(&mut told).await.unwrap();
        if told == GONE {
            // A client that went without a word is missed after some heartbeats.
            let _ = tokio::time::timeout(Duration::from_secs(90), hub.emptied()).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (left, now) = (hub.statistics(), in_use());
            let left = serde_json::json!({
                "connections": [left.connections, 0], "users": [left.users, 0],
                "unknown": [left.unknown, 0], "tasks": [now.0, tasks + MORE],
                "descriptors": [now.1, descriptors + MORE],
            });
            println!("left {left}");
        }
        apex.drain(Duration::from_millis(500)).await;
    };
    apex.serve(listener, leaving).await.unwrap();
    // Places are given back by tasks of their own.
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// The tasks and the open files of this process.
fn in_use() -> (u64, u64) {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64;
    (tasks, std::fs::read_dir("/proc/self/fd").unwrap().count() as u64)
}

/// A run log that writes down what it has acknowledged before it says so.
#[derive(Debug)]
struct Journalled {
    runs: Arc<dyn RunLog>,
    journal: std::fs::File,
}

impl Journalled {
    fn note(&self, batch: &Append) {
        let lines: Vec<u8> =
            batch.events.iter().flat_map(|event| [&event.json[..], b"\n"].concat()).collect();
        (&self.journal).write_all(&lines).unwrap();
    }
}

#[async_trait]
impl Between for Journalled {
    fn log(&self) -> &dyn RunLog {
        &*self.runs
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let appended = self.runs.append(lease, batch.clone()).await?;
        self.note(&batch);
        Ok(appended)
    }
}

/// An event as the log holds it.
pub(super) fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}
