use super::{Settings, accept, close_frame, finish, unreadable};
use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::nudge::Nudge;
use crate::protocol::{CloseCode, event_frame};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Sink as _, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// How the pumping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The close was sent; the client's answer is awaited.
    CloseSent,
    /// The socket is of no further use.
    Gone,
}

/// Pumps until the conversation is over.
pub(crate) async fn run<S>(stream: S, driver: Box<Driver>, settings: Settings)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // Boxed, both of them: a future has room for all that is moved within it, twice.
    let socket = Box::new(Box::pin(accept(stream, settings)).await);
    let nudge = driver.socket_nudge();
    let mut shell = Shell { socket, driver, readable: true, unflushed: false, nudge };
    let end = std::future::poll_fn(|cx| shell.poll(cx)).await;
    let Shell { socket, .. } = shell;
    if end == End::CloseSent {
        let finish: BoxFuture<'_, ()> = Box::pin(finish(*socket));
        let _ = tokio::time::timeout(settings.close_within, finish).await;
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
