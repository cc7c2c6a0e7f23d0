//! The Rust client: it walks the ways in, keeps every subscription complete over reconnects, and asks the HTTP routes.
//!
//! [`Api`] asks the routes; [`Client`] holds the live connection. Every event of a run that is followed comes once and
//! in order, or a reset says where the run stands.
//!
//! ```no_run
//! # async fn example() -> apex_core::error::Result<()> {
//! use apex_core::clock::SystemClock;
//! use apex_transport::client::{Api, Client, ClientOptions};
//! use std::sync::Arc;
//!
//! let api = Api::new("http://127.0.0.1:8000")?.log_in("ada").await?;
//! let client = Client::connect(ClientOptions::new(api, Arc::new(SystemClock))).await?;
//! let (accepted, mut updates) = client.ask("What did we spend on gpt-4o?", None, Vec::new()).await?;
//! while let Some(update) = updates.next().await {
//!     tracing::info!(run = %accepted.run, update = ?update?, "the run goes on");
//! }
//! # Ok(())
//! # }
//! ```

mod api;
mod backoff;
mod dial;
mod follow;
mod http;
mod link;
mod session;
mod sink;

pub use api::{Api, Login};
pub use dial::{Dial, Stream};
pub use follow::{InboxUpdate, Update};
pub use link::ClientWay;

use crate::protocol::{Call, Decide, NewMessage, OfRun, OfStep, ServerFrame};
use apex_core::clock::Clock;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, FileId, RequestId, RunId, StepId, ThreadId};
use apex_core::run::{Accepted, Position};
use async_trait::async_trait;
use follow::Item;
use session::{Command, Session};
use sink::Sink;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Updates that wait for a slow reader before its subscription is paused.
const UPDATES: usize = 1_024;

/// Commands that wait for the connection.
const COMMANDS: usize = 64;

/// Buys tickets; a ticket opens one connection once.
#[async_trait]
pub trait Tickets: fmt::Debug + Send + Sync {
    /// A new ticket.
    ///
    /// # Errors
    /// Whatever keeps it from being bought; `unauthenticated` ends the client.
    async fn ticket(&self) -> Result<Secret<String>>;

    /// A ticket for a connection whose credential runs out: it counts for longer where the login can be renewed.
    ///
    /// # Errors
    /// As [`Tickets::ticket`].
    async fn lasting_ticket(&self) -> Result<Secret<String>> {
        self.ticket().await
    }

    /// The bearer token itself, for [`ClientWay::Header`].
    ///
    /// # Errors
    /// `bad_request` from one that only buys tickets.
    async fn token(&self) -> Result<Secret<String>> {
        let told = "there is no token to send as a header; leave ClientWay::Header out";
        Err(Error::new(Kind::BadRequest, "client.connect", told))
    }
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where the service is, as for [`Api::new`].
    pub url: String,
    /// What opens its connections.
    pub dial: Arc<dyn Dial>,
    /// What buys tickets; an [`Api`] that is logged in does.
    pub tickets: Arc<dyn Tickets>,
    /// What time it is, for new ids.
    pub clock: Arc<dyn Clock>,
    /// The first pause before the connection is made again; it doubles, up to 30 s.
    pub first_pause: Duration,
    /// How long an answer to a call may take, reconnects included.
    pub call_within: Duration,
    /// The ways in to try, in this order. Only [`ClientWay::Header`] is not among those of [`ClientOptions::new`].
    pub ways: Vec<ClientWay>,
    /// How many updates of one stream may wait for a slow reader before its subscription is paused; at least 1.
    pub buffer: usize,
}

impl ClientOptions {
    /// The options of a client that uses the login of `api`.
    #[must_use]
    pub fn new(api: Api, clock: Arc<dyn Clock>) -> Self {
        Self {
            url: api.url().to_owned(),
            dial: api.dial(),
            tickets: Arc::new(api),
            clock,
            first_pause: Duration::from_millis(500),
            call_within: Duration::from_secs(60),
            ways: vec![ClientWay::Subprotocol, ClientWay::Query, ClientWay::Hello],
            buffer: UPDATES,
        }
    }
}

/// A live connection that is made again whenever it breaks. It is closed when the last clone and the last [`Updates`]
/// that came of it are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    clock: Arc<dyn Clock>,
    call_within: Duration,
    buffer: usize,
}

