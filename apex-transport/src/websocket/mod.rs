//! Connections over WebSockets: ours, whose one task pumps between the socket and the driver, and those of a host's own
//! routes ([`GuardedSocket`]), behind the same handshake and within the same bounds.

mod frames;
mod guarded;
mod pump;

pub(crate) use frames::Frames;
pub use guarded::{GuardedSocket, Said};
pub(crate) use pump::run;

use crate::config::ConnectionConfig;
use crate::protocol::CloseCode;
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// What is read from a socket at a time, and gathered before it is written: small, since most sockets are idle.
const BUFFER: usize = 4 * 1024;

/// What a socket's write buffer may hold: more than the largest frame of ours, since one frame is written at a time.
const MAX_WRITE: usize = 512 * 1024;

/// How one socket is spoken over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// The largest message of the client's.
    frame_bytes: usize,
    /// How long the client may take to answer a close.
    close_within: Duration,
}

impl From<ConnectionConfig> for Settings {
    fn from(config: ConnectionConfig) -> Self {
        Self { frame_bytes: config.frame_bytes, close_within: config.close_within }
    }
}

impl Settings {
    fn socket(self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(MAX_WRITE)
            .max_message_size(Some(self.frame_bytes))
            .max_frame_size(Some(self.frame_bytes))
    }
}

/// Closes a client whose entry was refused: a page can read a close code, but no HTTP status of an upgrade.
pub(crate) async fn refuse<S>(stream: S, code: CloseCode, reason: String, settings: Settings)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let socket = accept(stream, settings).await;
    close(socket, close_frame(code, reason), settings).await;
}

async fn accept<S>(stream: S, settings: Settings) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(settings.socket())).await
}

/// Says why, and waits a while for the answer.
async fn close<S>(mut socket: WebSocketStream<S>, frame: CloseFrame, settings: Settings)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        if socket.feed(Message::Close(Some(frame))).await.is_ok() {
            finish(socket).await;
        }
    };
    let _ = tokio::time::timeout(settings.close_within, closing).await;
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

fn close_frame(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame { code: code.code().into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_small_and_writes_are_bounded() {
        let settings = Settings::from(ConnectionConfig::default()).socket();
        assert_eq!((settings.read_buffer_size, settings.write_buffer_size), (4_096, 4_096));
        assert_eq!(settings.max_write_buffer_size, 512 * 1024);
        let frame = Some(ConnectionConfig::default().frame_bytes);
        assert_eq!((settings.max_message_size, settings.max_frame_size), (frame, frame));
        // One frame at a time has to fit, the largest of ours: a reset with its snapshot.
        const { assert!(MAX_WRITE > 128 * 1024 + BUFFER) };
    }
}
