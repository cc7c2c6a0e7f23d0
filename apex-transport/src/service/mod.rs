//! The service: the routes of the protocol, section 4, as a tower service that mounts in any host.
//!
//! Every request goes through the same steps in the same order: limits, request id, origin and CORS, CSRF,
//! authentication, the route. Every refusal is the catalogue's JSON body.

mod access;
#[cfg(feature = "jwt")]
mod admin;
#[cfg(feature = "ag-ui")]
mod ag_ui;
mod body;
mod budget;
mod conversation;
mod export;
mod files;
mod guard;
mod health;
mod login;
mod memory;
mod mounted;
#[cfg(feature = "oidc")]
mod oidc;
#[cfg(any(feature = "sse", feature = "websocket"))]
mod pipes;
mod reply;
mod results;
mod shares;
#[cfg(feature = "sse")]
mod stream;
#[cfg(feature = "websocket")]
mod upgrade;

pub use mounted::{Mount, MountedBody};
#[cfg(feature = "websocket")]
pub use pipes::Knocked;
pub use reply::ResponseBody;

use crate::call::{in_time, to_the_end};
use crate::gateway::{Gateway, Transport};
use crate::handshake::PeerAddress;
use crate::hub::Hub;
use apex_core::error::{Error, Result, correlation};
use apex_core::id::{CorrelationId, UserId};
use body::RequestBody;
use bytes::Bytes;
use guard::Guarded;
use http::{HeaderMap, Method, Request, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
#[cfg(feature = "websocket")]
use upgrade::Speaks;

/// How long bringing a file may take: the largest one over a slow line.
const FILE_WITHIN: Duration = Duration::from_secs(6 * 60 * 60);

/// The caller's trace (W3C Trace Context), whose id becomes the request's.
const TRACEPARENT: &str = "traceparent";

/// An error of a host's body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The wire of netra-apex as a tower service over HTTP requests; a clone is the same service.
///
/// It mounts in any host, under the host's prefix or [`crate::TransportConfig::prefix`], on a hyper connection that
/// allows upgrades and within a tokio runtime:
///
/// ```
/// # fn mount(service: apex_transport::TransportService) {
/// let app: axum::Router = axum::Router::new().nest_service("/apex", service);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TransportService {
    gateway: Arc<Gateway>,
    peer: Option<PeerAddress>,
    mounts: Arc<[Mount]>,
}

impl TransportService {
    /// The service over what the host has put together.
    ///
    /// # Errors
    /// `config_invalid`, with every fault.
    pub fn new(transport: Transport) -> Result<Self> {
        Ok(Self { gateway: Arc::new(Gateway::new(transport)?), peer: None, mounts: Arc::default() })
    }

