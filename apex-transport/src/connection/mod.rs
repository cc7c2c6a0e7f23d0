//! One client's conversation as a state machine: what came in and what time it is goes in, what is to be done and what
//! is to be sent comes out. It has no IO, no clock and no task, so that every transport is the same conversation and a
//! test decides what happens when.
//!
//! A shell feeds [`Connection::handle`] with [`Input`]s, carries out every [`Action`] and gives the answers back as
//! inputs, sends every [`Outgoing`], and calls again no later than [`Connection::deadline`].

mod answers;
mod calls;
mod outbox;
mod rate;
mod streams;

pub use streams::{Stream, StreamKey};

use crate::config::{ConnectionConfig, TransportConfig};
use crate::protocol::{CloseCode, Draining, ErrorFrame, FrameId, Limits, ServerFrame, Welcome};
use apex_core::auth::{Credential, Entry};
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Result};
use apex_core::event::{Decision, Recorded};
use apex_core::id::{ApprovalId, ConnectionId, CorrelationId, Epoch, RunId, StepId, UserId};
use apex_core::principal::Principal;
use apex_core::run::{Accepted, Delivery, InboxDelivery, Message, Position, RunState};
use bytes::Bytes;
use outbox::Outbox;
use rate::{Bucket, Recent};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;

/// A moment: how long the connection is open, by a clock that only runs forward, and what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the connection was opened.
    pub elapsed: Duration,
    /// The wall-clock time.
    pub at: Timestamp,
}

/// What came to a connection.
#[derive(Debug)]
pub enum Input<'a> {
    /// A text message of the client's.
    Text(&'a str),
    /// A sign of life: a ping or pong of the WebSocket protocol.
    Alive,
    /// The client's bytes are not acceptable, and why.
    Unreadable(CloseCode),
    /// The answer to [`Action::Authenticate`].
    Entered(FrameId, Result<Entry>),
    /// The answer to [`Action::Start`].
    Started(FrameId, Result<Accepted>),
    /// The answer to any of the actions that only succeed or fail.
    Done(FrameId, Result<()>),
    /// The answer to [`Action::Follow`].
    Opened(StreamKey, Result<Opened>),
    /// What a followed stream brought.
    Brought(StreamKey, Brought),
    /// This node shuts down.
    Drain(Draining),
    /// The login that the client came by has ended.
    Revoked,
    /// Time has passed.
    Tick,
}

/// Where a stream stood when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The life of its log.
    pub epoch: Epoch,
    /// The last number.
    pub head: u64,
    /// The oldest number that is still there.
    pub oldest: u64,
    /// Whether the rest after the position is complete; else the first thing brought is a reset.
    pub recovered: bool,
    /// The run's state; `None` for the inbox.
    pub state: Option<RunState>,
}

/// What a followed stream brings.
#[derive(Debug)]
pub enum Brought {
    /// Something of a run.
    Run(Delivery),
    /// Something of the inbox.
    Inbox(InboxDelivery),
    /// The stream broke off.
    Broken(Error),
}

/// What a shell is to do. Every action but [`Action::Leave`] is answered by an input.
#[derive(Debug)]
pub enum Action {
    /// Verify a credential, and count the user's connection.
    Authenticate(FrameId, Credential),
    /// Start a run.
    Start(FrameId, Principal, Message),
    /// Follow a stream from a position.
    Follow(StreamKey, Principal, Stream, Position),
    /// Stop following a stream.
    Leave(StreamKey),
    /// Cancel a run.
    Cancel(FrameId, Principal, RunId),
    /// Stop a step.
    Stop(FrameId, Principal, RunId, StepId),
    /// Decide an approval.
    Decide(FrameId, Principal, RunId, ApprovalId, String, Decision),
}

/// What a shell is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A frame.
    Text(Bytes),
    /// A recorded event of a run that is followed.
    Recorded(Recorded),
    /// A volatile event of one; it has no place in the log.
    Volatile(Recorded),
    /// A ping of the WebSocket protocol.
    Ping,
    /// The end: a close code and its reason. Nothing follows.
    Close(CloseCode, String),
}

/// What holds for all connections of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How each behaves.
    pub config: ConnectionConfig,
    /// What clients are told of limits.
    pub limits: Limits,
}

impl From<&TransportConfig> for Terms {
    fn from(config: &TransportConfig) -> Self {
        Self { config: config.connection, limits: config.limits() }
    }
}

