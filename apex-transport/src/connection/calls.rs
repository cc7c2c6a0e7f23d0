//! What a client asks.

use super::streams::Stream;
use super::{Action, Connection, Moment, Phase};
use crate::protocol::{
    Answered, Call, ClientFrame, CloseCode, FrameId, Malformed, NewMessage, Pong, ServerFrame,
    Since, decode,
};
use apex_core::error::{Error, Kind, Result};
use apex_core::principal::{Principal, Scope};
use apex_core::run::Position;

const OPERATION: &str = "connection.call";

impl Connection {
    pub(super) fn text(&mut self, text: &str, now: Moment) {
        self.heard = true;
        let largest = match self.phase {
            Phase::In => self.terms.config.frame_bytes,
            _ => self.terms.config.hello_bytes,
        };
        if text.len() > largest {
            let reason = format!("a frame may have {largest} bytes here");
            return self.close(CloseCode::TooLarge, &reason, now);
        }
        let frame = decode(text);
        if let Err(wait) = self.bucket.take(now.elapsed) {
            let id = match frame {
                Ok(frame) => Some(frame.id),
                Err(bad) => bad.id,
            };
            let error = Error::new(
                Kind::RateLimited,
                OPERATION,
                format!("at most {} frames a second", self.terms.config.frames_per_s),
            );
            return self.refuse(id, error.with_retry_after(wait), now);
        }
        match frame {
            Ok(ClientFrame { id, call }) => self.call(id, call, now),
            Err(Malformed { id, error }) => self.bad_frame(id, error, now),
        }
    }

    fn bad_frame(&mut self, id: Option<FrameId>, error: Error, now: Moment) {
        self.refuse(id, error, now);
        if self.bad.count(now.elapsed) {
            self.close(CloseCode::BadFrames, "too many bad frames", now);
        }
    }

    fn call(&mut self, id: FrameId, call: Call, now: Moment) {
        if let Call::Hello(hello) = call {
            if self.phase == Phase::Unknown {
                self.phase = Phase::Verifying;
            }
            return self.ask(Action::Authenticate(id, hello.0));
        }
        let Some(principal) = self.entry.as_ref().map(|entry| entry.principal.clone()) else {
            let error = Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "say `hello` with a token or a ticket first",
            );
            return self.bad_frame(Some(id), error, now);
        };
        if let Err(error) = self.call_as(&principal, id.clone(), call, now) {
            self.refuse(Some(id), error, now);
        }
    }

    fn call_as(
        &mut self,
        principal: &Principal,
        id: FrameId,
        call: Call,
        now: Moment,
    ) -> Result<()> {
        let who = principal.clone();
        match call {
            // Answered before anybody is known; see `call`.
            Call::Hello(_) => {}
            Call::Ping(ping) => self.send(&ServerFrame::Pong(Pong { id, n: ping.n }), now),
            Call::Message(message) => {
                principal.require(Scope::Run, OPERATION)?;
                self.message(id, who, message)?;
            }
            Call::Subscribe(subscribe) => {
                principal.require(Scope::Read, OPERATION)?;
                self.subscribe(id, who, Stream::Run(subscribe.run), subscribe.since(), now)?;
            }
            Call::Inbox(since) => {
                principal.require(Scope::Read, OPERATION)?;
                self.subscribe(id, who, Stream::Inbox, since, now)?;
            }
            Call::Unsubscribe(of) => {
                if let Some((key, followed)) = self.streams.leave(Stream::Run(of.run)) {
                    self.actions.push_back(Action::Leave(key));
                    if followed.unanswered {
                        self.refuse(Some(followed.id), overtaken(), now);
                    }
                }
                self.send(&ServerFrame::Ok(Answered { id }), now);
            }
            Call::Cancel(of) => {
                principal.require(Scope::Cancel, OPERATION)?;
                self.ask(Action::Cancel(id, who, of.run));
            }
            Call::Stop(of) => {
                principal.require(Scope::Cancel, OPERATION)?;
                self.ask(Action::Stop(id, who, of.run, of.step));
            }
            Call::Decide(what) => {
                principal.require(Scope::Run, OPERATION)?;
                let (approval, decision) = (what.approval, what.decision);
                self.ask(Action::Decide(id, who, what.run, approval, what.digest, decision));
            }
        }
        Ok(())
    }

    fn message(&mut self, id: FrameId, who: Principal, message: NewMessage) -> Result<()> {
        if self.close_at.is_some() {
            return Err(Error::new(
                Kind::Draining,
                OPERATION,
                "this node shuts down; send it to another one",
            ));
        }
        // A run that its sender cannot follow would be started unseen.
        self.check_room()?;
        self.ask(Action::Start(id, who, message.into_message()));
        Ok(())
    }

    fn subscribe(
        &mut self,
        id: FrameId,
        who: Principal,
        stream: Stream,
        since: Since,
        now: Moment,
    ) -> Result<()> {
        if !self.streams.contains(stream) {
            self.check_room()?;
        }
        // The decoder has refused what is no position.
        let position = since.position().unwrap_or_default();
        self.follow(id, who, stream, position, true, now);
        Ok(())
    }

    pub(super) fn follow(
        &mut self,
        id: FrameId,
        who: Principal,
        stream: Stream,
        position: Position,
        unanswered: bool,
        now: Moment,
    ) {
        let (key, replaced) = self.streams.follow(stream, id, unanswered, position.after);
        if let Some((replaced, followed)) = replaced {
            self.actions.push_back(Action::Leave(replaced));
            if followed.unanswered {
                self.refuse(Some(followed.id), overtaken(), now);
            }
        }
        self.actions.push_back(Action::Follow(key, who, stream, position));
    }

    fn check_room(&self) -> Result<()> {
        if self.streams.len() < self.terms.config.subscriptions {
            return Ok(());
        }
        Err(Error::new(
            Kind::RateLimited,
            OPERATION,
            format!(
                "this connection follows {} streams, which is the limit; unsubscribe from one",
                self.terms.config.subscriptions
            ),
        ))
    }

    /// Asks for something that an input answers.
    fn ask(&mut self, action: Action) {
        self.calls += 1;
        self.actions.push_back(action);
    }
}

fn overtaken() -> Error {
    Error::new(Kind::Conflict, OPERATION, "a later frame about the same stream took its place")
}
