//! Socket.IO with connection state recovery, put through the faults of the tests of delivery: the same proxy, users,
//! runs, events and judge.

use crate::Outcome;
use apex_core::testkit::history::{Applied, History, Log, Reader, Written};
use apex_test_services::{Proxy, Replies, Signal, signal};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncBufReadExt as _;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// How long a node stands still: three leases of the nodes in the tests.
const STANDSTILL: Duration = Duration::from_secs(12);

/// What goes wrong.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::None, "none"),
    (Fault::Reset, "connections reset in the middle of a frame"),
    (Fault::HalfClosed, "connections half closed"),
    (Fault::Slices, "one byte at a time"),
    (Fault::Standstill, "a network that stands still for 2 s, twice"),
    (Fault::Balancer, "a load balancer that cuts every 3 s"),
    (Fault::Storm, "every connection cut ten times a second for 4 s"),
    (Fault::Moved, "users sent from node to node"),
    (Fault::Killed, "a node killed"),
    (Fault::Stopped, "a node stopped for three leases"),
    (Fault::Replaced, "nodes replaced one after the other under load"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Reset,
    HalfClosed,
    Slices,
    Standstill,
    Balancer,
    Storm,
    Moved,
    Killed,
    Stopped,
    Replaced,
}

/// Prints a table for one node with the adapter in memory, and one for two nodes over Redis where there is one.
pub(crate) async fn run(peers: &Path, users: usize, runs: usize) -> Outcome<()> {
    let redis = std::env::var("APEX_TEST_REDIS_URL").ok();
    for redis in std::iter::once(None).chain(redis.map(Some)) {
        let adapter = match redis {
            None => "Socket.IO, one node, adapter in memory",
            Some(_) => "Socket.IO, two nodes, adapter for Redis streams",
        };
        println!(
            "\n| {adapter} | runs | without an end | events | lost | without a word | doubled | misordered | told to start afresh |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
        for (fault, name) in FAULTS {
            if *fault == Fault::Moved && redis.is_none() {
                continue;
            }
            let group = Group::start(peers, redis.as_deref())?;
            let history = group.live_through(*fault, users, runs).await?;
            let tally = history.tally();
            println!(
                "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                history.logs.len(),
                tally.endless,
                tally.written,
                tally.lost,
                tally.silently,
                tally.doubled,
                tally.misordered,
                tally.resets,
            );
        }
    }
    Ok(())
}

/// Nodes, each behind a proxy.
struct Group {
    peers: PathBuf,
    folder: tempfile::TempDir,
    redis: Option<(String, String)>,
    nodes: Vec<Node>,
    proxies: Vec<Proxy>,
}

impl Group {
    fn start(peers: &Path, redis: Option<&str>) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut group = Self {
            peers: peers.to_owned(),
            folder,
            redis: redis.map(|redis| (redis.to_owned(), format!("peers{name}"))),
            nodes: Vec::new(),
            proxies: Vec::new(),
        };
        for _ in 0..if redis.is_some() { 2 } else { 1 } {
            let port = group.add()?;
            group.proxies.push(Proxy::start(port)?);
        }
        Ok(group)
    }

    fn add(&mut self) -> Outcome<u16> {
        let journal = self.folder.path().join(format!("journal-{}", self.nodes.len()));
        let mut command = Command::new("node");
        command.arg(self.peers.join("faults/node.mjs")).arg(&journal);
        if let Some((redis, prefix)) = &self.redis {
            command.args([redis, prefix]);
        }
        let node = Node::start(command, journal)?;
        let port = node.port;
        self.nodes.push(node);
        Ok(port)
    }

    /// Another node, which the clients of proxy `number` reach from now on.
    fn replace(&mut self, number: usize) -> Outcome<()> {
        let port = self.add()?;
        self.proxies[number].redirect(port);
        Ok(())
    }

    async fn live_through(mut self, fault: Fault, users: usize, runs: usize) -> Outcome<History> {
        let output = self.folder.path().join("came.json");
        let mut crowd = tokio::process::Command::new("node");
        crowd.arg(self.peers.join("faults/crowd.mjs")).arg(&output);
        crowd.args([users.to_string(), runs.to_string()]);
        crowd.args(self.proxies.iter().map(|proxy| proxy.port().to_string()));
        let mut crowd = crowd.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        // Nothing goes wrong before there is somebody to whom it can happen.
        let said = crowd.stdout.take().ok_or("no output")?;
        tokio::io::BufReader::new(said).lines().next_line().await?.ok_or("nobody came")?;
        sleep(SECOND / 2).await;
        self.harm(fault).await?;
        self.proxies.iter().for_each(Proxy::pass);
        if !crowd.wait().await?.success() {
            return Err("the users gave up".into());
        }
        self.history(&output)
    }

    async fn harm(&mut self, fault: Fault) -> Outcome<()> {
        let proxies = |group: &Self, harm: &dyn Fn(&Proxy)| group.proxies.iter().for_each(harm);
        match fault {
            Fault::None => {}
            Fault::Reset => {
                for round in 0..8 {
                    proxies(self, &|proxy| proxy.replies(Replies::CutAfter(700 + 331 * round)));
                    sleep(SECOND / 2).await;
                }
            }
            Fault::HalfClosed => {
                for _ in 0..4 {
                    proxies(self, &Proxy::half_close);
                    sleep(SECOND).await;
                }
            }
            Fault::Slices => {
                proxies(self, &|proxy| proxy.slice(1));
                sleep(4 * SECOND).await;
            }
            Fault::Standstill => {
                for _ in 0..2 {
                    proxies(self, &Proxy::freeze);
                    sleep(2 * SECOND).await;
                    proxies(self, &Proxy::pass);
                    sleep(SECOND / 2).await;
                }
            }
            Fault::Balancer => {
                for _ in 0..3 {
                    proxies(self, &Proxy::cut);
                    sleep(3 * SECOND).await;
                }
            }
            Fault::Storm => {
                for _ in 0..40 {
                    proxies(self, &Proxy::cut);
                    sleep(SECOND / 10).await;
                }
            }
            Fault::Moved => {
                let ports = [self.nodes[0].port, self.nodes[1].port];
                for round in 0..6 {
                    for (number, proxy) in self.proxies.iter().enumerate() {
                        proxy.redirect(ports[(number + round + 1) % 2]);
                        proxy.cut();
                    }
                    sleep(SECOND / 2).await;
                }
            }
            Fault::Killed => {
                sleep(SECOND).await;
                self.nodes[0].process.kill()?;
                if let Some(other) = self.nodes.get(1) {
                    self.proxies[0].redirect(other.port);
                }
                sleep(2 * SECOND).await;
                self.replace(0)?;
            }
            Fault::Stopped => {
                sleep(SECOND).await;
                signal(self.nodes[0].process.id(), Signal::Stop);
                if let Some(other) = self.nodes.get(1) {
                    self.proxies[0].redirect(other.port);
                    self.proxies[0].cut();
                }
                sleep(STANDSTILL).await;
                signal(self.nodes[0].process.id(), Signal::Continue);
                sleep(SECOND).await;
            }
            Fault::Replaced => {
                for number in 0..self.proxies.len() {
                    sleep(SECOND).await;
                    drop(self.nodes[number].input.take());
                    self.replace(number)?;
                }
            }
        }
        Ok(())
    }

    fn history(&self, output: &Path) -> Outcome<History> {
        let mut history = History::default();
        for node in &self.nodes {
            // A line that a kill cut short tells nothing.
            for line in std::fs::read_to_string(&node.journal)?.split_inclusive('\n') {
                let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
                let Some(written) = Written::read(&entry["envelope"]) else { continue };
                let log = history.logs.entry(written.run.clone()).or_insert_with(|| Log {
                    owner: entry["user"].as_str().unwrap_or_default().to_owned(),
                    epoch: written.epoch.clone(),
                    oldest: 1,
                    events: Vec::new(),
                    outcome_alone: false,
                });
                log.events.push(written.clone());
                history.acknowledged.push(written);
            }
        }
        let connections: Vec<Value> = serde_json::from_slice(&std::fs::read(output)?)?;
        for connection in &connections {
            let user = connection["user"].as_str().unwrap_or_default();
            let came = connection["came"].as_array().map(Vec::as_slice).unwrap_or_default();
            let readers = readers(user, came, &history.logs);
            history.readers.extend(readers);
        }
        Ok(history)
    }
}

