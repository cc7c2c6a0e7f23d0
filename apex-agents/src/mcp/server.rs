//! The servers of others: what is configured of them, and the tools that they have now.

use super::connection::Connection;
use super::http::HttpLink;
use super::tool::ServerTool;
use crate::tool::{Approvals, Ready, Shape, ToolSource};
use apex_core::config::{Secret, WebUrl};
use apex_core::error::{Error, Kind, Result};
use apex_core::health::Probe;
use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The most tools of one server: past it the rest is left out, and said.
const MOST_TOOLS: usize = 256;

/// The longest name of a server, and of a tool without it.
const LONGEST_SERVER: usize = 20;
const LONGEST_NAME: usize = 42;

/// The largest description and schemas of a tool, in bytes: models are sent them.
const MOST_DESCRIBED: usize = 32 * 1024;

/// How often a node looks whether a connection still stands, and how long it waits before it tries again.
const LOOK: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// An MCP server whose tools agents may call, as `<name>__<tool>`.
#[derive(Clone)]
pub struct McpServer {
    pub(super) name: String,
    pub(super) reach: McpReach,
    pub(super) connect: Duration,
    pub(super) timeout: Duration,
    pub(super) approval: Approvals,
    pub(super) hints: bool,
}

/// How a server is reached.
#[derive(Clone)]
pub enum McpReach {
    /// A child process that speaks over its standard streams. It sees the variables that are named here and no others.
    Process {
        /// The program, best by its whole path.
        command: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
        /// Its environment.
        environment: BTreeMap<String, Secret<String>>,
        /// Where it works; this process's folder where nothing is said.
        folder: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// Its address.
        url: WebUrl,
        /// What is sent along with each request, such as `Authorization`.
        headers: BTreeMap<String, Secret<String>>,
        /// A proxy that opens tunnels.
        proxy: Option<Secret<String>>,
        /// Certificates of one's own authorities in PEM, trusted beside those of the web.
        roots: Vec<u8>,
    },
}

impl McpServer {
    /// A server of this name: 1 to 20 of `a-z`, `0-9` and `-`.
    #[must_use]
    pub fn new(name: impl Into<String>, reach: McpReach) -> Self {
        Self {
            name: name.into(),
            reach,
            connect: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            approval: Approvals::default(),
            hints: true,
        }
    }

    /// How long it may take to connect and to list its tools.
    #[must_use]
    pub fn connect_within(mut self, limit: Duration) -> Self {
        self.connect = limit;
        self
    }

    /// How long a call may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Says which calls a person has to approve.
    #[must_use]
    pub fn approval(mut self, approval: Approvals) -> Self {
        self.approval = approval;
        self
    }

    /// Says whether it is believed what it says of its tools: that they only read, or may be called twice. One that is
    /// not has tools that write, and are called once.
    #[must_use]
    pub fn believe_hints(mut self, believe: bool) -> Self {
        self.hints = believe;
        self
    }

    /// What is wrong with its name, if anything is.
    #[must_use]
    pub fn name_fault(name: &str) -> Option<&'static str> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (name.is_empty() || name.len() > LONGEST_SERVER || !name.chars().all(fits))
            .then_some("a server's name is 1 to 20 of a-z, 0-9 and -")
    }
}

/// Secrets are not shown.
impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer")
            .field("name", &self.name)
            .field("reach", &self.reach)
            .field("approval", &self.approval)
            .finish_non_exhaustive()
    }
}

/// Secrets are not shown; arguments may hold some.
impl fmt::Debug for McpReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { command, .. } => write!(f, "Process({})", command.display()),
            Self::Http { url, .. } => write!(f, "Http({url})"),
        }
    }
}

/// MCP servers, connected for as long as this lives: one that goes away is connected again, and when its tools change
/// they change here.
#[derive(Debug, Clone)]
pub struct McpServers {
    all: Vec<Arc<Tools>>,
    _stop: Arc<DropGuard>,
}

/// The tools of one server.
#[derive(Debug)]
struct Tools {
    prefix: String,
    server: Arc<McpServer>,
    connection: Arc<Connection>,
    now: RwLock<Arc<FxHashMap<String, Arc<Ready>>>>,
}

impl McpServers {
    /// Connects to these servers. One that is not there is tried again and again; its tools come when it comes. To be
    /// called in a Tokio runtime.
    ///
    /// # Errors
    /// `config_invalid` with everything that is wrong with a name, an address, a proxy or a header.
    pub async fn connect(servers: Vec<McpServer>) -> Result<Self> {
        let mut faults = Vec::new();
        let mut all: Vec<Arc<Tools>> = Vec::new();
        for server in servers {
            let name = server.name.clone();
            if let Some(fault) = McpServer::name_fault(&name) {
                faults.push(format!("server {name:?}: {fault}"));
            }
            if all.iter().any(|known| known.server.name == name) {
                faults.push(format!("server {name:?} is there twice; rename one"));
            }
            let http = match &server.reach {
                McpReach::Process { .. } => None,
                McpReach::Http { url, headers, proxy, roots } => {
                    match HttpLink::new(url, headers, proxy.as_ref(), roots, server.connect) {
                        Ok(link) => Some(link),
                        Err(error) => {
                            faults.push(format!("server {name:?}: {}", error.message()));
                            None
                        }
                    }
                }
            };
            let server = Arc::new(server);
            let connection = Arc::new(Connection::new(Arc::clone(&server), http));
            let prefix = format!("{name}__");
            all.push(Arc::new(Tools { prefix, server, connection, now: RwLock::default() }));
        }
        if !faults.is_empty() {
            return Err(Error::new(Kind::Config, "mcp.servers", faults.join("; ")));
        }
        let stop = CancellationToken::new();
        join_all(all.iter().map(|tools| async {
            if let Err(error) = tools.refresh().await {
                tracing::warn!(server = tools.server.name, %error, "an MCP server is not there");
            }
        }))
        .await;
        for tools in &all {
            let (tools, stop) = (Arc::clone(tools), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(tools.keep()).await });
        }
        Ok(Self { all, _stop: Arc::new(stop.drop_guard()) })
    }

    /// How the servers are doing, for [`Health`](apex_core::health::Health). A node works without them.
    #[must_use]
    pub fn probes(&self) -> Vec<Arc<dyn Probe>> {
        let probe = |tools: &Arc<Tools>| {
            let dependency = format!("mcp {}", tools.server.name);
            Arc::new(McpProbe { dependency, tools: Arc::clone(tools) }) as Arc<dyn Probe>
        };
        self.all.iter().map(probe).collect()
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = Arc<dyn ToolSource>> {
        self.all.iter().map(|tools| {
            let source: Arc<dyn ToolSource> =
                Arc::new(Source { tools: Arc::clone(tools), _stop: Arc::clone(&self._stop) });
            source
        })
    }
}