/// One client's conversation.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    terms: Arc<Terms>,
    phase: Phase,
    entry: Option<Entry>,
    told_expiring: bool,
    outbox: Outbox,
    actions: VecDeque<Action>,
    calls: usize,
    errors: u64,
    failures: VecDeque<Error>,
    bucket: Bucket,
    bad: Recent,
    streams: Streams,
    next_ping: Duration,
    heard: bool,
    missed: u32,
    close_at: Option<Duration>,
}

/// How far the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for a `hello`.
    Unknown,
    /// The `hello` is being verified.
    Verifying,
    /// The client is in.
    In,
    /// The close is queued or sent; the shell gives up at the given time.
    Closing(Duration),
    /// The client does not even take the close.
    Over,
}

impl Connection {
    /// A conversation that begins now, with the entry of a client that its upgrade request has let in.
    #[must_use]
    pub fn new(id: ConnectionId, terms: Arc<Terms>, entry: Option<Entry>, now: Moment) -> Self {
        let config = &terms.config;
        let mut connection = Self {
            id,
            phase: Phase::Unknown,
            entry: None,
            told_expiring: false,
            outbox: Outbox::new(config.outbound_bytes),
            actions: VecDeque::new(),
            calls: 0,
            errors: 0,
            failures: VecDeque::new(),
            bucket: Bucket::new(config.frames_per_s, config.frames_burst),
            bad: Recent::new(config.bad_frames),
            streams: Streams::default(),
            next_ping: now.elapsed + config.heartbeat,
            heard: true,
            missed: 0,
            close_at: None,
            terms,
        };
        if let Some(entry) = entry {
            connection.welcome(None, entry, now);
            connection.tick(now);
        }
        connection
    }

