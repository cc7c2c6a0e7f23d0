//! A connection over a WebSocket: one task owns the socket and pumps between it and the driver.

use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::nudge::Nudge;
use crate::protocol::{CloseCode, event_frame};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Sink as _, SinkExt as _, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// What is read from a socket at a time, and gathered before it is written: small, since most sockets are idle.
const BUFFER: usize = 4 * 1024;

/// What a socket's write buffer may hold: more than the largest frame of ours, since one frame is written at a time.
const MAX_WRITE: usize = 512 * 1024;

/// The pump's settings for one socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pump {
    /// The largest message of the client's.
    pub(crate) frame_bytes: usize,
    /// How long the client may take to answer a close.
    pub(crate) close_within: Duration,
}

/// How the pumping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The close was sent; the client's answer is awaited.
    CloseSent,
    /// The socket is of no further use.
    Gone,
}

/// Pumps until the conversation is over.
pub(crate) async fn run<S>(stream: S, driver: Box<Driver>, pump: Pump)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // Boxed, since a future has room for all that is moved within it, twice.
    let socket = Box::new(accept(stream, pump).await);
    let nudge = driver.socket_nudge();
    let mut shell = Shell { socket, driver, readable: true, unflushed: false, nudge };
    let end = std::future::poll_fn(|cx| shell.poll(cx)).await;
    let Shell { socket, .. } = shell;
    if end == End::CloseSent {
        let finish: BoxFuture<'_, ()> = Box::pin(finish(*socket));
        let _ = tokio::time::timeout(pump.close_within, finish).await;
    }
}

/// A socket and the conversation over it.
struct Shell<S> {
    socket: Box<WebSocketStream<S>>,
    driver: Box<Driver>,
    /// Whether the socket may have something to be read.
    readable: bool,
    /// Whether the socket has taken in something that it may not have written.
    unflushed: bool,
    nudge: Arc<Nudge>,
}

/// Closes a client whose entry was refused: a page can read a close code, but no HTTP status of an upgrade.
pub(crate) async fn refuse<S>(stream: S, code: CloseCode, reason: String, pump: Pump)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut socket = accept(stream, pump).await;
    let closing = async {
        let close = Message::Close(Some(close_frame(code, reason)));
        if socket.feed(close).await.is_ok() {
            finish(socket).await;
        }
    };
    let _ = tokio::time::timeout(pump.close_within, closing).await;
}

async fn accept<S>(stream: S, pump: Pump) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(MAX_WRITE)
        .max_message_size(Some(pump.frame_bytes))
        .max_frame_size(Some(pump.frame_bytes));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// Sends what is left and reads to the end: bytes that nobody has read would reset the connection, and the close would
/// be lost on the way.
async fn finish<S>(mut socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if socket.flush().await.is_err() {
        return;
    }
    while let Some(Ok(_)) = socket.next().await {}
    let mut raw = socket.into_inner();
    let mut discarded = [0; 1024];
    if raw.shutdown().await.is_ok() {
        while raw.read(&mut discarded).await.is_ok_and(|read| read > 0) {}
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shell<S> {
    /// Does everything that can be done. The socket is touched only where there is something to write, or where it has
    /// woken us to be read.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let _ = self.driver.poll_progress(cx);
            if self.driver.is_over() {
                return Poll::Ready(End::Gone);
            }
            if let Poll::Ready(Some(end)) = self.poll_write(cx) {
                return Poll::Ready(end);
            }
            self.readable |= self.driver.take_socket();
            if self.readable && self.driver.may_read() {
                match self.poll_read() {
                    Poll::Ready(Some(Ok(Message::Close(_))) | None) => {
                        return Poll::Ready(End::CloseSent);
                    }
                    Poll::Ready(Some(message)) => {
                        if take_in(&mut self.driver, message) {
                            return Poll::Ready(End::Gone);
                        }
                        // It may have made the socket answer by itself.
                        self.unflushed = true;
                        continue;
                    }
                    Poll::Pending => self.readable = false,
                }
            }
            if !self.driver.may_go_on() {
                return Poll::Pending;
            }
        }
    }

    fn poll_read(&mut self) -> Poll<Option<Result<Message, Error>>> {
        self.nudge.looked_at();
        let waker = Waker::from(Arc::clone(&self.nudge));
        self.socket.poll_next_unpin(&mut Context::from_waker(&waker))
    }

    /// Writes whatever the socket takes. Ready with an end when the close is out or the socket is gone, ready without
    /// one when everything is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let mut socket = Pin::new(&mut *self.socket);
        while self.driver.has_outgoing() {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Gone)),
                Poll::Pending => return Poll::Pending,
            }
            let Some(outgoing) = self.driver.next_outgoing() else { break };
            let closes = matches!(outgoing, Outgoing::Close(..));
            let Some(message) = message(outgoing) else {
                return Poll::Ready(Some(End::Gone));
            };
            if socket.as_mut().start_send(message).is_err() {
                return Poll::Ready(Some(End::Gone));
            }
            self.unflushed = true;
            if closes {
                return Poll::Ready(Some(End::CloseSent));
            }
        }
        if self.unflushed {
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Gone)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }
}

/// Gives the driver what came; `true` when the socket is gone.
fn take_in(driver: &mut Driver, message: Result<Message, Error>) -> bool {
    match message {
        Ok(Message::Text(text)) => driver.receive(Input::Text(&text)),
        Ok(Message::Binary(_)) => driver.receive(Input::Unreadable(CloseCode::NotText)),
        Ok(_) => driver.receive(Input::Alive),
        Err(error) => match unreadable(&error) {
            Some(code) => driver.receive(Input::Unreadable(code)),
            None => return true,
        },
    }
    false
}

/// With which code the client is told about bytes that cannot be read; `None` when it is gone.
fn unreadable(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Utf8(_) => Some(CloseCode::NotUtf8),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::TooLarge),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

fn message(outgoing: Outgoing) -> Option<Message> {
    match outgoing {
        Outgoing::Text(json) => text(json),
        Outgoing::Recorded(event) | Outgoing::Volatile(event) => text(event_frame(&event.json)),
        Outgoing::Ping => Some(Message::Ping(Bytes::new())),
        Outgoing::Close(code, reason) => Some(Message::Close(Some(close_frame(code, reason)))),
    }
}

fn text(json: Bytes) -> Option<Message> {
    Utf8Bytes::try_from(json).ok().map(Message::Text)
}

fn close_frame(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame { code: code.code().into(), reason: reason.into() }
}
