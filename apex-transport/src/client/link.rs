//! One attempt to get in, and the walk along the chain of ways.

use super::dial::Stream;
use super::http::{Place, error_of, unreachable};
use crate::protocol::{
    Advice, Call, ClientFrame, CloseCode, FrameId, Hello, SUBPROTOCOL, ServerFrame, Welcome,
};
use apex_core::auth::Credential;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Uri};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

const OPERATION: &str = "client.connect";

/// How long a server may take to say welcome.
const WELCOME: Duration = Duration::from_secs(15);

/// The largest frame of a server's: a reset with its snapshot is the largest one.
const MAX_FRAME: usize = 1024 * 1024;

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// The ways by which a client tries to come in, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientWay {
    /// The token itself, as a header.
    Header,
    /// A ticket as a subprotocol.
    Subprotocol,
    /// A ticket in the query.
    Query,
    /// A ticket in the first message.
    Hello,
}

/// Why an attempt did not end in a welcome.
pub(super) enum Refused {
    /// Another way may work.
    NextWay(Error),
    /// No way will work at the moment.
    Later(Error),
    /// No way will work unless something changes.
    Never(Error),
}

impl Refused {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NextWay(error) | Self::Later(error) | Self::Never(error) => error,
        }
    }
}

/// Gets in by the first way that works, `first` before all others; each attempt has a ticket of its own.
pub(super) async fn walk(
    place: &Place,
    tickets: &dyn super::Tickets,
    ways: &[ClientWay],
    first: Option<ClientWay>,
) -> Result<(Socket, Welcome, ClientWay), Refused> {
    let others = ways.iter().copied().filter(|way| Some(*way) != first);
    let mut last = None;
    for way in first.into_iter().chain(others) {
        // A ticket that was refused may have lapsed on the way: a new one, once.
        for _ in 0..2 {
            let credential = match way {
                ClientWay::Header => tickets.token().await,
                _ => tickets.ticket().await,
            };
            match attempt(place, way, credential.map_err(no_ticket)?).await {
                Ok((socket, welcome)) => return Ok((socket, welcome, way)),
                Err(Attempt::Refused(error)) => last = Some(error),
                Err(Attempt::Lost(error)) => {
                    last = Some(error);
                    break;
                }
                Err(Attempt::Later(error)) => return Err(Refused::Later(error)),
                Err(Attempt::Never(error)) => return Err(Refused::Never(error)),
            }
        }
        tracing::debug!(?way, "a way in did not work");
    }
    Err(Refused::NextWay(last.unwrap_or_else(unreachable)))
}

fn no_ticket(error: Error) -> Refused {
    if error.is_retryable() { Refused::Later(error) } else { Refused::Never(error) }
}

/// How one attempt failed.
enum Attempt {
    /// The credential was refused.
    Refused(Error),
    /// The socket closed without a reason: something on the way, perhaps, that does not like this way in.
    Lost(Error),
    Later(Error),
    Never(Error),
}

async fn attempt(
    place: &Place,
    way: ClientWay,
    ticket: Secret<String>,
) -> Result<(Socket, Welcome), Attempt> {
    let request = request(place, way, &ticket).map_err(Attempt::Never)?;
    let stream = place.dial().await.map_err(Attempt::Later)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(MAX_FRAME)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME));
    let greeting = async {
        let upgrading = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (mut socket, _) = upgrading.await.map_err(of_upgrade)?;
        if way == ClientWay::Hello {
            let hello = ClientFrame {
                id: FrameId::Number(0),
                call: Call::Hello(Hello(Credential::Ticket(ticket))),
            };
            send(&mut socket, &hello).await.map_err(|_| Attempt::Lost(unreachable()))?;
        }
        let welcome = welcome(&mut socket).await?;
        Ok((socket, welcome))
    };
    tokio::time::timeout(WELCOME, greeting)
        .await
        .unwrap_or_else(|_| Err(Attempt::Lost(unreachable())))
}

