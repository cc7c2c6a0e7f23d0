//! Services of others behind the same door: their requests go through the same steps as all others, and carry the
//! principal who asks.

use super::body::RequestBody;
use super::reply::ResponseBody;
use super::{BoxError, Call, TransportService, no_such_route};
use apex_core::error::Result;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

/// The body of a request to a mounted service.
pub type MountedBody = UnsyncBoxBody<Bytes, BoxError>;

type Service =
    BoxCloneSyncService<Request<MountedBody>, Response<BoxBody<Bytes, Infallible>>, Infallible>;

type Answer =
    BoxFuture<'static, std::result::Result<Response<BoxBody<Bytes, Infallible>>, Infallible>>;

/// A tower service that answers under `/<name>` beside the routes of the protocol. A request reaches it once the
/// handshake has let its user in; the [`Principal`](apex_core::principal::Principal) is among its extensions, and its
/// credentials are gone from its headers.
#[derive(Clone)]
pub struct Mount {
    name: String,
    longest: Duration,
    service: Service,
}

impl Mount {
    /// Mounts a service under this name. The head of its answer may take so long; its body as long as it likes, as long
    /// as the client takes it.
    pub fn new<S>(name: impl Into<String>, longest: Duration, service: S) -> Self
    where
        S: tower::Service<
                Request<MountedBody>,
                Response = Response<BoxBody<Bytes, Infallible>>,
                Error = Infallible,
            > + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self { name: name.into(), longest, service: BoxCloneSyncService::new(service) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn answer(&self, request: Request<MountedBody>) -> Answer {
        Box::pin(self.service.clone().oneshot(request))
    }

    /// How long the answer to a request of this path may take, if it is for this service.
    pub(super) fn longest(&self, service: &TransportService, path: &str) -> Option<Duration> {
        let rest = path.strip_prefix(service.gateway.config.prefix.as_str())?;
        (rest.strip_prefix('/')? == self.name).then_some(self.longest)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({})", self.name)
    }
}

/// Hands a request on whose user is let in.
pub(super) async fn respond(
    call: Call,
    body: RequestBody,
    name: &str,
) -> Result<Response<ResponseBody>> {
    let principal = call.entry().await?.principal;
    let mut head = call.head;
    for secret in [http::header::AUTHORIZATION, http::header::COOKIE] {
        head.headers.remove(secret);
    }
    head.extensions.insert(principal);
    let request = Request::from_parts(head, body.into_inner());
    let mount = call.mounts.iter().find(|mount| mount.name == name).ok_or_else(no_such_route)?;
    let response = match mount.answer(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    Ok(response.map(ResponseBody::from))
}
