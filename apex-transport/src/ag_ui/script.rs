use super::translate::Translation;
use crate::connection::Outgoing;
use crate::protocol::{ServerFrame, write_event};
use crate::sse;
use apex_core::clock::{Clock, Timestamp};
use apex_core::event::Recorded;
use apex_core::id::Epoch;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::str::FromStr;
use std::sync::Arc;

/// The last of AG-UI's events that a client has seen: the `n`-th of those that one event of the log became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) epoch: Epoch,
    seq: u64,
    n: usize,
}

impl FromStr for Seen {
    type Err = ();

    fn from_str(id: &str) -> Result<Self, ()> {
        let mut parts = id.splitn(3, ':');
        let mut next = || parts.next().ok_or(());
        Ok(Self {
            epoch: next()?.parse().map_err(drop)?,
            seq: next()?.parse().map_err(drop)?,
            n: next()?.parse().map_err(drop)?,
        })
    }
}

/// AG-UI's events of one run, from what the client has not seen. The log is read from its beginning all the same: what
/// is open has to be known before it can be closed.
#[derive(Debug)]
pub(crate) struct Script {
    translation: Translation,
    clock: Arc<dyn Clock>,
    epoch: Option<Epoch>,
    seen: Option<Seen>,
    over: bool,
}

impl Script {
    /// `answered` is the place of the interrupt that an earlier AG-UI run ended with, 0 for none.
    pub(crate) fn new(
        thread: String,
        run: String,
        answered: u64,
        seen: Option<Seen>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let translation = Translation::new(thread, run, answered);
        Self { translation, clock, epoch: seen.map(|seen| seen.epoch), seen, over: false }
    }

    fn recorded(&mut self, event: &Recorded, piece: &mut BytesMut) {
        match event.decode() {
            Ok(envelope) => {
                let events = self.translation.translate(envelope);
                self.show(event.seq, &events, piece);
            }
            Err(error) => {
                tracing::error!(?error, "an event cannot be told as AG-UI's");
                self.over = true;
            }
        }
    }

    fn volatile(&mut self, event: &Recorded, piece: &mut BytesMut) {
        let events = event.decode().map(|envelope| self.translation.translate(envelope));
        for event in events.iter().flatten() {
            write_event(None, None, event.to_string().as_bytes(), piece);
        }
    }

    fn frame(&mut self, json: &Bytes, piece: &mut BytesMut) {
        match serde_json::from_slice(json) {
            Ok(ServerFrame::Subscribed(subscribed)) => self.epoch = Some(subscribed.epoch),
            Ok(ServerFrame::Reset(reset)) => {
                let begin = self.seen.is_none();
                self.epoch = Some(reset.epoch);
                // Where the client was means nothing any more.
                self.seen = None;
                let now: Timestamp = self.clock.now();
                let events = self.translation.reset(&reset, now, begin);
                self.show(reset.head, &events, piece);
            }
            Ok(ServerFrame::Error(_)) => self.over = true,
            _ => {}
        }
    }

    fn show(&mut self, seq: u64, events: &[Value], piece: &mut BytesMut) {
        let known = match self.seen {
            Some(seen) if seq < seen.seq => events.len(),
            Some(seen) if seq == seen.seq => seen.n,
            _ => 0,
        };
        for (n, event) in (1..).zip(events).skip(known) {
            let json = event.to_string();
            match self.epoch {
                Some(epoch) => {
                    let id = format_args!("{epoch}:{seq}:{n}");
                    write_event(Some(id), None, json.as_bytes(), piece);
                }
                None => write_event(None, None, json.as_bytes(), piece),
            }
        }
    }
}

impl sse::Script for Script {
    fn write(&mut self, outgoing: Outgoing, piece: &mut BytesMut) {
        match outgoing {
            Outgoing::Recorded(event) => self.recorded(&event, piece),
            Outgoing::Volatile(event) => self.volatile(&event, piece),
            Outgoing::Text(json) => self.frame(&json, piece),
            Outgoing::Close(..) => self.over = true,
            Outgoing::Ping => {}
        }
    }

    fn is_over(&self) -> bool {
        self.over || self.translation.is_over()
    }
}
