//! One connection to an MCP server: opened when it is needed, dropped when it broke.

use super::http::HttpLink;
use super::server::{McpReach, McpServer};
use crate::http::describe;
use crate::text::clip;
use crate::tool::ToolContext;
use apex_core::error::{Error, Kind, Result};
use futures_util::StreamExt as _;
use rmcp::handler::client::progress::ProgressDispatcher;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotificationParam,
    ClientCapabilities, ClientConfig, ClientRequest, Implementation, JsonObject,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, RequestId, ServerResult,
    SubscriptionFilter, Tool,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt as _, NotificationContext, Peer, PeerRequestOptions,
    RunningService, ServiceError,
};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, RoleClient};
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};

/// How long after a failure nothing is tried: calls get the failure.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest message of a server that users see, in bytes.
const LONGEST_TOLD: usize = 1024;

/// The longest line of a server's standard error that is logged, in bytes.
const LONGEST_LINE: u64 = 4 * 1024;

/// How long telling a server that a call is cancelled may take.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    server: Arc<McpServer>,
    http: Option<HttpLink>,
    link: Mutex<Link>,
    changed: Arc<Notify>,
}

type Running = RunningService<RoleClient, Handler>;

#[derive(Default)]
struct Link {
    up: Option<Arc<Running>>,
    failed: Option<(Instant, Error)>,
}

/// What the server may tell or ask: that its tools have changed, and how far a call is. It is given nothing else: no
/// model, no folder, no question to a person.
#[derive(Clone)]
struct Handler {
    changed: Arc<Notify>,
    progress: ProgressDispatcher,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("netra-apex", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.progress.handle_notification(params).await;
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.server.name)
    }
}

impl Connection {
    pub(super) fn new(server: Arc<McpServer>, http: Option<HttpLink>) -> Self {
        Self { server, http, link: Mutex::default(), changed: Arc::default() }
    }

    /// Whether it stands, as far as is known without asking.
    pub(super) fn is_up(&self) -> bool {
        // Who holds the lock is connecting.
        self.link.try_lock().is_ok_and(|link| link.up.as_ref().is_some_and(|up| stands(up)))
    }

    /// Waits until the server says that its tools have changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Passes when it stands, or can be opened.
    pub(super) async fn up(&self) -> Result<()> {
        self.running().await.map(drop)
    }

    /// The tools, at most so many.
    pub(super) async fn list(&self, most: usize) -> Result<Vec<Tool>> {
        let running = self.running().await?;
        let listing = async {
            let (mut tools, mut cursor) = (Vec::new(), None);
            loop {
                let params = cursor
                    .map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
                let page = running.list_tools(params).await?;
                tools.extend(page.tools);
                cursor = page.next_cursor;
                if cursor.is_none() || tools.len() >= most {
                    return Ok::<_, ServiceError>(tools);
                }
            }
        };
        match timeout(self.server.connect, listing).await {
            Ok(listed) => listed.map_err(|error| self.failure(&error)),
            Err(_) => Err(self.unavailable("it did not list its tools in time")),
        }
    }

