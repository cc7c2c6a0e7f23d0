use super::{Script, data};
use crate::connection::Outgoing;
use crate::protocol::{FrameId, ResetFrame, ServerFrame};
use apex_core::event::Recorded;
use apex_core::id::{ConnectionId, Epoch};
use apex_core::run::Position;
use bytes::{BufMut as _, Bytes, BytesMut};

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
        self.position(event.seq, piece);
        data(&event.json, piece);
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
                piece.put_slice(format!("retry: {wait}\n\n").as_bytes());
            }
            Ok(ServerFrame::Error(_)) => self.over = true,
            _ => {}
        }
    }

    fn reset(&mut self, reset: ResetFrame, piece: &mut BytesMut) {
        self.epoch = Some(reset.epoch);
        self.over = reset.snapshot.as_ref().is_some_and(|snapshot| snapshot.state.is_terminal());
        piece.put_slice(b"event: reset\n");
        self.position(reset.head, piece);
        let reset = ResetFrame { id: None::<FrameId>, ..reset };
        // Only maps with keys that are no strings can fail, and no reset has one.
        data(&serde_json::to_vec(&reset).unwrap_or_default(), piece);
    }

    fn position(&mut self, seq: u64, piece: &mut BytesMut) {
        self.last = seq;
        if let Some(epoch) = self.epoch {
            piece.put_slice(format!("id: {epoch}:{seq}\n").as_bytes());
        }
    }
}

impl Script for Plain {
    fn write(&mut self, outgoing: Outgoing, piece: &mut BytesMut) {
        match outgoing {
            Outgoing::Recorded(event) => self.recorded(&event, piece),
            Outgoing::Volatile(event) => data(&event.json, piece),
            Outgoing::Text(json) => self.frame(&json, piece),
            Outgoing::Close(..) => self.over = true,
            Outgoing::Ping => {}
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