    /// Who is connected.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.gateway.hub
    }

    /// The same service with another one behind the same door. Where two are mounted under one name, the first answers;
    /// a route of the protocol comes before both.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts = self.mounts.iter().cloned().chain([mount]).collect();
        self
    }

    /// The same service for the requests of one socket, whose other end is known. What a request's extensions say
    /// counts before it.
    #[must_use]
    pub fn for_peer(&self, peer: Option<PeerAddress>) -> Self {
        Self { gateway: Arc::clone(&self.gateway), peer, mounts: Arc::clone(&self.mounts) }
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Answers one request.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.answer(request.map(RequestBody::new), route).await
    }

    /// Takes a request through the steps that all go through, and then to what answers it.
    async fn answer<F>(
        &self,
        request: Request<RequestBody>,
        answers: impl FnOnce(Call, RequestBody) -> F,
    ) -> Response<ResponseBody>
    where
        F: Future<Output = Result<Response<ResponseBody>>>,
    {
        let correlation = self.correlation(request.headers());
        let guarded = self.guard(correlation, request, answers);
        correlation::within(correlation, guarded).await
    }

    fn correlation(&self, headers: &HeaderMap) -> CorrelationId {
        headers
            .get(TRACEPARENT)
            .and_then(|header| correlation::from_traceparent(header.to_str().ok()?))
            .unwrap_or_else(|| CorrelationId::new(&*self.gateway.clock))
    }

    async fn guard<F>(
        &self,
        correlation: CorrelationId,
        request: Request<RequestBody>,
        answers: impl FnOnce(Call, RequestBody) -> F,
    ) -> Response<ResponseBody>
    where
        F: Future<Output = Result<Response<ResponseBody>>>,
    {
        self.gateway.watch_revocations();
        let peer = request.extensions().get::<PeerAddress>().copied().or(self.peer);
        let guarded = match Guarded::admit(&self.gateway, correlation, request.headers(), peer) {
            Ok(guarded) => guarded,
            Err(error) => return self.refuse(error, correlation, None),
        };
        if let Some(preflight) = guarded.preflight(request.method(), request.headers()) {
            return preflight;
        }
        let brings_file =
            request.method() == Method::POST && request.uri().path().ends_with("/files");
        let mounted =
            self.mounts.iter().find_map(|mount| mount.longest(self, request.uri().path()));
        let longest = match mounted {
            Some(longest) => longest,
            None if brings_file => FILE_WITHIN,
            None => self.gateway.config.connection.call_within,
        };
        let (head, body) = request.into_parts();
        let gateway = Arc::clone(&self.gateway);
        let mounts = Arc::clone(&self.mounts);
        let call = Call { gateway, guarded: guarded.clone(), head, mounts };
        let answer = in_time(longest, answers(call, body)).await;
        guarded.dress(
            answer.unwrap_or_else(|error| {
                self.refuse(error, correlation, guarded.user.get().copied())
            }),
        )
    }

    fn refuse(
        &self,
        error: Error,
        correlation: CorrelationId,
        user: Option<UserId>,
    ) -> Response<ResponseBody> {
        let error = error.with_correlation(correlation);
        self.gateway.observer.errors().record(&error, user);
        reply::refusal(&error)
    }
}

impl<B> tower::Service<Request<B>> for TransportService
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.respond(request).await) })
    }
}