/// The tools of a server, which stays connected for as long as somebody may call them.
#[derive(Debug)]
struct Source {
    tools: Arc<Tools>,
    _stop: Arc<DropGuard>,
}

impl ToolSource for Source {
    fn prefix(&self) -> &str {
        &self.tools.prefix
    }

    fn tools(&self) -> Arc<FxHashMap<String, Arc<Ready>>> {
        Arc::clone(&self.tools.now.read())
    }
}

impl Tools {
    /// Connects again when the connection is gone, and lists the tools again when they have changed.
    async fn keep(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.connection.is_up() {
                pause = FIRST_PAUSE;
                tokio::select! {
                    () = self.connection.changed() => {}
                    () = tokio::time::sleep(LOOK) => continue,
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(server = self.server.name, %error, "an MCP server's tools could not be listed");
            }
        }
    }

    /// Lists the tools.
    async fn refresh(&self) -> Result<()> {
        let listed = self.connection.list(MOST_TOOLS + 1).await?;
        let server = &self.server.name;
        if listed.len() > MOST_TOOLS {
            tracing::warn!(server, "more than {MOST_TOOLS} tools; the rest is left out");
        }
        let mut tools = FxHashMap::default();
        for tool in listed.into_iter().take(MOST_TOOLS) {
            let size = serde_json::to_vec(&tool).map_or(usize::MAX, |json| json.len());
            if size > MOST_DESCRIBED {
                tracing::warn!(server, tool = %tool.name, size, "a tool whose schema is too large is left out");
                continue;
            }
            let mut name = format!("{}{}", self.prefix, plain(&tool.name));
            if name.len() - self.prefix.len() > LONGEST_NAME
                || tools.contains_key(&name)
                || tool.name != *name.split_at(self.prefix.len()).1
            {
                name = format!("{}{}", self.prefix, apart(&tool.name));
            }
            let tool = ServerTool::new(name.clone(), tool, &self.server, &self.connection);
            match tool.and_then(|tool| {
                let arguments = Shape::compile(tool.schema())?;
                Ok(Ready { tool: Arc::new(tool), arguments })
            }) {
                Ok(ready) => drop(tools.insert(name, Arc::new(ready))),
                Err(fault) => tracing::warn!(server, tool = name, fault, "a tool is left out"),
            }
        }
        tracing::info!(server, tools = tools.len(), "the tools of an MCP server");
        *self.now.write() = Arc::new(tools);
        Ok(())
    }
}

/// A name in the characters that names have here.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    name.chars().map(|c| c.to_ascii_lowercase()).map(|c| if fits(c) { c } else { '_' }).collect()
}

/// A name that no other name becomes: one that was changed or cut ends in a digest of what it was.
fn apart(name: &str) -> String {
    let digest = Sha256::digest(name);
    let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut kept = plain(name);
    kept.truncate(LONGEST_NAME - tail.len() - 1);
    format!("{kept}-{tail}")
}

/// Whether a server is connected.
#[derive(Debug)]
struct McpProbe {
    dependency: String,
    tools: Arc<Tools>,
}

#[async_trait]
impl Probe for McpProbe {
    fn dependency(&self) -> &str {
        &self.dependency
    }

    fn is_required(&self) -> bool {
        false
    }

    async fn probe(&self) -> Result<()> {
        self.tools.connection.up().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart() {
        assert_eq!(plain("create_issue"), "create_issue");
        assert_ne!(apart("Search.Docs"), apart("search_docs"));
        assert_ne!(apart("search docs"), apart("search.docs"));
        let long = "x".repeat(128);
        assert_eq!(apart(&long).len(), LONGEST_NAME);
        assert_ne!(apart(&long), apart(&format!("{long}y")));
        const { assert!(LONGEST_SERVER + 2 + LONGEST_NAME <= 64) };
    }

    #[tokio::test]
    async fn all_faults_are_told_at_once() {
        let process = || McpReach::Process {
            command: "true".into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
        };
        let wrong = [
            McpServer::new("Big", process()),
            McpServer::new("a", process()),
            McpServer::new("a", process()),
        ];
        let error = McpServers::connect(wrong.into()).await.unwrap_err();
        assert!(
            error.message().contains("server \"Big\"")
                && error.message().contains("server \"a\" is there twice"),
            "{error}"
        );
    }
}
