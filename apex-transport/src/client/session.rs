//! The client's one task: it owns the socket, makes it again when it breaks, and knows what is asked and followed.

use super::backoff::{Backoff, random_part};
use super::follow::{Applied, Item, Update, Verdict};
use super::http::{Place, error_from};
use super::link::{ClientWay, Refused, Socket, closed_with, send, walk};
use super::sink::{Sink, Unsent};
use super::{ClientOptions, Tickets};
use crate::protocol::{
    Advice, Call, ClientFrame, CloseCode, ErrorFrame, EventFrame, FrameId, Hello, InboxFrame,
    OfRun, Ping, ResetFrame, ServerFrame, Subscribe,
};
use apex_core::auth::Credential;
use apex_core::error::{Error, Result};
use apex_core::id::{Epoch, RunId};
use apex_core::run::Position;
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// How long the answer to a ping may take.
const PONG: Duration = Duration::from_secs(10);

/// How long a frame may take to be taken.
const SEND: Duration = Duration::from_secs(10);

/// How long a subscription rests that broke off for a reason that may pass.
const REST: Duration = Duration::from_secs(1);

/// A run, or without one the inbox, as on the wire.
type Followable = Option<RunId>;

/// What the handles of a client ask.
pub(super) enum Command {
    Call(Box<Call>, oneshot::Sender<Result<ServerFrame>>, Option<Sink>),
    Follow(Followable, Position, Sink),
    /// The reader has read all that there is.
    CaughtUp(Followable),
    Way(oneshot::Sender<ClientWay>),
}

pub(super) struct Session {
    place: Place,
    tickets: Arc<dyn Tickets>,
    commands: mpsc::Receiver<Command>,
    backoff: Backoff,
    ways: Vec<ClientWay>,
    way: ClientWay,
    socket: Socket,
    heartbeat: Duration,
    heard: Instant,
    pinged: bool,
    /// When a server that drains may be come back to.
    drained: Option<Instant>,
    last_id: u64,
    asked: BTreeMap<u64, Asked>,
    followed: HashMap<Followable, Followed>,
}

/// A call without an answer yet; it is sent again over every new connection.
struct Asked {
    call: Call,
    answer: oneshot::Sender<Result<ServerFrame>>,
    follow: Option<Sink>,
}

struct Followed {
    applied: Applied,
    sink: Sink,
    /// The frame that asked for it last.
    id: u64,
    /// Whether the answer to that is still to come; what comes before it belongs to an earlier one.
    asking: bool,
    paused: Paused,
}

/// Why nothing is asked for at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paused {
    No,
    /// Its reader is behind.
    Behind,
    /// It broke off, and is asked for again at that time.
    Until(Instant),
}

/// How one connection ended.
enum Ended {
    /// No handle is left.
    Dropped,
    /// It is made again after a pause.
    Again(Duration),
    /// It is not made again.
    Stop(Error),
}

impl Session {
    /// Connects for the first time; what goes wrong is told rather than tried again.
    pub(super) async fn connect(
        options: ClientOptions,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self> {
        let mut place = Place::parse(&options.url)?;
        place.dial = options.dial;
        let (socket, welcome, way) = walk(&place, &*options.tickets, &options.ways, None)
            .await
            .map_err(Refused::into_error)?;
        Ok(Self {
            place,
            tickets: options.tickets,
            commands,
            backoff: Backoff::new(options.first_pause),
            ways: options.ways,
            way,
            socket,
            heartbeat: Duration::from_secs(welcome.heartbeat_s),
            heard: Instant::now(),
            pinged: false,
            drained: None,
            last_id: 0,
            asked: BTreeMap::new(),
            followed: HashMap::new(),
        })
    }

    pub(super) async fn run(mut self) {
        let error = loop {
            match self.converse().await {
                Ended::Dropped => {
                    let _ = tokio::time::timeout(SEND, self.socket.close(None)).await;
                    return;
                }
                Ended::Stop(error) => break error,
                Ended::Again(pause) => match self.reconnect(pause).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => break error,
                },
            }
        };
        self.fail(&error);
    }

