//! `GET /ws`: from a request to a WebSocket. Everything that decides is done before the answer; what the client sends
//! in the meantime stays in the socket and is read first.

use super::Call;
use super::reply::{self, ResponseBody};
use crate::driver::Driver;
use crate::gateway::Gateway;
use crate::handshake::{Caller, Offer};
use crate::hub::Seat;
use crate::protocol::{CloseCode, SUBPROTOCOL};
use crate::websocket::{self, GuardedSocket};
use apex_core::auth::{Door, Entry};
use apex_core::error::{Error, Kind, Result};
use futures_util::future::BoxFuture;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::Instrument as _;

const OPERATION: &str = "service.upgrade";

/// What is spoken over a WebSocket once its client is let in.
pub(super) enum Speaks {
    /// The frames of the protocol.
    Frames,
    /// Whatever the host does.
    Host(Box<dyn FnOnce(GuardedSocket) -> BoxFuture<'static, ()> + Send>),
}

pub(super) async fn upgrade(mut call: Call, speaks: Speaks) -> Result<Response<ResponseBody>> {
    let switching = match Switching::read(&call) {
        Ok(switching) => switching,
        Err(error) => {
            let error = error.with_correlation(call.guarded.correlation);
            call.gateway.observer.errors().record(&error, None);
            return Ok(not_an_upgrade(&error));
        }
    };
    let on_upgrade = call.head.extensions.remove::<OnUpgrade>().ok_or_else(|| {
        Error::internal(OPERATION, "the host's server does not allow upgrades here")
    })?;
    let gateway = call.gateway;
    let caller = call.guarded.caller;
    let (headers, query) = (&call.head.headers, call.head.uri.query());
    let offer = gateway.chain.read(headers, query, &caller, Door::Connection);
    let seat = gateway.hub.admit(gateway.connection_id(), offer.is_silent())?;
    let subprotocol = offer.subprotocol;
    let hello = matches!(speaks, Speaks::Frames);
    let entered = enter(&gateway, &seat, offer, hello)
        .await
        .map_err(|error| error.with_correlation(call.guarded.correlation));
    let outcome = match (entered, &caller.origin) {
        (Ok(entry), _) => Ok(entry),
        // A page sees no status of an upgrade, only a close code.
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) => return Err(error),
    };
    let span = tracing::info_span!("connection", id = %seat.id());
    let conversation = converse(gateway, seat, caller, outcome, on_upgrade, speaks);
    tokio::spawn(conversation.instrument(span));
    Ok(switching.answer(subprotocol))
}

/// Lets in whoever may come in. One that presents nothing is known later, where a `hello` can say so.
pub(super) async fn enter(
    gateway: &Gateway,
    seat: &Seat,
    offer: Offer,
    hello: bool,
) -> Result<Option<Entry>> {
    let entry = gateway.verify_offer(offer).await?;
    match &entry {
        Some(entry) => seat.seat(&entry.principal).await?,
        None if hello => {}
        None => {
            return Err(Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "this route takes no `hello`; bring the credential with the request",
            ));
        }
    }
    Ok(entry)
}

/// Waits for the upgrade, and begins the connection's one task.
async fn converse(
    gateway: Arc<Gateway>,
    seat: Seat,
    caller: Caller,
    outcome: Result<Option<Entry>>,
    on_upgrade: OnUpgrade,
    speaks: Speaks,
) {
    let connection = seat.id();
    let config = gateway.config.connection;
    let upgraded = match tokio::time::timeout(config.hello_within, on_upgrade).await {
        Ok(Ok(upgraded)) => TokioIo::new(upgraded),
        Ok(Err(error)) => return tracing::debug!(%connection, %error, "an upgrade came to nothing"),
        Err(_) => return tracing::debug!(%connection, "an upgrade took too long"),
    };
    match outcome {
        Ok(entry) => {
            let way = entry.as_ref().map(|entry| entry.way);
            tracing::debug!(%connection, ?way, "connected");
            let ended = move || tracing::debug!(%connection, "disconnected");
            // In a task of its own, since that of a future that comes to its end is as large as the largest that it was.
            match (speaks, entry) {
                (Speaks::Host(speak), Some(entry)) => {
                    let talking = async move {
                        let socket = GuardedSocket::new(upgraded, gateway, seat, entry).await;
                        speak(socket).await;
                        ended();
                    };
                    tokio::spawn(talking.in_current_span());
                }
                (_, entry) => {
                    let driver = Box::new(Driver::new(gateway, seat, caller, entry));
                    let settings = config.into();
                    let talking = async move {
                        websocket::run(upgraded, driver, settings).await;
                        ended();
                    };
                    tokio::spawn(talking.in_current_span());
                }
            }
        }
        Err(error) => {
            gateway.observer.errors().record(&error, None);
            let code = CloseCode::for_refusal(&error);
            websocket::refuse(upgraded, code, close_reason(code, &error), config.into()).await;
        }
    }
}

pub(super) fn close_reason(code: CloseCode, error: &Error) -> String {
    match (code, error.correlation()) {
        (CloseCode::Defect, Some(id)) => format!("correlation {id}"),
        _ => error.code().to_owned(),
    }
}

/// What an upgrade request must have (RFC 6455, section 4.2.1).
struct Switching {
    accept: HeaderValue,
}

impl Switching {
    fn read(call: &Call) -> Result<Self> {
        let wrong = |message: &str| Error::new(Kind::BadRequest, OPERATION, message);
        let headers = &call.head.headers;
        if call.head.version != Version::HTTP_11 {
            return Err(wrong("a WebSocket begins with an HTTP/1.1 request"));
        }
        if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket")
        {
            return Err(wrong("this route takes a WebSocket upgrade"));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(wrong("this server speaks WebSocket version 13"));
        }
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(wrong("one `Sec-WebSocket-Key` is needed"));
        };
        HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map(|accept| Self { accept })
            .map_err(|_| Error::internal(OPERATION, "a digest that is no header value"))
    }

    fn answer(self, subprotocol: bool) -> Response<ResponseBody> {
        let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        response
    }
}

fn not_an_upgrade(error: &Error) -> Response<ResponseBody> {
    let mut response = reply::refusal(error);
    // Without an `Upgrade`: proxies pass it on to clients of HTTP/2, where it is an error of the protocol.
    response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
