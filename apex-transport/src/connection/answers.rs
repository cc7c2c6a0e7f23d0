//! What comes back of the actions, and what the followed streams bring.

use super::streams::{Stream, StreamKey};
use super::{Brought, Connection, Moment, Opened};
use crate::protocol::{
    AcceptedFrame, Answered, CloseCode, FrameId, InboxFrame, ResetFrame, ServerFrame, Subscribed,
};
use apex_core::auth::Entry;
use apex_core::error::{Error, Result};
use apex_core::event::Recorded;
use apex_core::id::{Epoch, RunId};
use apex_core::run::{
    Accepted, Delivery, InboxDelivery, InboxEntry, Position, ResetReason, Snapshot,
};

impl Connection {
    pub(super) fn entered(&mut self, id: FrameId, entry: Result<Entry>, now: Moment) {
        self.calls = self.calls.saturating_sub(1);
        let known = self.entry.as_ref().map(|entry| entry.principal.user());
        match (entry, known) {
            (Ok(entry), Some(user)) if user != entry.principal.user() => {
                self.close(CloseCode::NotAllowed, "a credential of another user", now);
            }
            (Ok(entry), _) => self.welcome(Some(id), entry, now),
            (Err(error), Some(_)) => self.refuse(Some(id), error, now),
            (Err(error), None) => self.close_for(error, now),
        }
    }

    pub(super) fn started(&mut self, id: FrameId, accepted: Result<Accepted>, now: Moment) {
        self.calls = self.calls.saturating_sub(1);
        let principal = self.entry.as_ref().map(|entry| entry.principal.clone());
        match (accepted, principal) {
            (Ok(accepted), Some(principal)) => {
                let Accepted { request_id, thread, run } = accepted;
                let frame = AcceptedFrame { id: id.clone(), request_id, thread, run };
                self.send(&ServerFrame::Accepted(frame), now);
                let start = Position::default();
                self.follow(id, principal, Stream::Run(run), start, false, now);
            }
            (Err(error), _) => self.refuse(Some(id), error, now),
            // Only a client that is in can have asked.
            (Ok(_), None) => {}
        }
    }

    pub(super) fn done(&mut self, id: FrameId, done: Result<()>, now: Moment) {
        self.calls = self.calls.saturating_sub(1);
        match done {
            Ok(()) => self.send(&ServerFrame::Ok(Answered { id }), now),
            Err(error) => self.refuse(Some(id), error, now),
        }
    }

    pub(super) fn opened(&mut self, key: StreamKey, opened: Result<Opened>, now: Moment) {
        let Some(followed) = self.streams.get_mut(key) else {
            return;
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let id = followed.id.clone();
                self.streams.end(key);
                return self.refuse(Some(id), error, now);
            }
        };
        followed.epoch = Some(opened.epoch);
        // A position that cannot be gone on from is answered by the reset that comes next.
        if opened.recovered && std::mem::take(&mut followed.unanswered) {
            let frame = Subscribed {
                id: followed.id.clone(),
                run: followed.stream.run(),
                epoch: opened.epoch,
                head: opened.head,
                oldest: opened.oldest,
                recovered: true,
                state: opened.state,
            };
            self.send(&ServerFrame::Subscribed(frame), now);
        }
    }

    pub(super) fn brought(&mut self, key: StreamKey, brought: Brought, now: Moment) {
        let Some(followed) = self.streams.get_mut(key) else {
            return;
        };
        match (brought, followed.stream) {
            (Brought::Run(Delivery::Events(events)), Stream::Run(run)) => {
                self.events(key, run, events, now);
            }
            (Brought::Run(Delivery::Live(event)), Stream::Run(run)) => {
                self.outbox.volatile(run, event, now.elapsed);
            }
            (Brought::Run(Delivery::Reset { reason, epoch, head, snapshot }), Stream::Run(_)) => {
                self.reset(key, reason, epoch, head, Some(*snapshot), now)
            }
            (Brought::Run(Delivery::End(_)), Stream::Run(_)) => {
                self.streams.end(key);
            }
            (Brought::Inbox(InboxDelivery::Entries(entries)), Stream::Inbox) => {
                self.entries(key, entries, now);
            }
            (Brought::Inbox(InboxDelivery::Reset { reason, epoch, head }), Stream::Inbox) => {
                self.reset(key, reason, epoch, head, None, now)
            }
            (Brought::Broken(error), _) => {
                if let Some(followed) = self.streams.end(key) {
                    self.refuse(Some(followed.id), error, now);
                }
            }
            (Brought::Run(_), Stream::Inbox) | (Brought::Inbox(_), Stream::Run(_)) => {
                let error = Error::internal("connection.deliver", "a stream brought another's");
                self.close_for(error, now);
            }
        }
    }

    fn events(&mut self, key: StreamKey, run: RunId, events: Vec<Recorded>, now: Moment) {
        for event in events {
            if !self.follows(key, event.seq, now) {
                return;
            }
            self.outbox.recorded(run, event, now.elapsed);
        }
    }

    fn entries(&mut self, key: StreamKey, entries: Vec<InboxEntry>, now: Moment) {
        let Some(epoch) = self.streams.get_mut(key).and_then(|followed| followed.epoch) else {
            return;
        };
        for entry in entries {
            if !self.follows(key, entry.seq, now) {
                return;
            }
            let frame = InboxFrame {
                epoch,
                seq: entry.seq,
                run: entry.run,
                thread: entry.thread,
                state: entry.state,
                at: entry.at,
            };
            self.send(&ServerFrame::Inbox(frame), now);
        }
    }

    /// Whether `seq` is the next number of the stream. If not, something behind us is broken: rather than sending a
    /// silent hole the connection is closed, and the client comes back with its own position.
    fn follows(&mut self, key: StreamKey, seq: u64, now: Moment) -> bool {
        let Some(followed) = self.streams.get_mut(key) else {
            return false;
        };
        if seq != followed.last + 1 {
            let (stream, last) = (followed.stream, followed.last);
            tracing::error!(connection = %self.id, ?stream, last, seq, "a stream has a hole");
            self.close(CloseCode::PositionLost, "position lost", now);
            return false;
        }
        followed.last = seq;
        true
    }

    fn reset(
        &mut self,
        key: StreamKey,
        reason: ResetReason,
        epoch: Epoch,
        head: u64,
        snapshot: Option<Snapshot>,
        now: Moment,
    ) {
        let Some(followed) = self.streams.get_mut(key) else {
            return;
        };
        (followed.epoch, followed.last) = (Some(epoch), head);
        let frame = ResetFrame {
            id: std::mem::take(&mut followed.unanswered).then(|| followed.id.clone()),
            run: followed.stream.run(),
            reason,
            epoch,
            head,
            snapshot,
        };
        self.send(&ServerFrame::Reset(frame), now);
    }
}

impl Stream {
    fn run(self) -> Option<RunId> {
        match self {
            Self::Run(run) => Some(run),
            Self::Inbox => None,
        }
    }
}