    /// Takes in what came.
    pub fn handle(&mut self, input: Input<'_>, now: Moment) {
        if self.is_closing() {
            return self.tick(now);
        }
        match input {
            Input::Text(text) => self.text(text, now),
            Input::Alive => self.heard = true,
            Input::Unreadable(code) => self.close(code, code.row().name, now),
            Input::Entered(id, entry) => self.entered(id, entry, now),
            Input::Started(id, accepted) => self.started(id, accepted, now),
            Input::Done(id, done) => self.done(id, done, now),
            Input::Opened(key, opened) => self.opened(key, opened, now),
            Input::Brought(key, brought) => self.brought(key, brought, now),
            Input::Drain(draining) => self.drain(draining, now),
            Input::Revoked => self.close(CloseCode::BadCredential, "logged out", now),
            Input::Tick => {}
        }
        self.tick(now);
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            return None;
        }
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            // Most connections ask for something once, and are many: half a kilobyte each.
            self.actions = VecDeque::new();
        }
        action
    }

    /// What is to be sent next.
    pub fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.outbox.pop()
    }

    /// The next failure that the client was told of, for the host's log; a shell takes them all after each input.
    pub fn next_failure(&mut self) -> Option<Error> {
        self.failures.pop_front()
    }

    /// Whose connection it is, once the client has said so.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.entry.as_ref().map(|entry| entry.principal.user())
    }

    /// Whether anything waits to be sent.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether what is to be sent next is an event of a run; `None` where nothing is.
    #[must_use]
    pub fn sends_event(&self) -> Option<bool> {
        self.outbox.begins_with_event()
    }

    /// Whether the shell may read what the client sends: not while the client is being verified, while too many calls
    /// are under way or while answers pile up unread.
    #[must_use]
    pub fn may_read(&self) -> bool {
        match self.phase {
            Phase::Verifying => false,
            Phase::Unknown | Phase::In => {
                self.calls < self.terms.config.calls && !self.outbox.is_full()
            }
            Phase::Closing(_) | Phase::Over => true,
        }
    }

    /// Whether the shell may read the followed streams: not while the client is behind.
    #[must_use]
    pub fn may_deliver(&self) -> bool {
        self.phase == Phase::In && !self.outbox.is_full()
    }

    /// When [`Input::Tick`] is due, counted like [`Moment::elapsed`].
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Duration> {
        match self.phase {
            Phase::Closing(by) => return Some(by),
            Phase::Over => return None,
            Phase::Unknown | Phase::Verifying | Phase::In => {}
        }
        let hello = (self.phase == Phase::Unknown).then_some(self.terms.config.hello_within);
        let expiry = self.entry.as_ref().map(|entry| {
            let due = if self.told_expiring {
                entry.expires_at
            } else {
                entry.expires_at.minus(self.terms.config.expiring)
            };
            now.elapsed + due.since(now.at)
        });
        let slow = self.outbox.waiting_since().map(|since| since + self.terms.config.outbound_wait);
        [Some(self.next_ping), hello, expiry, slow, self.close_at].into_iter().flatten().min()
    }

    /// Whether the close is queued or sent: nothing more will be asked or taken in.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Over)
    }

    /// Whether the client did not take the close in time: the shell drops it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Who the client is, once that is known.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// Streams that are followed or about to be.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    fn tick(&mut self, now: Moment) {
        if let Phase::Closing(by) = self.phase
            && now.elapsed >= by
        {
            self.outbox.clear();
            self.phase = Phase::Over;
        }
        if self.is_closing() {
            return;
        }
        if self.phase == Phase::Unknown && now.elapsed >= self.terms.config.hello_within {
            return self.close(CloseCode::NoHello, "say hello first, and soon", now);
        }
        if self.close_at.is_some_and(|due| now.elapsed >= due) {
            return self.close(CloseCode::Draining, "this node shuts down", now);
        }
        if self
            .outbox
            .waiting_since()
            .is_some_and(|since| now.elapsed >= since + self.terms.config.outbound_wait)
        {
            self.outbox.clear();
            return self.close(CloseCode::SlowConsumer, "reads too slowly", now);
        }
        self.watch_credential(now);
        self.heartbeat(now);
    }

    fn watch_credential(&mut self, now: Moment) {
        let Some(expires_at) = self.entry.as_ref().map(|entry| entry.expires_at) else {
            return;
        };
        if now.at >= expires_at {
            return self.close(CloseCode::CredentialExpired, "the credential ran out", now);
        }
        if !self.told_expiring && now.at >= expires_at.minus(self.terms.config.expiring) {
            self.told_expiring = true;
            let expiring = crate::protocol::Expiring { at: expires_at };
            self.send(&ServerFrame::Expiring(expiring), now);
        }
    }

    fn heartbeat(&mut self, now: Moment) {
        if self.is_closing() || now.elapsed < self.next_ping {
            return;
        }
        self.missed = if self.heard { 0 } else { self.missed + 1 };
        if self.missed >= self.terms.config.missed_heartbeats {
            self.outbox.clear();
            return self.close(CloseCode::Gone, "no sign of life", now);
        }
        self.heard = false;
        self.next_ping = now.elapsed + self.terms.config.heartbeat;
        self.outbox.ping(now.elapsed);
    }

    fn drain(&mut self, draining: Draining, now: Moment) {
        if self.close_at.is_none() {
            self.close_at = Some(now.elapsed + Duration::from_millis(draining.after_ms));
            self.send(&ServerFrame::Draining(draining), now);
        }
    }

    fn welcome(&mut self, id: Option<FrameId>, entry: Entry, now: Moment) {
        let frame = Welcome {
            id,
            connection: self.id,
            user: entry.principal.user(),
            heartbeat_s: self.terms.config.heartbeat.as_secs(),
            expires_at: entry.expires_at,
            limits: self.terms.limits,
        };
        self.phase = Phase::In;
        self.entry = Some(entry);
        self.told_expiring = false;
        self.send(&ServerFrame::Welcome(frame), now);
    }

    fn send(&mut self, frame: &ServerFrame, now: Moment) {
        self.outbox.frame(frame.encode(), now.elapsed);
    }

    /// Answers with an error; its correlation id is the same in the log.
    fn refuse(&mut self, id: Option<FrameId>, error: Error, now: Moment) {
        let error = self.correlated(error);
        let frame = ErrorFrame { id, error: error.report() };
        self.failures.push_back(error);
        self.send(&ServerFrame::Error(frame), now);
    }

    fn correlated(&mut self, error: Error) -> Error {
        self.errors += 1;
        error.with_correlation(CorrelationId::derived(&[
            self.id.as_bytes(),
            &self.errors.to_be_bytes(),
        ]))
    }

    /// Queues the close: nothing is asked or taken in after it.
    fn close(&mut self, code: CloseCode, reason: &str, now: Moment) {
        if self.is_closing() {
            return;
        }
        tracing::debug!(connection = %self.id, code = code.code(), reason, "closing");
        metrics::counter!("apex_closes_total", "code" => code.row().name).increment(1);
        self.phase = Phase::Closing(now.elapsed + self.terms.config.close_within);
        self.actions.clear();
        self.streams.clear();
        self.outbox.close(code, reason, now.elapsed);
    }

    /// Closes because of an error; a defect of ours says where to look.
    fn close_for(&mut self, error: Error, now: Moment) {
        let error = self.correlated(error);
        let code = CloseCode::for_refusal(&error);
        let reason = match (code, error.correlation()) {
            (CloseCode::Defect, Some(id)) => format!("correlation {id}"),
            _ => error.code().to_owned(),
        };
        self.failures.push_back(error);
        self.close(code, &reason, now);
    }
}

#[cfg(test)]
mod tests;