    /// Makes a call, and tells the server when it is to stop.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: JsonObject,
        context: &ToolContext,
    ) -> Result<CallToolResult> {
        let running = self.running().await?;
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let handle = running
            .send_cancellable_request(request, PeerRequestOptions::no_options())
            .await
            .map_err(|error| self.failure(&error))?;
        let progress = &running.service().progress;
        let mut told = progress.subscribe(handle.progress_token.clone()).await;
        let mut open = OpenCall { peer: running.peer().clone(), id: Some(handle.id.clone()) };
        let answer = handle.await_response();
        tokio::pin!(answer);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                () = context.cancelled() => {
                    return Err(Error::new(Kind::Cancelled, "mcp.call", "the call was cancelled"));
                }
                Some(far) = told.next() => {
                    let whole = |count: f64| count.clamp(0.0, 1e15) as u64;
                    context.progress(whole(far.progress), far.total.map(whole), "steps");
                }
            }
        };
        open.id = None;
        match answer {
            Ok(ServerResult::CallToolResult(result)) => Ok(result),
            Ok(_) => Err(Error::new(
                Kind::BadOutput,
                "mcp.call",
                format!(
                    "the MCP server {} answered a call with something else than a result",
                    self.server.name
                ),
            )),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// The connection, opened if it does not stand.
    async fn running(&self) -> Result<Arc<Running>> {
        let mut link = self.link.lock().await;
        if let Some(up) = link.up.as_ref().filter(|up| stands(up)) {
            return Ok(Arc::clone(up));
        }
        link.up = None;
        if let Some((at, failed)) = &link.failed
            && at.elapsed() < PAUSE
        {
            return Err(Error::new(failed.kind(), "mcp.connect", failed.message().to_owned())
                .with_retry_after(PAUSE));
        }
        let opened = match timeout(self.server.connect, self.open()).await {
            Ok(opened) => opened.map_err(|why| self.unavailable(&why)),
            Err(_) => Err(self.unavailable("it did not answer in time")),
        };
        match opened {
            Ok(running) => {
                link.failed = None;
                let running = Arc::new(running);
                self.listen(&running);
                link.up = Some(Arc::clone(&running));
                Ok(running)
            }
            Err(error) => {
                let again = Error::new(error.kind(), "mcp.connect", error.message().to_owned());
                link.failed = Some((Instant::now(), again));
                Err(error)
            }
        }
    }

    async fn open(&self) -> std::result::Result<Running, String> {
        let handler =
            Handler { changed: Arc::clone(&self.changed), progress: ProgressDispatcher::new() };
        // Newer servers have no handshake; older ones are met with theirs.
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: None,
        };
        match &self.server.reach {
            McpReach::Http { .. } => {
                let link = self.http.clone().ok_or("it has no address")?;
                let config = link.config();
                let transport = StreamableHttpClientTransport::with_client(link, config);
                handler.serve_with_lifecycle(transport, lifecycle).await
            }
            McpReach::Process { command, arguments, environment, folder } => {
                let mut process = tokio::process::Command::new(command);
                process.args(arguments).env_clear();
                process.envs(environment.iter().map(|(name, value)| (name, value.reveal())));
                if let Some(folder) = folder {
                    process.current_dir(folder);
                }
                let (transport, errors) = TokioChildProcess::builder(process)
                    .stderr(Stdio::piped())
                    .spawn()
                    .map_err(|error| format!("its program cannot be started: {error}"))?;
                if let Some(errors) = errors {
                    tokio::spawn(log(self.server.name.clone(), errors));
                }
                handler.serve_with_lifecycle(transport, lifecycle).await
            }
        }
        .map_err(|error| described(&error))
    }

    /// Listens to changes of the tools, where the server tells them on a stream of its own.
    fn listen(&self, running: &Running) {
        let Some(info) = running.peer_info() else {
            return;
        };
        let tells = info.capabilities.tools.as_ref().and_then(|tools| tools.list_changed);
        if info.protocol_version < ProtocolVersion::NO_INITIALIZE || tells != Some(true) {
            return;
        }
        let (peer, changed) = (running.peer().clone(), Arc::clone(&self.changed));
        tokio::spawn(async move {
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            let Ok(mut told) = peer.listen(filter).await else {
                return;
            };
            while let Ok(Some(_)) = told.next().await {
                changed.notify_one();
            }
        });
    }

    fn unavailable(&self, why: &str) -> Error {
        let why = clip(why, LONGEST_TOLD);
        let told = format!("the MCP server {} is not there: {why}", self.server.name);
        Error::new(Kind::Unavailable, "mcp.connect", told)
    }

    fn failure(&self, error: &ServiceError) -> Error {
        let why = clip(&described(error), LONGEST_TOLD).into_owned();
        let server = &self.server.name;
        match error {
            ServiceError::McpError(_) => Error::new(
                Kind::ToolFailed,
                "mcp.call",
                format!("the MCP server {server} refused the call: {why}"),
            ),
            ServiceError::Cancelled { .. } => Error::new(
                Kind::Cancelled,
                "mcp.call",
                format!("the MCP server {server} cancelled the call"),
            ),
            ServiceError::UnexpectedResponse | ServiceError::InputRequiredRoundsExceeded { .. } => {
                Error::new(
                    Kind::BadOutput,
                    "mcp.call",
                    format!("the MCP server {server} answered: {why}"),
                )
            }
            _ => Error::new(
                Kind::Unavailable,
                "mcp.call",
                format!("the connection to the MCP server {server} broke during a call: {why}"),
            ),
        }
    }
}

fn stands(running: &Running) -> bool {
    !running.is_closed() && !running.is_transport_closed()
}

/// An error with its causes.
fn described(error: &(dyn std::error::Error + 'static)) -> String {
    describe(error)
}

/// A call under way: one that is dropped before its answer is told to the server.
struct OpenCall {
    peer: Peer<RoleClient>,
    id: Option<RequestId>,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let peer = self.peer.clone();
        runtime.spawn(async move {
            let told =
                CancelledNotificationParam::new(Some(id), Some("the call was stopped".to_owned()));
            let _ = timeout(CANCEL_WITHIN, peer.notify_cancelled(told)).await;
        });
    }
}

/// Logs what a child process says on its standard error.
async fn log(server: String, errors: tokio::process::ChildStderr) {
    let mut errors = BufReader::new(errors);
    loop {
        let mut line = Vec::new();
        match (&mut errors).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line);
                tracing::debug!(server, line = line.trim_end(), "an MCP server said");
            }
        }
    }
}
