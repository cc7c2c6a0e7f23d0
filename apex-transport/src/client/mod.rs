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
pub use follow::Update;
pub use link::ClientWay;

use crate::protocol::{Call, Decide, NewMessage, OfRun, OfStep, ServerFrame};
use apex_core::clock::Clock;
use apex_core::config::Secret;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, FileId, RequestId, RunId, StepId, ThreadId};
use apex_core::run::{Accepted, Position};
use async_trait::async_trait;
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
}

impl Client {
    /// Connects by the first way of the chain that works.
    ///
    /// # Errors
    /// `unauthenticated` when no way lets the client in; `unavailable` when nobody answers; what the server says.
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        let (commands, received) = mpsc::channel(COMMANDS);
        let client =
            Self { commands, clock: Arc::clone(&options.clock), call_within: options.call_within };
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
        let (sink, received) = channel();
        let behind = Arc::clone(&sink.behind);
        let answer = self.call(Call::Message(message), Some(sink)).await?;
        match answer {
            ServerFrame::Accepted(frame) => {
                let accepted = Accepted { request_id, thread: frame.thread, run: frame.run };
                Ok((accepted, self.updates(frame.run, received, behind)))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Follows a run from a position. What is wrong with that comes as the first update.
    ///
    /// # Errors
    /// `cancelled` when the connection is closed for good.
    pub async fn subscribe(&self, run: RunId, position: Position) -> Result<Updates> {
        let (sink, received) = channel();
        let behind = Arc::clone(&sink.behind);
        let follow = Command::Follow(run, position, sink);
        self.commands.send(follow).await.map_err(|_| closed())?;
        Ok(self.updates(run, received, behind))
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

    fn updates(
        &self,
        run: RunId,
        received: mpsc::Receiver<Result<Update>>,
        behind: Arc<AtomicBool>,
    ) -> Updates {
        Updates { run, received, behind, commands: self.commands.clone() }
    }
}

/// What happens in one run, in order and complete. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Updates {
    run: RunId,
    received: mpsc::Receiver<Result<Update>>,
    behind: Arc<AtomicBool>,
    commands: mpsc::Sender<Command>,
}

impl Updates {
    /// The next update; `None` after the end of the run.
    ///
    /// # Errors
    /// What the server says about the subscription, or why the connection was closed for good. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<Update>> {
        if let Ok(update) = self.received.try_recv() {
            return Some(update);
        }
        if self.behind.swap(false, Ordering::SeqCst) {
            // What was left out can be asked for now. When the connection is gone, so is the sender of updates, and
            // that is what ends this.
            let _ = self.commands.send(Command::CaughtUp(self.run)).await;
        }
        self.received.recv().await
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }
}

fn channel() -> (Sink, mpsc::Receiver<Result<Update>>) {
    let (updates, received) = mpsc::channel(UPDATES);
    let behind = Arc::default();
    (Sink { updates, behind }, received)
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
