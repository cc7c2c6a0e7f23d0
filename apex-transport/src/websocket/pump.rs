use super::{Settings, accept, close_frame, finish, unreadable};
use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::protocol::{CloseCode, event_frame};
use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use std::pin::Pin;
use std::task::{Context, Poll};
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
pub(crate) async fn run<S>(stream: S, mut driver: Driver, settings: Settings)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut socket = accept(stream, settings).await;
    let end = std::future::poll_fn(|cx| poll_pump(&mut socket, &mut driver, cx)).await;
    if end == End::CloseSent {
        let _ = tokio::time::timeout(settings.close_within, finish(socket)).await;
    }
}

fn poll_pump<S>(
    socket: &mut WebSocketStream<S>,
    driver: &mut Driver,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let written = poll_write(socket, driver, cx);
        if let Poll::Ready(Some(end)) = written {
            return Poll::Ready(end);
        }
        let mut progress = driver.poll_progress(cx).is_ready();
        if driver.is_over() {
            return Poll::Ready(End::Gone);
        }
        if driver.may_read() {
            match Pin::new(&mut *socket).poll_next(cx) {
                Poll::Ready(Some(Ok(Message::Close(_))) | None) => {
                    return Poll::Ready(End::CloseSent);
                }
                Poll::Ready(Some(message)) => {
                    if take_in(driver, message) {
                        return Poll::Ready(End::Gone);
                    }
                    progress = true;
                }
                Poll::Pending => {}
            }
        }
        if !progress {
            return Poll::Pending;
        }
    }
}

/// Writes whatever the socket takes. Ready with an end when the close is out or the socket is gone, ready without one
/// when everything is written.
fn poll_write<S>(
    socket: &mut WebSocketStream<S>,
    driver: &mut Driver,
    cx: &mut Context<'_>,
) -> Poll<Option<End>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = Pin::new(socket);
    loop {
        match socket.as_mut().poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Some(End::Gone)),
            Poll::Pending => return Poll::Pending,
        }
        let Some(outgoing) = driver.next_outgoing() else {
            return match socket.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(None),
                Poll::Ready(Err(_)) => Poll::Ready(Some(End::Gone)),
                Poll::Pending => Poll::Pending,
            };
        };
        let closes = matches!(outgoing, Outgoing::Close(..));
        let Some(message) = message(outgoing) else {
            return Poll::Ready(Some(End::Gone));
        };
        if socket.as_mut().start_send(message).is_err() {
            return Poll::Ready(Some(End::Gone));
        }
        if closes {
            return Poll::Ready(Some(End::CloseSent));
        }
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