/// What one connection got of each run of its user's. That it came back without its state is told to the runs that it
/// concerns: until the end of one, and of one that has not begun, if its first event is not the next.
fn readers(user: &str, came: &[Value], logs: &BTreeMap<String, Log>) -> Vec<Reader> {
    let mut readers = Vec::new();
    for (run, log) in logs.iter().filter(|(_, log)| log.owner == user) {
        let end = log.events.last().map_or(0, |end| end.seq);
        let (mut applied, mut last, mut told) = (Vec::new(), 0, false);
        // It says nothing of what was missed, so that it covers nothing.
        let reset = |head| Applied::Reset { epoch: log.epoch.clone(), head, ended: false };
        for each in came {
            if each.is_null() {
                told = true;
                continue;
            }
            let Some(event) = Written::read(each).filter(|event| event.run == *run) else {
                continue;
            };
            if std::mem::take(&mut told) && (last > 0 || event.seq > 1) {
                applied.push(reset(last));
            }
            last = last.max(event.seq);
            applied.push(Applied::Event(event));
        }
        if told && last < end {
            applied.push(reset(last));
        }
        readers.push(Reader { user: user.to_owned(), run: run.clone(), applied });
    }
    readers
}

/// A node that was started.
struct Node {
    process: Child,
    input: Option<ChildStdin>,
    port: u16,
    journal: PathBuf,
}

impl Node {
    fn start(mut command: Command, journal: PathBuf) -> Outcome<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().strip_prefix("port ").ok_or("a node did not start")?.parse()?;
        Ok(Self { process, input, port, journal })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        signal(self.process.id(), Signal::Continue);
        let _ = (self.process.kill(), self.process.wait());
    }
}