impl Client {
    /// Connects by the first way of the chain that works.
    ///
    /// # Errors
    /// `unauthenticated` when no way lets the client in; `unavailable` when nobody answers; what the server says.
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        let (commands, received) = mpsc::channel(COMMANDS);
        let client = Self {
            commands,
            clock: Arc::clone(&options.clock),
            call_within: options.call_within,
            buffer: options.buffer.max(1),
        };
        let session = Session::connect(options, received).await?;
        tokio::spawn(session.run());
        Ok(client)
    }

    /// Sends a message under a new id, and follows its run from the start.
    ///
    /// # Errors
    /// As [`Client::message`].
    pub async fn ask(
        &self,
        text: &str,
        thread: Option<ThreadId>,
        attachments: Vec<FileId>,
    ) -> Result<(Accepted, Updates)> {
        let message = NewMessage {
            request_id: RequestId::new(&*self.clock),
            thread,
            text: text.to_owned(),
            attachments: attachments
                .into_iter()
                .map(|file| crate::protocol::Attachment { file })
                .collect(),
        };
        self.message(message).await
    }

    /// Sends a message, and follows its run from the start. Over a reconnect the same message is sent again, which
    /// makes no second run.
    ///
    /// # Errors
    /// What the server says; `deadline_exceeded` when the answer does not come in time: send the same message again.
    pub async fn message(&self, message: NewMessage) -> Result<(Accepted, Updates)> {
        let request_id = message.request_id;
        let (sink, reader) = self.channel();
        let answer = self.call(Call::Message(message), Some(sink)).await?;
        match answer {
            ServerFrame::Accepted(frame) => {
                let accepted = Accepted { request_id, thread: frame.thread, run: frame.run };
                Ok((accepted, Updates { run: frame.run, reader }))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Follows a run from a position. What is wrong with that comes as the first update.
    ///
    /// # Errors
    /// `cancelled` when the connection is closed for good.
    pub async fn subscribe(&self, run: RunId, position: Position) -> Result<Updates> {
        let (sink, reader) = self.channel();
        let follow = Command::Follow(Some(run), position, sink);
        self.commands.send(follow).await.map_err(|_| closed())?;
        Ok(Updates { run, reader })
    }

    /// Follows the user's inbox from a position: each run that begins, waits and ends. It has one reader, the last.
    ///
    /// # Errors
    /// `cancelled` when the connection is closed for good.
    pub async fn inbox(&self, position: Position) -> Result<Inbox> {
        let (sink, reader) = self.channel();
        let follow = Command::Follow(None, position, sink);
        self.commands.send(follow).await.map_err(|_| closed())?;
        Ok(Inbox { reader })
    }

    /// Cancels a run; the answer means that this is recorded.
    ///
    /// # Errors
    /// What the server says.
    pub async fn cancel(&self, run: RunId) -> Result<()> {
        self.done(Call::Cancel(OfRun { run })).await
    }

    /// Stops one step of a run.
    ///
    /// # Errors
    /// What the server says.
    pub async fn stop(&self, run: RunId, step: StepId) -> Result<()> {
        self.done(Call::Stop(OfStep { run, step })).await
    }

    /// Decides an approval.
    ///
    /// # Errors
    /// What the server says; `conflict` when it is decided already.
    pub async fn decide(
        &self,
        run: RunId,
        approval: ApprovalId,
        digest: &str,
        decision: Decision,
    ) -> Result<()> {
        let digest = digest.to_owned();
        self.done(Call::Decide(Decide { run, approval, digest, decision })).await
    }

    /// By which way the client came in last.
    ///
    /// # Errors
    /// `cancelled` when the connection is closed for good.
    pub async fn way(&self) -> Result<ClientWay> {
        let (sender, answer) = oneshot::channel();
        let command = Command::Way(sender);
        self.commands.send(command).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    async fn done(&self, call: Call) -> Result<()> {
        match self.call(call, None).await? {
            ServerFrame::Ok(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, call: Call, follow: Option<Sink>) -> Result<ServerFrame> {
        let (sender, answer) = oneshot::channel();
        let command = Command::Call(Box::new(call), sender, follow);
        let asking = async {
            self.commands.send(command).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        tokio::time::timeout(self.call_within, asking).await.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::DeadlineExceeded,
                "client.call",
                "no answer in time; ask again under the same ids",
            )
            .with_outcome(apex_core::error::Outcome::Unknown))
        })
    }

    fn channel(&self) -> (Sink, Reader) {
        let (updates, received) = mpsc::channel(self.buffer);
        let behind = Arc::new(AtomicBool::new(false));
        let sink = Sink { updates, behind: Arc::clone(&behind) };
        (sink, Reader { received, behind, commands: self.commands.clone() })
    }
}

/// What happens in one run, in order and complete. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Updates {
    run: RunId,
    reader: Reader,
}

impl Updates {
    /// The next update; `None` after the end of the run.
    ///
    /// # Errors
    /// What the server says about the subscription, or why the connection was closed for good. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<Update>> {
        loop {
            match self.reader.next(Some(self.run)).await? {
                Ok(Item::Update(update)) => return Some(Ok(update)),
                // No run has entries.
                Ok(Item::Entry(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }
}

/// What happens among the user's runs, in order and complete.
#[derive(Debug)]
pub struct Inbox {
    reader: Reader,
}

impl Inbox {
    /// The next entry; `None` when another reader took over.
    ///
    /// # Errors
    /// What the server says about the subscription, or why the connection was closed for good. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<InboxUpdate>> {
        loop {
            match self.reader.next(None).await? {
                Ok(Item::Entry(entry)) => return Some(Ok(InboxUpdate::Entry(entry))),
                Ok(Item::Update(Update::Reset(reset))) => {
                    return Some(Ok(InboxUpdate::Reset(reset)));
                }
                // The inbox has no events.
                Ok(Item::Update(Update::Event(_))) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The reader's end of a stream.
#[derive(Debug)]
struct Reader {
    received: mpsc::Receiver<Result<Item>>,
    behind: Arc<AtomicBool>,
    commands: mpsc::Sender<Command>,
}

impl Reader {
    async fn next(&mut self, run: Option<RunId>) -> Option<Result<Item>> {
        if let Ok(item) = self.received.try_recv() {
            return Some(item);
        }
        if self.behind.swap(false, Ordering::SeqCst) {
            // What was left out can be asked for now. When the connection is gone, so is the sender of updates, and
            // that is what ends this.
            let _ = self.commands.send(Command::CaughtUp(run)).await;
        }
        self.received.recv().await
    }
}

fn closed() -> Error {
    Error::new(Kind::Cancelled, "client.call", "the connection was closed for good; connect anew")
}

fn unexpected(frame: &ServerFrame) -> Error {
    let name = match frame {
        ServerFrame::Unknown => "an unknown frame",
        _ => "another frame than the call asks for",
    };
    Error::new(Kind::BadFrame, "client.call", format!("the server answered with {name}"))
}