/// The one table of routes.
async fn route(call: Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let path = call.head.uri.path().to_owned();
    // Without the prefix there is no segment, and no route.
    let prefix = call.gateway.config.prefix.as_str();
    let path = path.strip_prefix(prefix).and_then(|path| path.strip_prefix('/'));
    let segments: Vec<&str> = path.into_iter().flat_map(|path| path.split('/')).collect();
    // What a HEAD asks for is a GET whose body the host leaves out.
    let method = match &call.head.method {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    match (&method, segments.as_slice()) {
        (_, segments) if segments.iter().any(|segment| segment.is_empty()) => Err(no_such_route()),

        (&Method::GET, ["health", "live"]) => Ok(health::live(&call)),
        (&Method::GET, ["health", "ready"]) => health::ready(&call).await,

        (&Method::POST, ["auth", "dev"]) => login::development(&call, body).await,
        (&Method::POST, ["auth", "ticket"]) => login::ticket(&call, body).await,
        (&Method::POST, ["auth", "refresh"]) => login::refresh(&call, body).await,
        (&Method::POST, ["auth", "logout"]) => login::log_out(&call).await,
        (&Method::GET, ["auth", "sessions"]) => login::sessions(&call).await,
        (&Method::DELETE, ["auth", "sessions"]) => login::end_sessions(&call).await,
        (&Method::DELETE, ["auth", "sessions", id]) => login::end_session(&call, id).await,

        #[cfg(feature = "oidc")]
        (&Method::GET, ["auth", "oidc", name, "login"]) => oidc::begin(&call, name).await,
        #[cfg(feature = "oidc")]
        (&Method::GET, ["auth", "oidc", name, "callback"]) => oidc::finish(&call, name).await,

        #[cfg(feature = "jwt")]
        (&Method::GET, [".well-known", "jwks.json"]) => admin::jwks(&call),
        #[cfg(feature = "jwt")]
        (&Method::GET, ["admin", "audit"]) => admin::audit(&call).await,
        #[cfg(feature = "jwt")]
        (&Method::POST, ["admin", "users", id, what @ ("disable" | "enable")]) => {
            admin::bar(&call, id, *what == "disable").await
        }
        #[cfg(feature = "jwt")]
        (&Method::DELETE, ["admin", "users", id]) => admin::erase(&call, id).await,
        #[cfg(feature = "jwt")]
        (&Method::DELETE, ["admin", "users", id, "sessions"]) => {
            admin::end_sessions(&call, id).await
        }

        #[cfg(feature = "websocket")]
        (&Method::GET, ["ws"]) => upgrade::upgrade(call, Speaks::Frames).await,

        #[cfg(feature = "ag-ui")]
        (&Method::POST, ["ag-ui"]) => ag_ui::run(&call, body).await,

        (&Method::POST, ["files"]) => files::put(&call, body).await,
        (&Method::GET, ["files"]) => files::list(&call).await,
        (&Method::DELETE, ["files", id]) => files::delete(&call, id).await,

        (&Method::POST, ["messages"]) => conversation::message(&call, body, None).await,
        (&Method::POST, ["threads", id, "messages"]) => {
            conversation::message(&call, body, Some(id)).await
        }
        (&Method::GET, ["threads"]) => conversation::threads(&call).await,
        (&Method::GET, ["threads", id]) => conversation::thread(&call, id).await,
        (&Method::DELETE, ["threads", id]) => conversation::delete(&call, id).await,
        (&Method::GET, ["threads", id, "shares"]) => shares::list(&call, id).await,
        (&Method::POST, ["threads", id, "shares"]) => shares::add(&call, body, id).await,
        (&Method::DELETE, ["threads", id, "shares", user]) => shares::end(&call, id, user).await,
        (&Method::GET, ["budget"]) => budget::left(&call).await,
        (&Method::GET, ["usage"]) => budget::spent(&call).await,
        (&Method::GET, ["memory"]) => memory::list(&call).await,
        (&Method::DELETE, ["memory"]) => memory::forget_all(&call).await,
        (&Method::DELETE, ["memory", name]) => memory::forget(&call, name).await,
        (&Method::GET, ["export"]) => export::all(&call).await,
        (&Method::GET, ["inbox"]) => conversation::inbox(&call).await,

        (&Method::GET, ["runs", id]) => conversation::run(&call, id).await,
        #[cfg(feature = "sse")]
        (&Method::GET, ["runs", id, "events"]) => stream::events(&call, id).await,
        (&Method::POST, ["runs", id, "cancel"]) => conversation::cancel(&call, id).await,
        (&Method::POST, ["runs", id, "approvals", approval]) => {
            conversation::decide(&call, body, id, approval).await
        }
        (&Method::GET, ["runs", id, name @ ("report.json" | "report.md" | "report.html")]) => {
            results::report(&call, id, name).await
        }
        (&Method::GET, ["runs", id, name @ ("graph.json" | "graph.mmd")]) => {
            results::graph(&call, id, name).await
        }
        (&Method::GET, ["artifacts", id]) => results::artifact(&call, id).await,

        (_, [name]) if call.mounts.iter().any(|mount| mount.name() == *name) => {
            let name = (*name).to_owned();
            mounted::respond(call, body, &name).await
        }

        _ => Err(no_such_route()),
    }
}

fn no_such_route() -> Error {
    Error::not_found("service.route", "route")
}

/// One request on its way, without its body.
struct Call {
    gateway: Arc<Gateway>,
    guarded: Guarded,
    head: http::request::Parts,
    mounts: Arc<[Mount]>,
}

impl Call {
    /// Changes something, to the end, also when the client hangs up meanwhile.
    async fn change<T, F>(&self, change: impl FnOnce(Arc<Gateway>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let longest = self.gateway.config.connection.call_within;
        to_the_end(longest, change(Arc::clone(&self.gateway))).await
    }
}
