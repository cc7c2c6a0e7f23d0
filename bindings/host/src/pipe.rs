use bytes::Bytes;
use netra_apex::transport::pipe::{FramePipe, FrameReceiver, FrameSender, Sent};
use tokio::sync::Mutex;

/// A conversation whose frames the host carries over a socket of its own.
#[derive(Debug)]
pub struct Pipe {
    sender: Mutex<Option<FrameSender>>,
    receiver: Mutex<Option<FrameReceiver>>,
}

/// What is to be sent to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(Bytes),
    /// A ping, for a socket that can send one.
    Ping,
    /// The end, with the close code and its reason.
    Close(u16, String),
}

impl Pipe {
    pub(crate) fn new(pipe: FramePipe) -> Self {
        let (sender, receiver) = pipe.split();
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    /// A text message came; `false` when the conversation is over.
    pub async fn text(&self, text: String) -> bool {
        match &*self.sender.lock().await {
            Some(sender) => sender.text(text).await,
            None => false,
        }
    }

    /// A binary message came, which is against the protocol.
    pub async fn binary(&self) -> bool {
        match &*self.sender.lock().await {
            Some(sender) => sender.binary().await,
            None => false,
        }
    }

    /// A ping or a pong came.
    pub async fn alive(&self) -> bool {
        match &*self.sender.lock().await {
            Some(sender) => sender.alive().await,
            None => false,
        }
    }

    /// What is to be sent next; `None` when the conversation is over.
    pub async fn next(&self) -> Option<Frame> {
        let mut receiver = self.receiver.lock().await;
        let next = receiver.as_mut()?.next().await;
        Some(match next? {
            Sent::Text(text) => Frame::Text(text),
            Sent::Ping => Frame::Ping,
            Sent::Close(code, reason) => Frame::Close(code, reason),
        })
    }

    /// The client's socket is closed: nothing more comes.
    pub async fn close(&self) {
        self.sender.lock().await.take();
    }
}
