//! One conversation over frames that a host carries itself: over a socket of its own (ASGI, Express and the like), or
//! within its process. One task owns it; the host feeds it what comes and sends what it says.

use crate::connection::{Input, Outgoing};
use crate::driver::Driver;
use crate::protocol::{CloseCode, event_frame};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// The host's end of a conversation. Dropping it, or the sender of its two halves, ends the conversation.
#[derive(Debug)]
pub struct FramePipe {
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// Takes in what came from the client.
#[derive(Debug)]
pub struct FrameSender(mpsc::Sender<Came>);

/// Gives what is to be sent to the client.
#[derive(Debug)]
pub struct FrameReceiver(mpsc::Receiver<Sent>);

/// What is to be sent to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A frame: JSON, in UTF-8.
    Text(Bytes),
    /// A ping of the WebSocket protocol, for a socket that can send one.
    Ping,
    /// The end, with the close code and its reason; nothing follows.
    Close(u16, String),
}

/// What came from the client.
#[derive(Debug)]
enum Came {
    Text(String),
    Unreadable(CloseCode),
    Alive,
}

impl FramePipe {
    pub(crate) fn over(driver: Driver) -> Self {
        // One frame in each direction: what else waits, waits in the conversation, which knows its bounds.
        let (sender, incoming) = mpsc::channel(1);
        let (outgoing, receiver) = mpsc::channel(1);
        tokio::spawn(pump(driver, incoming, PollSender::new(outgoing)));
        Self { sender: FrameSender(sender), receiver: FrameReceiver(receiver) }
    }

    /// One that has nothing to say but why it ends.
    #[cfg(feature = "websocket")]
    pub(crate) fn closed(code: CloseCode, reason: String) -> Self {
        let (sender, _) = mpsc::channel(1);
        let (outgoing, receiver) = mpsc::channel(1);
        // There is room for one.
        let _ = outgoing.try_send(Sent::Close(code.code(), reason));
        Self { sender: FrameSender(sender), receiver: FrameReceiver(receiver) }
    }

    /// The two halves, for a host that reads and writes in two tasks.
    #[must_use]
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }

    /// As [`FrameSender::text`].
    pub async fn text(&self, text: impl Into<String>) -> bool {
        self.sender.text(text).await
    }

    /// As [`FrameReceiver::next`].
    pub async fn next(&mut self) -> Option<Sent> {
        self.receiver.next().await
    }
}

impl FrameSender {
    /// A text message came. Waits while the conversation does not read; `false` when it is over.
    pub async fn text(&self, text: impl Into<String>) -> bool {
        self.0.send(Came::Text(text.into())).await.is_ok()
    }

    /// A binary message came, which is against the protocol.
    pub async fn binary(&self) -> bool {
        self.0.send(Came::Unreadable(CloseCode::NotText)).await.is_ok()
    }

    /// A ping or a pong of the WebSocket protocol came: the client lives.
    pub async fn alive(&self) -> bool {
        self.0.send(Came::Alive).await.is_ok()
    }
}

impl FrameReceiver {
    /// What is to be sent next; `None` when the conversation is over. A host that does not ask for a while is a client
    /// that does not read: the conversation stops reading for it, and ends after the bound on waiting.
    pub async fn next(&mut self) -> Option<Sent> {
        self.0.recv().await
    }
}

async fn pump(
    mut driver: Driver,
    mut incoming: mpsc::Receiver<Came>,
    mut outgoing: PollSender<Sent>,
) {
    std::future::poll_fn(|cx| poll_pump(&mut driver, &mut incoming, &mut outgoing, cx)).await;
}

fn poll_pump(
    driver: &mut Driver,
    incoming: &mut mpsc::Receiver<Came>,
    outgoing: &mut PollSender<Sent>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let mut progress = match poll_send(driver, outgoing, cx) {
            ControlFlow::Continue(sent) => sent,
            ControlFlow::Break(()) => return Poll::Ready(()),
        };
        progress |= driver.poll_progress(cx).is_ready();
        if driver.is_over() {
            return Poll::Ready(());
        }
        if driver.may_read() {
            match incoming.poll_recv(cx) {
                Poll::Ready(Some(came)) => {
                    driver.receive(match &came {
                        Came::Text(text) => Input::Text(text),
                        Came::Unreadable(code) => Input::Unreadable(*code),
                        Came::Alive => Input::Alive,
                    });
                    progress = true;
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if !progress {
            return Poll::Pending;
        }
    }
}

/// Sends what the host takes; whether it took any. Breaks off where nothing may follow.
fn poll_send(
    driver: &mut Driver,
    outgoing: &mut PollSender<Sent>,
    cx: &mut Context<'_>,
) -> ControlFlow<(), bool> {
    let mut any = false;
    loop {
        match outgoing.poll_reserve(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return ControlFlow::Break(()),
            Poll::Pending => return ControlFlow::Continue(any),
        }
        let Some(next) = driver.next_outgoing() else {
            return ControlFlow::Continue(any);
        };
        let closes = matches!(next, Outgoing::Close(..));
        if outgoing.send_item(sent(next)).is_err() || closes {
            return ControlFlow::Break(());
        }
        // What the host's socket takes is a sign of life; whether it arrives is the socket's business.
        driver.receive(Input::Alive);
        any = true;
    }
}

fn sent(outgoing: Outgoing) -> Sent {
    match outgoing {
        Outgoing::Text(json) => Sent::Text(json),
        Outgoing::Recorded(event) | Outgoing::Volatile(event) => {
            Sent::Text(event_frame(&event.json))
        }
        Outgoing::Ping => Sent::Ping,
        Outgoing::Close(code, reason) => Sent::Close(code.code(), reason),
    }
}
