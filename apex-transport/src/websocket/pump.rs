use super::{Settings, accept, close_frame, finish, unreadable};
use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::nudge::Nudge;
use crate::protocol::{CloseCode, event_frame};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Sink as _, StreamExt as _};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// About how many bytes of events are written at a time.
const PIECE: usize = 16 * 1024;

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
    let mut shell = Shell {
        socket,
        driver,
        readable: true,
        unflushed: false,
        events: Bytes::new(),
        written: false,
        nudge,
    };
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
    /// Framed events that the stream below the socket has not taken yet: they pass the socket by, which would copy each of
    /// them for each connection. Until they are written nothing else is, so that no frame begins within another.
    events: Bytes,
    /// Whether the stream has taken some that it may not have sent.
    written: bool,
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
            // The socket may answer what it reads.
            if self.readable && self.events.is_empty() && self.driver.may_read() {
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
        loop {
            match ready!(self.poll_events(cx)) {
                Ok(()) => {}
                Err(_) => return Poll::Ready(Some(End::Gone)),
            }
            match self.driver.sends_event() {
                Some(true) if !self.unflushed => match self.gather() {
                    Some(events) => self.events = events,
                    None => return Poll::Ready(Some(End::Gone)),
                },
                Some(_) => {
                    if let Some(end) = ready!(self.poll_send(cx)) {
                        return Poll::Ready(Some(end));
                    }
                }
                None => break,
            }
        }
        if self.unflushed {
            match ready!(Pin::new(&mut *self.socket).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(_) => return Poll::Ready(Some(End::Gone)),
            }
        }
        Poll::Ready(None)
    }

    /// Hands the next message to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let mut socket = Pin::new(&mut *self.socket);
        if ready!(socket.as_mut().poll_ready(cx)).is_err() {
            return Poll::Ready(Some(End::Gone));
        }
        let Some(outgoing) = self.driver.next_outgoing() else { return Poll::Ready(None) };
        let closes = matches!(outgoing, Outgoing::Close(..));
        let taken = message(outgoing).map(|message| socket.start_send(message));
        if !matches!(taken, Some(Ok(()))) {
            return Poll::Ready(Some(End::Gone));
        }
        self.unflushed = true;
        Poll::Ready(closes.then_some(End::CloseSent))
    }

    /// The events that are to be sent next: one as it is, several in one piece.
    fn gather(&mut self) -> Option<Bytes> {
        let first = self.next_event()?;
        if self.driver.sends_event() != Some(true) {
            return Some(first);
        }
        let mut piece = BytesMut::with_capacity(2 * first.len());
        piece.put_slice(&first);
        while piece.len() < PIECE && self.driver.sends_event() == Some(true) {
            piece.put_slice(&self.next_event()?);
        }
        Some(piece.freeze())
    }

    fn next_event(&mut self) -> Option<Bytes> {
        match self.driver.next_outgoing()? {
            Outgoing::Recorded(event) | Outgoing::Volatile(event) => self.driver.frame(&event),
            _ => None,
        }
    }

    /// Writes what the stream takes of the events. Ready when it has sent them all.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.events.is_empty() && !self.written {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(self.socket.get_mut());
        while !self.events.is_empty() {
            match ready!(stream.as_mut().poll_write(cx, &self.events))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.events.advance(taken),
            }
            self.written = true;
        }
        ready!(stream.poll_flush(cx))?;
        self.written = false;
        Poll::Ready(Ok(()))
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
