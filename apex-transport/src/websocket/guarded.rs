use super::{Settings, accept, close, close_frame, finish, unreadable};
use crate::gateway::Gateway;
use crate::hub::{Notice, Seat};
use crate::protocol::CloseCode;
use apex_core::auth::Entry;
use apex_core::error::{Error, Kind, Result};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const OPERATION: &str = "guarded_socket.send";

/// How long nobody looks whether the credential has run out.
const LOOK: Duration = Duration::from_secs(60);

/// A message of either side's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

/// A WebSocket of a route of the host's own, behind the handshake of ours: its client is known, counts among the user's
/// connections, and is closed when its login or credential ends or this node shuts down; messages, buffers and waits are
/// bounded as those of our own connections are.
///
/// Whatever has to happen by itself (answers to pings, heartbeats, the closes named above) happens while
/// [`GuardedSocket::next`] is awaited.
pub struct GuardedSocket {
    socket: Option<WebSocketStream<TokioIo<Upgraded>>>,
    gateway: Arc<Gateway>,
    seat: Seat,
    entry: Entry,
    next_ping: Instant,
    heard: bool,
    missed: u32,
}

impl fmt::Debug for GuardedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedSocket").field("connection", &self.seat.id()).finish_non_exhaustive()
    }
}

/// What comes next.
enum Next {
    Message(Option<std::result::Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Notice(Notice),
    Expired,
    Heartbeat,
}

impl GuardedSocket {
    pub(crate) async fn new(
        stream: TokioIo<Upgraded>,
        gateway: Arc<Gateway>,
        seat: Seat,
        entry: Entry,
    ) -> Self {
        let config = gateway.config.connection;
        let socket = Some(accept(stream, config.into()).await);
        let next_ping = Instant::now() + config.heartbeat;
        Self { socket, gateway, seat, entry, next_ping, heard: true, missed: 0 }
    }

    /// Who came in, and until when.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The client's next message; `None` when the connection has ended, for whatever reason.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            let next = self.look().await?;
            match next {
                Next::Message(Some(Ok(Message::Text(text)))) => {
                    self.heard = true;
                    return Some(Said::Text(text.as_str().to_owned()));
                }
                Next::Message(Some(Ok(Message::Binary(bytes)))) => {
                    self.heard = true;
                    return Some(Said::Binary(bytes));
                }
                Next::Message(Some(Ok(Message::Close(_))) | None) => self.finish().await,
                Next::Message(Some(Ok(_))) => self.heard = true,
                Next::Message(Some(Err(error))) => match unreadable(&error) {
                    Some(code) => self.end(code, code.row().name).await,
                    None => self.socket = None,
                },
                Next::Notice(Notice::Drain(_)) => {
                    self.end(CloseCode::Draining, "this node shuts down").await;
                }
                Next::Notice(Notice::Revoked) => {
                    self.end(CloseCode::BadCredential, "logged out").await;
                }
                Next::Expired if self.gateway.now() < self.entry.expires_at => {}
                Next::Expired => {
                    self.end(CloseCode::CredentialExpired, "the credential ran out").await;
                }
                Next::Heartbeat => self.heartbeat().await,
            }
        }
    }

    /// Sends a message, once there is room for it.
    ///
    /// # Errors
    /// `unavailable` when the connection has ended, also because the client did not take it in time.
    pub async fn send(&mut self, said: Said) -> Result<()> {
        let message = match said {
            Said::Text(text) => Message::text(text),
            Said::Binary(bytes) => Message::Binary(bytes),
        };
        if self.write(message).await {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, OPERATION, "the client is gone"))
    }

    /// Ends the connection with a code of the host's, such as one of 4000 to 4399, and a reason of at most 123 bytes.
    pub async fn close(mut self, code: u16, reason: &str) {
        self.end_with(CloseFrame { code: code.into(), reason: reason.into() }).await;
    }

    async fn look(&mut self) -> Option<Next> {
        let socket = self.socket.as_mut()?;
        let now = self.gateway.now();
        // The clock of the wall may be moved: looked at again.
        let expiry = Instant::now() + self.entry.expires_at.since(now).min(LOOK);
        let seat = &self.seat;
        Some(tokio::select! {
            biased;
            notice = std::future::poll_fn(|cx| seat.poll_notice(cx)) => Next::Notice(notice),
            () = sleep_until(expiry) => Next::Expired,
            message = socket.next() => Next::Message(message),
            () = sleep_until(self.next_ping) => Next::Heartbeat,
        })
    }

    async fn heartbeat(&mut self) {
        let config = self.gateway.config.connection;
        self.missed = if std::mem::take(&mut self.heard) { 0 } else { self.missed + 1 };
        if self.missed >= config.missed_heartbeats {
            return self.end(CloseCode::Gone, "no sign of life").await;
        }
        self.next_ping = Instant::now() + config.heartbeat;
        self.write(Message::Ping(Bytes::new())).await;
    }

    /// Whether the client took it in time; one that did not is gone.
    async fn write(&mut self, message: Message) -> bool {
        let within = self.gateway.config.connection.outbound_wait;
        let Some(socket) = &mut self.socket else {
            return false;
        };
        match timeout(within, socket.send(message)).await {
            Ok(Ok(())) => return true,
            Ok(Err(_)) => self.socket = None,
            Err(_) => self.end(CloseCode::SlowConsumer, "reads too slowly").await,
        }
        false
    }

    async fn end(&mut self, code: CloseCode, reason: &str) {
        self.end_with(close_frame(code, reason.to_owned())).await;
    }

    async fn end_with(&mut self, frame: CloseFrame) {
        if let Some(socket) = self.socket.take() {
            close(socket, frame, self.settings()).await;
        }
    }

    async fn finish(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = timeout(self.settings().close_within, finish(socket)).await;
        }
    }

    fn settings(&self) -> Settings {
        self.gateway.config.connection.into()
    }
}