fn request(place: &Place, way: ClientWay, ticket: &Secret<String>) -> Result<http::Request<()>> {
    let wrong = || Error::new(Kind::BadRequest, OPERATION, "the address or ticket is malformed");
    let mut target = format!("ws://{}{}", place.authority, place.path("/ws"));
    if way == ClientWay::Query {
        target.push_str("?ticket=");
        target.push_str(ticket.reveal());
    }
    let uri: Uri = target.parse().map_err(|_| wrong())?;
    let mut request = uri.into_client_request().map_err(|_| wrong())?;
    if way == ClientWay::Header {
        let value = format!("Bearer {}", ticket.reveal());
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, value);
    }
    // The other ways are for what is left when a proxy drops this header: one that was offered and not echoed would
    // end the handshake.
    if way == ClientWay::Subprotocol {
        let protocols = format!("{SUBPROTOCOL}, apex.ticket.{}", ticket.reveal());
        let mut protocols = HeaderValue::from_str(&protocols).map_err(|_| wrong())?;
        protocols.set_sensitive(true);
        request.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    Ok(request)
}

async fn welcome(socket: &mut Socket) -> Result<Welcome, Attempt> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(ServerFrame::Welcome(welcome)) => return Ok(welcome),
                Ok(_) => {}
                Err(_) => return Err(Attempt::Lost(unreachable())),
            },
            Some(Ok(Message::Close(Some(close)))) => {
                let (code, reason) = (u16::from(close.code), close.reason.to_string());
                return Err(of_close(code, &reason));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(Attempt::Lost(unreachable())),
        }
    }
}

/// What an HTTP answer to the upgrade means.
fn of_upgrade(error: SocketError) -> Attempt {
    let SocketError::Http(response) = error else {
        return Attempt::Lost(unreachable());
    };
    let body = response.body().as_deref().unwrap_or_default();
    let error = error_of(response.status().as_u16(), body);
    match error.kind() {
        Kind::Unauthenticated | Kind::TokenExpired => Attempt::Refused(error),
        // Something on the way may refuse what it does not know.
        Kind::BadRequest | Kind::NotFound => Attempt::Lost(error),
        _ if error.is_retryable() && error.kind() != Kind::TooManyConnections => {
            Attempt::Later(error)
        }
        _ => Attempt::Never(error),
    }
}

/// What a close before the welcome means.
fn of_close(code: u16, reason: &str) -> Attempt {
    let error = closed_with(code, reason);
    if code == CloseCode::NoHello.code() {
        // The server waits for what was dropped on the way.
        return Attempt::Lost(error);
    }
    match CloseCode::advice_for(code) {
        Advice::NewTicketOnce | Advice::NewCredential => Attempt::Refused(error),
        Advice::NextWayOrResume => Attempt::Lost(error),
        Advice::Resume | Advice::ResumeElsewhere => Attempt::Later(error),
        Advice::Stop => Attempt::Never(error),
    }
}

/// A close as an error.
pub(super) fn closed_with(code: u16, reason: &str) -> Error {
    let kind = match CloseCode::from_code(code) {
        Some(CloseCode::BadCredential) => Kind::Unauthenticated,
        Some(CloseCode::CredentialExpired) => Kind::TokenExpired,
        Some(CloseCode::NotAllowed) => Kind::Forbidden,
        Some(CloseCode::TooManyConnections) => Kind::TooManyConnections,
        Some(CloseCode::BadFrames) => Kind::BadFrame,
        Some(CloseCode::TooLarge) => Kind::TooLarge,
        Some(CloseCode::Draining) => Kind::Draining,
        Some(CloseCode::Replaced) => Kind::Conflict,
        Some(CloseCode::Done) => Kind::Cancelled,
        _ => Kind::Unavailable,
    };
    Error::new(kind, OPERATION, format!("the server closed the connection: {code} {reason}"))
}

/// Sends one frame.
pub(super) async fn send(socket: &mut Socket, frame: &ClientFrame) -> tungstenite::Result<()> {
    // Only maps with keys that are no strings can fail, and no frame has one.
    let json = serde_json::to_string(frame).unwrap_or_default();
    socket.send(Message::text(json)).await
}
