use super::Event;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::{Epoch, RunId, ThreadId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version of the envelope and of the protocol that carries it.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest encoded envelope, in bytes; larger values travel as [`super::Payload`]s.
pub const MAX_ENVELOPE: usize = 48 * 1024;

/// An event with its place: `(run, epoch, seq)` names it for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Envelope {
    /// The version, 1.
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// The conversation that the run belongs to.
    pub thread: ThreadId,
    /// The run that started this one, if any.
    pub parent: Option<RunId>,
    /// The life of the log.
    pub epoch: Epoch,
    /// The place in the log, from 1 without holes; volatile events have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Envelope {
    /// The envelope as JSON.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] past [`MAX_ENVELOPE`].
    pub fn encode(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self).map_err(|e| {
            Error::internal("event.encode", "an event could not be encoded").with_source(e)
        })?;
        if json.len() > MAX_ENVELOPE {
            return Err(Error::new(
                Kind::TooLarge,
                "event.encode",
                "an event is larger than an envelope may be",
            )
            .with("type", self.event.name())
            .with("bytes", json.len())
            .with("limit", MAX_ENVELOPE));
        }
        Ok(json.into())
    }
}

/// An encoded envelope as logs keep it and subscriptions pass it on: encoded once, shared by all readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the log, from 1; for a volatile event, the log's head when it was made.
    pub seq: u64,
    /// Whether it closes the run.
    pub terminal: bool,
    /// The envelope as JSON.
    pub json: Bytes,
}

impl Recorded {
    /// Encodes an envelope for a log or a reader.
    ///
    /// # Errors
    /// As [`Envelope::encode`].
    pub fn encode(envelope: &Envelope) -> Result<Self> {
        Ok(Self {
            seq: envelope.seq.unwrap_or(0),
            terminal: envelope.event.is_terminal(),
            json: envelope.encode()?,
        })
    }

    /// The event alone, which is a good deal cheaper to read than its envelope.
    ///
    /// # Errors
    /// [`Kind::Storage`] when the stored bytes are not an envelope.
    pub fn event(&self) -> Result<Event> {
        // The envelope's own fields are passed over.
        serde_json::from_slice(&self.json).map_err(damaged)
    }

    /// The envelope again.
    ///
    /// # Errors
    /// [`Kind::Storage`] when the stored bytes are not an envelope.
    pub fn decode(&self) -> Result<Envelope> {
        serde_json::from_slice(&self.json).map_err(damaged)
    }
}

fn damaged(error: serde_json::Error) -> Error {
    Error::new(Kind::Storage, "event.decode", "a recorded event is damaged").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::id::StepId;

    fn envelope(event: Event) -> Envelope {
        Envelope {
            v: PROTOCOL_VERSION,
            run: RunId::new(&SystemClock),
            thread: ThreadId::new(&SystemClock),
            parent: None,
            epoch: Epoch::new(&SystemClock),
            seq: (!event.is_volatile()).then_some(17),
            at: Timestamp::from_millis(1_763_805_600_123),
            event,
        }
    }

    #[test]
    fn the_shape_is_that_of_the_protocol() {
        let thought =
            Event::AgentThinking { step: StepId(1), agent: "triage".into(), note: "hm".into() };
        let envelope = envelope(thought);
        let json: serde_json::Value = serde_json::from_slice(&envelope.encode().unwrap()).unwrap();
        assert_eq!(json["v"], 1);
        assert_eq!(json["seq"], 17);
        assert_eq!(json["parent"], serde_json::Value::Null);
        assert_eq!(json["at"], "2025-11-22T10:00:00.123Z");
        assert_eq!(json["type"], "agent_thinking");
        assert_eq!(json["data"]["step"], "s1");
        let recorded = Recorded::encode(&envelope).unwrap();
        assert_eq!(recorded.decode().unwrap(), envelope);
        assert_eq!(recorded.event().unwrap(), envelope.event);
    }

    #[test]
    fn volatile_events_have_no_seq() {
        let progress =
            Event::Progress { step: StepId(1), done: 1, total: None, unit: "rows".into() };
        let json = String::from_utf8(envelope(progress).encode().unwrap().to_vec()).unwrap();
        assert!(!json.contains("\"seq\""), "{json}");
    }

    #[test]
    fn an_oversized_event_is_refused() {
        let thought = Event::AgentThinking {
            step: StepId(1),
            agent: "a".into(),
            note: "x".repeat(MAX_ENVELOPE),
        };
        assert_eq!(envelope(thought).encode().unwrap_err().kind(), Kind::TooLarge);
    }
}
