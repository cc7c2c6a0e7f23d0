//! The tools of this engine, offered to MCP clients by streamable HTTP.
//!
//! A call by a client is made in the name of the user whom the host's handshake let in, with the checks and limits of
//! any other call: the scope `run`, the schema of its arguments, its time limit, a place among the user's calls. It
//! belongs to no run, so nothing of it is journaled and nobody can be asked to approve it: a call that needs an approval
//! is refused.

use crate::engine::{Engine, Offered};
use crate::text::clip;
use crate::tool::{CallScope, Progress, Shown};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Event;
use apex_core::id::{CallId, HolderId, RunId, StepId, ThreadId};
use apex_core::limit::{Grant, LimitKey, Place};
use apex_core::principal::{Principal, Scope};
use apex_core::resilience::Effect;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use hyper::body::Body;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{Peer, RequestContext};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

const OPERATION: &str = "mcp.offer";

/// The largest request, and the largest result that a client is sent, in bytes of JSON.
const MOST_REQUEST: usize = 128 * 1024;
const MOST_RESULT: usize = 1024 * 1024;

/// The longest failure that a client is told, in bytes.
const LONGEST_FAILURE: usize = 2 * 1024;

/// How many progress notes wait for the client; the rest is dropped.
const NOTES: usize = 16;

/// What is offered, to whom.
#[derive(Debug, Clone)]
pub struct McpOfferOptions {
    /// The tools that are offered.
    pub tools: Vec<String>,
    /// How many calls one user may have under way, over all nodes.
    pub per_user: usize,
}

impl Default for McpOfferOptions {
    fn default() -> Self {
        Self { tools: Vec::new(), per_user: 4 }
    }
}

/// An MCP server over streamable HTTP: a tower service, to be mounted behind whatever lets users in.
///
/// Each request must have the [`Principal`] in whose name it is made among its extensions; without one it is refused.
/// No session is kept, so any node answers any request, and an answer that its client hangs up on is stopped.
#[derive(Clone)]
pub struct McpOffer(StreamableHttpService<Handler, NeverSessionManager>);

impl fmt::Debug for McpOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("McpOffer")
    }
}

impl McpOffer {
    /// Offers these tools of the engine.
    ///
    /// # Errors
    /// `config_invalid` for a tool that is not there.
    pub fn new(engine: &Engine, options: McpOfferOptions) -> Result<Self> {
        let offered = engine.offered();
        let unknown: Vec<&str> = options
            .tools
            .iter()
            .filter(|name| offered.dispatcher().find(name).is_none())
            .map(String::as_str)
            .collect();
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            return Err(Error::new(
                Kind::Config,
                OPERATION,
                format!("there is no tool {unknown} to offer"),
            ));
        }
        let handler = Handler { offered, options: Arc::new(options) };
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(MOST_REQUEST)
            // The handshake before it knows which origins there are.
            .disable_allowed_hosts();
        let make = move || Ok(handler.clone());
        Ok(Self(StreamableHttpService::new(make, Arc::default(), config)))
    }

    /// Answers one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<BoxBody<Bytes, Infallible>>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: fmt::Display,
    {
        self.0.handle(request).await
    }
}

impl<B> tower::Service<Request<B>> for McpOffer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: fmt::Display,
{
    type Response = Response<BoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let offer = self.clone();
        Box::pin(async move { Ok(offer.respond(request).await) })
    }
}

