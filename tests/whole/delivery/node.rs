//! A node of a group: a process of its own, so that it can be killed and stopped. It is this test program, run again.

use apex_test_services::{Signal, signal};
use async_trait::async_trait;
use netra_apex::core::config::Environment;
use netra_apex::core::id::ThreadId;
use netra_apex::core::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLimits, RunLog, RunView,
    Started,
};
use netra_apex::core::store::Stores;
use netra_apex::core::testkit::history::Written;
use netra_apex::prelude::*;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
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
            Some(redis) => builder.redis(redis.parse().unwrap(), self.name.clone()),
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
}

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
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .find_map(|line| line.ok()?.split_once("port ")?.1.trim().parse().ok())
            .unwrap_or_else(|| panic!("a node did not start; see {}", folder.display()));
        // What else it prints is of no interest, but has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, input, port, journal }
    }

    pub(super) fn kill(&mut self) {
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
        let journal = PathBuf::from(std::env::var_os("APEX_TEST_NODE_JOURNAL").unwrap());
        runtime.block_on(serve(&Place { database, redis, name }, &journal));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("apex.db").display());
    let place = Place { database, redis: None, name: "apex".to_owned() };
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
    let journal = std::fs::File::create(journal).unwrap();
    let runs = Arc::new(Journalled { runs: Arc::clone(&stores.runs), journal });
    let tick = tool_fn("tick", "Waits a little.", |n: u64, _| async move {
        tokio::time::sleep(PACE).await;
        Ok(n)
    });
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
        .stores(Stores { runs, ..stores })
        .build()
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("port {}", listener.local_addr().unwrap().port());
    std::io::stdout().flush().unwrap();
    let leaving = async {
        let mut rest = Vec::new();
        tokio::io::stdin().read_to_end(&mut rest).await.unwrap();
        apex.drain(Duration::from_millis(500)).await;
    };
    apex.serve(listener, leaving).await.unwrap();
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
impl RunLog for Journalled {
    async fn start(&self, principal: &Principal, run: NewRun) -> Result<Started> {
        self.runs.start(principal, run).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.runs.claim(claim).await
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let appended = self.runs.append(lease, batch.clone()).await?;
        self.note(&batch);
        Ok(appended)
    }

    async fn signal(
        &self,
        principal: &Principal,
        run: RunId,
        signal: netra_apex::core::run::Signal,
    ) -> Result<netra_apex::core::run::RunState> {
        self.runs.signal(principal, run, signal).await
    }

    async fn view(&self, principal: &Principal, run: RunId) -> Result<RunView> {
        self.runs.view(principal, run).await
    }

    async fn read(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<Page> {
        self.runs.read(principal, run, after, max).await
    }

    async fn inbox(&self, principal: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        self.runs.inbox(principal, after, max).await
    }

    async fn forget(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        self.runs.forget(principal, thread).await
    }
}

/// An event as the log holds it.
pub(super) fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}