    /// Pumps one connection until it ends.
    async fn converse(&mut self) -> Ended {
        if self.resume().await.is_err() {
            return self.again();
        }
        loop {
            let due = self.due();
            let done = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return Ended::Dropped,
                },
                message = self.socket.next() => match message {
                    Some(Ok(message)) => match self.take_in(message).await {
                        Ok(None) => Ok(()),
                        Ok(Some(ended)) => return ended,
                        Err(lost) => Err(lost),
                    },
                    Some(Err(_)) | None => Err(Lost),
                },
                () = tokio::time::sleep_until(due) => self.tick().await,
            };
            if done.is_err() {
                return self.again();
            }
        }
    }

    fn again(&mut self) -> Ended {
        Ended::Again(self.backoff.pause())
    }

    /// Makes the connection again; `false` when no handle is left to use it.
    async fn reconnect(&mut self, mut pause: Duration) -> Result<bool> {
        loop {
            tracing::debug!(?pause, "connecting again");
            tokio::time::sleep(pause).await;
            if self.commands.is_closed() && self.commands.is_empty() {
                return Ok(false);
            }
            match walk(&self.place, &*self.tickets, &self.ways, Some(self.way)).await {
                Ok((socket, welcome, way)) => {
                    (self.socket, self.way) = (socket, way);
                    self.heartbeat = Duration::from_secs(welcome.heartbeat_s);
                    (self.heard, self.pinged) = (Instant::now(), false);
                    return Ok(true);
                }
                Err(Refused::Never(error)) => return Err(error),
                Err(Refused::NextWay(error)) if !error.is_retryable() => return Err(error),
                Err(Refused::NextWay(error) | Refused::Later(error)) => {
                    pause = self.backoff.pause().max(error.retry_after().unwrap_or_default());
                }
            }
        }
    }

    /// Asks again for everything that is followed and not answered.
    async fn resume(&mut self) -> Result<(), Lost> {
        // Whoever has given up waiting needs no answer.
        self.asked.retain(|_, asked| !asked.answer.is_closed());
        let asleep = |followed: &Followed| followed.paused == Paused::Behind;
        let awake = self.followed.iter().filter(|(_, followed)| !asleep(followed));
        let all: Vec<Followable> = awake.map(|(key, _)| *key).collect();
        for key in all {
            self.subscribe(key).await?;
        }
        let calls: Vec<(u64, Call)> =
            self.asked.iter().map(|(id, asked)| (*id, asked.call.clone())).collect();
        for (id, call) in calls {
            self.send(id, call).await?;
        }
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<(), Lost> {
        match command {
            Command::Call(call, answer, follow) => {
                let id = self.next_id();
                let asked = Asked { call: (*call).clone(), answer, follow };
                self.asked.insert(id, asked);
                self.send(id, *call).await
            }
            Command::Follow(key, position, sink) => {
                let applied = Applied::from(position);
                let followed = Followed { applied, sink, id: 0, asking: true, paused: Paused::No };
                self.followed.insert(key, followed);
                self.subscribe(key).await
            }
            Command::CaughtUp(key) => match self.followed.get(&key) {
                Some(followed) if followed.paused == Paused::Behind => self.subscribe(key).await,
                _ => Ok(()),
            },
            Command::Way(answer) => {
                // Who asked may be gone.
                let _ = answer.send(self.way);
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self, key: Followable) -> Result<(), Lost> {
        let id = self.next_id();
        let Some(followed) = self.followed.get_mut(&key) else {
            return Ok(());
        };
        (followed.id, followed.asking, followed.paused) = (id, true, Paused::No);
        let since = followed.applied.since();
        let call = match key {
            Some(run) => Call::Subscribe(Subscribe::new(run, since)),
            None => Call::Inbox(since),
        };
        self.send(id, call).await
    }

    /// The inbox cannot be left: what it goes on to say is passed over.
    async fn leave(&mut self, key: Followable) -> Result<(), Lost> {
        let Some(run) = key else { return Ok(()) };
        let id = self.next_id();
        self.send(id, Call::Unsubscribe(OfRun { run })).await
    }

    /// Takes in a message; an end when the server closes.
    async fn take_in(&mut self, message: Message) -> Result<Option<Ended>, Lost> {
        (self.heard, self.pinged) = (Instant::now(), false);
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(frame) => self.frame(frame).await.map(|()| None),
                Err(_) => Err(Lost),
            },
            Message::Close(close) => {
                let (code, reason) = close.map_or((1005, String::new()), |close| {
                    (u16::from(close.code), close.reason.to_string())
                });
                Ok(Some(self.closed(code, &reason)))
            }
            _ => Ok(None),
        }
    }

    fn closed(&mut self, code: u16, reason: &str) -> Ended {
        tracing::debug!(code, reason, "the server closed the connection");
        match CloseCode::advice_for(code) {
            Advice::Stop => Ended::Stop(closed_with(code, reason)),
            Advice::ResumeElsewhere => match self.drained.take() {
                Some(due) => Ended::Again(due.saturating_duration_since(Instant::now())),
                None => self.again(),
            },
            // Also a credential that was good for nothing but the welcome does not become a fast loop.
            Advice::NewTicketOnce
            | Advice::NewCredential
            | Advice::Resume
            | Advice::NextWayOrResume => self.again(),
        }
    }

    async fn frame(&mut self, frame: ServerFrame) -> Result<(), Lost> {
        match frame {
            ServerFrame::Event(event) => self.event(event).await,
            ServerFrame::Reset(reset) => self.reset(reset).await,
            ServerFrame::Subscribed(subscribed) => {
                if let Some(followed) = self.followed.get_mut(&subscribed.run)
                    && number(&subscribed.id) == Some(followed.id)
                {
                    followed.asking = false;
                    followed.applied.subscribed(&subscribed);
                }
                Ok(())
            }
            ServerFrame::Accepted(accepted) => {
                let Some(asked) = self.take_asked(&accepted.id) else {
                    return Ok(());
                };
                if let Some(sink) = asked.follow {
                    let followed = Followed {
                        applied: Applied::default(),
                        sink,
                        id: number(&accepted.id).unwrap_or_default(),
                        asking: false,
                        paused: Paused::No,
                    };
                    self.followed.insert(Some(accepted.run), followed);
                }
                let _ = asked.answer.send(Ok(ServerFrame::Accepted(accepted)));
                Ok(())
            }
            ServerFrame::Ok(answered) => {
                if let Some(asked) = self.take_asked(&answered.id) {
                    let _ = asked.answer.send(Ok(ServerFrame::Ok(answered)));
                }
                Ok(())
            }
            ServerFrame::Error(error) => {
                self.error(error);
                Ok(())
            }
            ServerFrame::Expiring(_) => self.extend().await,
            ServerFrame::Draining(draining) => {
                let jitter = random_part(Duration::from_millis(draining.jitter_ms));
                let after = Duration::from_millis(draining.after_ms);
                self.drained = Some(Instant::now() + after + jitter);
                Ok(())
            }
            ServerFrame::Inbox(entry) => self.entry(entry).await,
            ServerFrame::Welcome(_) | ServerFrame::Pong(_) | ServerFrame::Unknown => Ok(()),
        }
    }

    async fn event(&mut self, event: EventFrame) -> Result<(), Lost> {
        let (key, epoch, seq) = (Some(event.run), event.epoch, event.seq);
        let update = Update::Event(Box::new(event));
        let last = update.is_last();
        self.pass_on(key, epoch, seq, Item::Update(update), last).await
    }

    async fn entry(&mut self, entry: InboxFrame) -> Result<(), Lost> {
        let (epoch, seq) = (entry.epoch, entry.seq);
        self.pass_on(None, epoch, Some(seq), Item::Entry(Box::new(entry)), false).await
    }

    /// Hands an item to its reader if it is the next one.
    async fn pass_on(
        &mut self,
        key: Followable,
        epoch: Epoch,
        seq: Option<u64>,
        item: Item,
        last: bool,
    ) -> Result<(), Lost> {
        let Some(followed) = self.followed.get_mut(&key) else {
            return Ok(());
        };
        if followed.asking || followed.paused != Paused::No {
            return Ok(());
        }
        match followed.applied.judge(epoch, seq) {
            Verdict::Drop => return Ok(()),
            Verdict::Again => return self.subscribe(key).await,
            Verdict::Apply => {}
        }
        // What comes in order shows that the server is well.
        self.backoff.reset();
        // A volatile event that nobody has time for is gone.
        if seq.is_none() && followed.sink.updates.capacity() == 0 {
            return Ok(());
        }
        match followed.sink.send(Ok(item)) {
            Ok(()) => {
                followed.applied.apply(epoch, seq);
                if last {
                    self.followed.remove(&key);
                }
                Ok(())
            }
            Err(unsent) => self.unsent(key, unsent).await,
        }
    }

    async fn reset(&mut self, reset: ResetFrame) -> Result<(), Lost> {
        let key = reset.run;
        let Some(followed) = self.followed.get_mut(&key) else {
            return Ok(());
        };
        let answers = reset.id.as_ref().and_then(number) == Some(followed.id);
        if followed.paused != Paused::No || (followed.asking && !answers) {
            return Ok(());
        }
        followed.asking = false;
        let mut applied = followed.applied;
        applied.reset(&reset);
        let update = Update::Reset(Box::new(reset));
        let last = update.is_last();
        match followed.sink.send(Ok(Item::Update(update))) {
            Ok(()) if last => {
                self.followed.remove(&key);
                Ok(())
            }
            Ok(()) => {
                followed.applied = applied;
                Ok(())
            }
            Err(unsent) => self.unsent(key, unsent).await,
        }
    }

    /// The position stays where the reader is: asking again brings again what was left out.
    async fn unsent(&mut self, key: Followable, unsent: Unsent) -> Result<(), Lost> {
        match unsent {
            Unsent::CaughtUp => self.subscribe(key).await,
            Unsent::Behind => {
                if let Some(followed) = self.followed.get_mut(&key) {
                    followed.paused = Paused::Behind;
                }
                self.leave(key).await
            }
            Unsent::Gone => {
                self.followed.remove(&key);
                self.leave(key).await
            }
        }
    }

    fn error(&mut self, frame: ErrorFrame) {
        let Some(id) = frame.id else {
            return;
        };
        let error = error_from(frame.error);
        if let Some(asked) = self.take_asked(&id) {
            let _ = asked.answer.send(Err(error));
            return;
        }
        let of_frame = |followed: &Followed| number(&id) == Some(followed.id);
        let found = self.followed.iter().find(|(_, f)| of_frame(f));
        let Some(key) = found.map(|(key, _)| *key) else {
            return;
        };
        if error.is_retryable() {
            let rest = REST.max(error.retry_after().unwrap_or_default());
            if let Some(followed) = self.followed.get_mut(&key) {
                followed.paused = Paused::Until(Instant::now() + rest);
            }
        } else if let Some(followed) = self.followed.remove(&key) {
            let _ = followed.sink.send(Err(error));
        }
    }

    /// Stays in with a ticket of a login that was renewed. Without one the connection ends with the credential, and the walk begins anew.
    async fn extend(&mut self) -> Result<(), Lost> {
        match self.tickets.lasting_ticket().await {
            Ok(ticket) => {
                let id = self.next_id();
                let hello = Call::Hello(Hello(Credential::Ticket(ticket)));
                self.send(id, hello).await
            }
            Err(error) => {
                tracing::debug!(%error, "the credential could not be renewed");
                Ok(())
            }
        }
    }

    /// When something is due by itself.
    fn due(&self) -> Instant {
        let silent = if self.pinged { PONG } else { self.heartbeat };
        let resting = self.followed.values().filter_map(|f| match f.paused {
            Paused::Until(due) => Some(due),
            Paused::No | Paused::Behind => None,
        });
        resting.fold(self.heard + silent, Instant::min)
    }

    async fn tick(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        let rested: Vec<Followable> = self
            .followed
            .iter()
            .filter(|(_, f)| matches!(f.paused, Paused::Until(due) if due <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in rested {
            self.subscribe(key).await?;
        }
        if self.pinged && now >= self.heard + PONG {
            return Err(Lost);
        }
        if !self.pinged && now >= self.heard + self.heartbeat {
            // From here the answer to the ping is waited for.
            (self.heard, self.pinged) = (now, true);
            let id = self.next_id();
            return self.send(id, Call::Ping(Ping { n: id })).await;
        }
        Ok(())
    }

    async fn send(&mut self, id: u64, call: Call) -> Result<(), Lost> {
        let frame = ClientFrame { id: FrameId::Number(id), call };
        match tokio::time::timeout(SEND, send(&mut self.socket, &frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Lost),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn take_asked(&mut self, id: &FrameId) -> Option<Asked> {
        self.asked.remove(&number(id)?)
    }

    /// Tells everybody that it is over.
    fn fail(self, error: &Error) {
        tracing::debug!(%error, "the connection is closed for good");
        for asked in self.asked.into_values() {
            let _ = asked.answer.send(Err(error.again()));
        }
        for followed in self.followed.into_values() {
            let _ = followed.sink.send(Err(error.again()));
        }
    }
}

/// The connection is of no further use.
struct Lost;

fn number(id: &FrameId) -> Option<u64> {
    match id {
        FrameId::Number(n) => Some(*n),
        FrameId::Text(_) => None,
    }
}