#[derive(Clone)]
struct Handler {
    offered: Offered,
    options: Arc<McpOfferOptions>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("netra-apex", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, ErrorData> {
        principal(&context).map_err(|error| refused(&error))?;
        let tools = self.options.tools.iter().filter_map(|name| self.get_tool(name));
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        if !self.options.tools.iter().any(|offered| offered == name) {
            return None;
        }
        let ready = self.offered.dispatcher().find(name)?;
        let Value::Object(schema) = ready.tool.arguments_schema() else {
            return None;
        };
        let effect = ready.tool.effect();
        let hints = ToolAnnotations::new()
            .read_only(effect == Effect::Read)
            .idempotent(effect != Effect::Once);
        Some(
            Tool::new(name.to_owned(), ready.tool.description().to_owned(), schema).annotate(hints),
        )
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        let name = request.name.into_owned();
        if self.get_tool(&name).is_none() {
            return Err(ErrorData::invalid_params(format!("there is no tool {name}"), None));
        }
        let principal = principal(&context).map_err(|error| refused(&error))?;
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let answer = self.answer(&name, arguments, principal, &context).await;
        Ok(match answer {
            // What is structured has to be an object.
            Ok(value @ Value::Object(_)) => CallToolResult::structured(value),
            Ok(Value::String(text)) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Ok(value) => CallToolResult::success(vec![ContentBlock::text(value.to_string())]),
            Err(error) => {
                let report = error.report();
                let told = format!("{} ({})", report.message, report.code);
                let told = clip(&told, LONGEST_FAILURE).into_owned();
                CallToolResult::error(vec![ContentBlock::text(told)])
            }
        }
        .into())
    }
}

impl Handler {
    async fn answer(
        &self,
        name: &str,
        arguments: Value,
        principal: Principal,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value> {
        let dispatcher = self.offered.dispatcher();
        if self.offered.is_draining() {
            return Err(Error::new(Kind::Draining, OPERATION, "this node is shutting down"));
        }
        if dispatcher.terms(name, &arguments).approval {
            return Err(Error::new(
                Kind::Denied,
                OPERATION,
                format!(
                    "a person has to approve this call of {name}: ask for it in a conversation"
                ),
            ));
        }
        let run = RunId::new(self.offered.clock());
        let _place = self.take(run, &principal).await?;
        let (sender, notes) = mpsc::channel(NOTES);
        let cancelled = context.ct.child_token();
        // However this ends, also when the client hangs up.
        let _stop = cancelled.clone().drop_guard();
        let scope = CallScope {
            principal,
            run,
            thread: ThreadId::new(self.offered.clock()),
            call: CallId(1),
            key: format!("mcp:{run}"),
            in_doubt: false,
            progress: Progress::new(StepId(1), sender),
            cancelled,
        };
        let call = dispatcher.answer(name, arguments, scope);
        let tell = tell(notes, context);
        tokio::pin!(call, tell);
        let answer = tokio::select! {
            answer = &mut call => answer,
            () = context.ct.cancelled() => {
                return Err(Error::new(Kind::Cancelled, OPERATION, "the client cancelled the call"));
            }
            never = &mut tell => match never {},
        };
        let value = answer.map_err(|failure| failure.into_error(OPERATION))?;
        let size = value.to_string().len();
        if size > MOST_RESULT {
            return Err(Error::new(
                Kind::TooLarge,
                OPERATION,
                format!(
                    "the result has {size} bytes, more than the {MOST_RESULT} that are sent; ask for less"
                ),
            ));
        }
        Ok(value)
    }

    /// A place among the user's calls, until it is dropped.
    async fn take(&self, run: RunId, principal: &Principal) -> Result<Held> {
        let most = self.options.per_user;
        let place = Place {
            key: LimitKey::new("mcp", principal.user())?,
            holder: HolderId::from_bytes(*run.as_bytes()),
            most,
        };
        let limits = Arc::clone(self.offered.limits());
        match limits.hold(&place, self.offered.longest_call()).await? {
            Grant::Granted => Ok(Held { place, offered: self.offered.clone() }),
            Grant::Refused { .. } => Err(Error::new(
                Kind::RateLimited,
                OPERATION,
                format!(
                    "this user has {most} calls under way, which is the limit; wait for one of them"
                ),
            )
            .with_retry_after(Duration::from_secs(1))),
        }
    }
}

/// A place that is given back when its call is over, however that ends.
struct Held {
    place: Place,
    offered: Offered,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Off the runtime it lapses.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (limits, place) = (Arc::clone(self.offered.limits()), self.place.clone());
            runtime.spawn(async move {
                if let Err(error) = limits.release(&place).await {
                    tracing::debug!(%error, "a place lapses by itself");
                }
            });
        }
    }
}

/// Tells the client how far its call is, where it wants to know.
async fn tell(
    mut notes: mpsc::Receiver<Shown>,
    context: &RequestContext<RoleServer>,
) -> Infallible {
    let token = context.meta.get_progress_token();
    while let Some(shown) = notes.recv().await {
        let (Some(token), Event::Progress { done, total, unit, .. }) = (&token, *shown.event)
        else {
            continue;
        };
        let mut note =
            ProgressNotificationParam::new(token.clone(), done as f64).with_message(unit);
        if let Some(total) = total {
            note = note.with_total(total as f64);
        }
        let peer: &Peer<RoleServer> = &context.peer;
        let _ = peer.notify_progress(note).await;
    }
    std::future::pending().await
}

/// In whose name the request is made.
fn principal(context: &RequestContext<RoleServer>) -> Result<Principal> {
    let parts = context.extensions.get::<http::request::Parts>();
    let principal = parts
        .and_then(|parts| parts.extensions.get::<Principal>())
        .ok_or_else(|| Error::new(Kind::Unauthenticated, OPERATION, "nobody has said who asks"))?;
    principal.require(Scope::Run, OPERATION)?;
    Ok(principal.clone())
}

fn refused(error: &Error) -> ErrorData {
    let report = error.report();
    ErrorData::invalid_request(format!("{} ({})", report.message, report.code), None)
}
