//! Conversations over what a host owns: its own sockets, its own routes, its own process.

use super::TransportService;
use crate::driver::Driver;
use crate::handshake::Caller;
use crate::pipe::FramePipe;
use apex_core::auth::Entry;
use apex_core::error::Result;
use std::sync::Arc;
#[cfg(feature = "websocket")]
use {
    super::body::RequestBody,
    super::guard::Guarded,
    super::reply::ResponseBody,
    super::upgrade::{Speaks, close_reason, enter, upgrade},
    super::{BoxError, Call},
    crate::handshake::PeerAddress,
    crate::protocol::{CloseCode, SUBPROTOCOL},
    crate::websocket::GuardedSocket,
    apex_core::auth::Door,
    apex_core::error::correlation,
    bytes::Bytes,
    http::{Request, Response},
};

/// What the door says to an upgrade of a socket that the host owns.
#[cfg(feature = "websocket")]
#[derive(Debug)]
pub enum Knocked {
    /// The host accepts the socket with that subprotocol, and carries the pipe's frames over it. Of a page that is not
    /// let in, the pipe says so by a close code: a page can read no status of an upgrade.
    Accepted {
        /// To be echoed; `None` where none was offered.
        subprotocol: Option<&'static str>,
        /// The conversation.
        pipe: FramePipe,
    },
    /// The host refuses the upgrade with this answer.
    Refused(Response<ResponseBody>),
}

impl TransportService {
    /// A conversation within the process, of somebody whom the host vouches for. It counts among the user's connections,
    /// and the same bounds hold.
    ///
    /// # Errors
    /// `draining`, `unavailable` when this node has no room, `too_many_connections`, `unauthenticated` when the login has
    /// ended.
    pub async fn in_process(&self, entry: Entry) -> Result<FramePipe> {
        self.gateway.watch_revocations();
        let gateway = Arc::clone(&self.gateway);
        let seat = gateway.hub.admit(gateway.connection_id(), false)?;
        seat.seat(&entry.principal).await?;
        let driver = Driver::new(gateway, seat, Caller::default(), Some(entry));
        Ok(FramePipe::over(driver))
    }

    /// The conversation of `GET /ws` for a host that owns its sockets, such as an ASGI or Express server: who asks is
    /// checked as at our own door, whatever the request's path, and the frames go through a pipe.
    #[cfg(feature = "websocket")]
    pub async fn knock(&self, request: &http::request::Parts) -> Knocked {
        let correlation = self.correlation(&request.headers);
        match correlation::within(correlation, self.admit(correlation, request)).await {
            Ok(accepted) => accepted,
            Err(error) => Knocked::Refused(self.refuse(error, correlation, None)),
        }
    }

    #[cfg(feature = "websocket")]
    async fn admit(
        &self,
        correlation: apex_core::id::CorrelationId,
        request: &http::request::Parts,
    ) -> Result<Knocked> {
        self.gateway.watch_revocations();
        let gateway = Arc::clone(&self.gateway);
        let (headers, query) = (&request.headers, request.uri.query());
        let peer = request.extensions.get::<PeerAddress>().copied().or(self.peer);
        let caller = Guarded::admit(&gateway, correlation, headers, peer)?.caller;
        let offer = gateway.chain.read(headers, query, &caller, Door::Connection);
        let subprotocol = offer.subprotocol.then_some(SUBPROTOCOL);
        let seat = gateway.hub.admit(gateway.connection_id(), offer.is_silent())?;
        let entered = enter(&gateway, &seat, offer, true).await;
        let pipe = match entered.map_err(|error| error.with_correlation(correlation)) {
            Ok(entry) => FramePipe::over(Driver::new(gateway, seat, caller, entry)),
            Err(error) if caller.origin.is_some() => {
                gateway.observer.errors().record(&error, None);
                let code = CloseCode::for_refusal(&error);
                FramePipe::closed(code, close_reason(code, &error))
            }
            Err(error) => return Err(error),
        };
        Ok(Knocked::Accepted { subprotocol, pipe })
    }

    /// Answers the upgrade of a route of the host's own, over which `speak` speaks: who asks is checked as at our own
    /// door, whatever the request's path, and must present a credential with it.
    #[cfg(feature = "websocket")]
    pub async fn socket<B, F>(
        &self,
        request: Request<B>,
        speak: impl FnOnce(GuardedSocket) -> F + Send + 'static,
    ) -> Response<ResponseBody>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        F: Future<Output = ()> + Send + 'static,
    {
        let speaks = Speaks::Host(Box::new(|socket| Box::pin(speak(socket))));
        let answers = |call: Call, _: RequestBody| upgrade(call, speaks);
        self.answer(request.map(RequestBody::new), answers).await
    }
}
