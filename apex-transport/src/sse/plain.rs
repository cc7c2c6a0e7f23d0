use super::Script;
use crate::connection::Outgoing;
use crate::protocol::{FrameId, ResetFrame, ServerFrame, write_event, write_retry};
use apex_core::event::Recorded;
use apex_core::id::{ConnectionId, Epoch};
use apex_core::run::Position;
use bytes::{Bytes, BytesMut};

/// The envelopes themselves, named by their place in the log.
#[derive(Debug)]
pub(crate) struct Plain {
    connection: ConnectionId,
    epoch: Option<Epoch>,
    last: u64,
    over: bool,
}

impl Plain {
    pub(crate) fn new(connection: ConnectionId, position: Position) -> Self {
        Self { connection, epoch: position.epoch, last: position.after, over: false }
    }

    fn recorded(&mut self, event: &Recorded, piece: &mut BytesMut) {
        self.event(event.seq, None, &event.json, piece);
        self.over = event.terminal;
    }

    /// Of the frames, what someone who only listens has to know. An error ends the answer: the client comes back, and
    /// is told by a status if it cannot.
    fn frame(&mut self, json: &Bytes, piece: &mut BytesMut) {
        match serde_json::from_slice(json) {
            Ok(ServerFrame::Subscribed(subscribed)) => {
                self.epoch = Some(subscribed.epoch);
                let ended = subscribed.state.is_some_and(|state| state.is_terminal());
                self.over = ended && self.last >= subscribed.head;
            }
            Ok(ServerFrame::Reset(reset)) => self.reset(reset, piece),
            Ok(ServerFrame::Draining(draining)) => {
                let share = self.connection.as_bytes().last().copied().map_or(0, u64::from);
                let wait = draining.after_ms + draining.jitter_ms * share / 256;
                write_retry(wait, piece);
            }
            Ok(ServerFrame::Error(_)) => self.over = true,
            _ => {}
        }
    }

    fn reset(&mut self, reset: ResetFrame, piece: &mut BytesMut) {
        self.epoch = Some(reset.epoch);
        self.over = reset.snapshot.as_ref().is_some_and(|snapshot| snapshot.state.is_terminal());
        let reset = ResetFrame { id: None::<FrameId>, ..reset };
        // Only maps with keys that are no strings can fail, and no reset has one.
        let json = serde_json::to_vec(&reset).unwrap_or_default();
        self.event(reset.head, Some("reset"), &json, piece);
    }

    /// An event after which the client has everything up to `seq`.
    fn event(&mut self, seq: u64, name: Option<&str>, json: &[u8], piece: &mut BytesMut) {
        self.last = seq;
        match self.epoch {
            Some(epoch) => write_event(Some(format_args!("{epoch}:{seq}")), name, json, piece),
            None => write_event(None, name, json, piece),
        }
    }
}

impl Script for Plain {
    fn write(&mut self, outgoing: Outgoing, piece: &mut BytesMut) {
        match outgoing {
            Outgoing::Recorded(event) => self.recorded(&event, piece),
            Outgoing::Volatile(event) => write_event(None, None, &event.json, piece),
            Outgoing::Text(json) => self.frame(&json, piece),
            Outgoing::Close(..) => self.over = true,
            Outgoing::Ping => {}
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
