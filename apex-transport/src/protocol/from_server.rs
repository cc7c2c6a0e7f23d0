use super::FrameId;
use apex_core::clock::Timestamp;
use apex_core::error::ErrorReport;
use apex_core::event::Envelope;
use apex_core::id::{ConnectionId, Epoch, RequestId, RunId, ThreadId, UserId};
use apex_core::run::{ResetReason, RunState, Snapshot};
use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A frame that the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The client is in.
    Welcome(Welcome),
    /// A message is on record.
    Accepted(AcceptedFrame),
    /// A run or the inbox is followed.
    Subscribed(Subscribed),
    /// Done.
    Ok(Answered),
    /// Not done, and why.
    Error(ErrorFrame),
    /// Something happened in a run.
    Event(EventFrame),
    /// Something happened among the user's runs.
    Inbox(InboxFrame),
    /// What follows a position cannot be given; this is where things stand.
    Reset(ResetFrame),
    /// The credential runs out soon.
    Expiring(Expiring),
    /// This node shuts down soon.
    Draining(Draining),
    /// The answer to a `ping`.
    Pong(Pong),
    /// A frame of a later version; to be ignored.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl ServerFrame {
    /// The frame as JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        // Only maps with keys that are no strings can fail, and no frame has one.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The client is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Welcome {
    /// The id of the `hello` that this answers; absent when the client came in with its upgrade request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// The connection.
    pub connection: ConnectionId,
    /// Who came in.
    pub user: UserId,
    /// After this many seconds of silence a client sends a `ping`.
    pub heartbeat_s: u64,
    /// When the credential runs out.
    pub expires_at: Timestamp,
    /// What this server allows.
    pub limits: Limits,
}

/// What a server allows, as told to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Limits {
    /// The largest frame of a client's, in bytes.
    pub frame_bytes: usize,
    /// Frames that a client may send a second.
    pub frames_per_s: u32,
    /// Frames that a client may send at once.
    pub frames_burst: u32,
    /// Runs that one connection may follow.
    pub subscriptions: usize,
    /// Bytes that may wait to be read by a client before the server stops reading for it.
    pub outbound_bytes: usize,
    /// How long one of them may wait, in milliseconds.
    pub outbound_ms: u64,
    /// Connections of one user, over all nodes.
    pub connections: usize,
    /// Runs of one user at work.
    pub running_runs: usize,
    /// Runs of one user that wait for a place.
    pub queued_runs: usize,
    /// Tickets of one user that may be unused.
    pub unused_tickets: usize,
    /// The largest file, in bytes.
    pub file_bytes: u64,
}

/// A message is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AcceptedFrame {
    /// The id of the `message`.
    pub id: FrameId,
    /// The client's id of the message.
    pub request_id: RequestId,
    /// The conversation.
    pub thread: ThreadId,
    /// The run.
    pub run: RunId,
}

/// A run, or without `run` the inbox, is followed: what comes after the position that was asked for follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Subscribed {
    /// The id of the `subscribe` or `inbox`.
    pub id: FrameId,
    /// The run; absent for the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The life of the log.
    pub epoch: Epoch,
    /// The last number at this moment; 0 for none.
    pub head: u64,
    /// The oldest number that is still there; `head + 1` when none is.
    pub oldest: u64,
    /// Whether the rest after the position is complete; where it is not, `reset` is the answer instead.
    pub recovered: bool,
    /// The run's state; absent for the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
}

/// Done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Answered {
    /// The id of the frame that this answers.
    pub id: FrameId,
}

/// Not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ErrorFrame {
    /// The id of the frame that this answers, where it could be read. For a `subscribe` or `message` that was
    /// answered before, the end of what followed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// What is wrong.
    #[serde(flatten)]
    pub error: ErrorReport,
}

/// An envelope as a client reads it: also one of a type that it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventFrame {
    /// The version, 1.
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// The run that started this one.
    pub parent: Option<RunId>,
    /// The life of the log.
    pub epoch: Epoch,
    /// The place in the log; volatile events have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its fields.
    pub data: Value,
}

impl EventFrame {
    /// The typed envelope; `None` for a type that this version does not know.
    #[must_use]
    pub fn envelope(&self) -> Option<Envelope> {
        serde_json::to_value(self).and_then(serde_json::from_value).ok()
    }

    /// Whether it closes its run.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.kind.as_str(), "run_completed" | "run_failed" | "run_cancelled")
    }
}

/// An entry of the user's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InboxFrame {
    /// The life of the inbox.
    pub epoch: Epoch,
    /// The place in the inbox, from 1 without holes.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// The state that it came to.
    pub state: RunState,
    /// When.
    pub at: Timestamp,
}

/// What follows a position cannot be given; the next number is `head + 1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ResetFrame {
    /// The id of the frame that this answers; absent when the subscription was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameId>,
    /// The run; absent for the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Why.
    pub reason: ResetReason,
    /// The life of the log from here on.
    pub epoch: Epoch,
    /// The last number that this covers.
    pub head: u64,
    /// Where the run stands; absent for the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// The credential runs out soon: a `hello` with a fresh one of the same user goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Expiring {
    /// When.
    pub at: Timestamp,
}

/// This node shuts down soon: resume elsewhere after `after_ms` and a random part of `jitter_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Draining {
    /// How long to wait at least.
    pub after_ms: u64,
    /// How much more at most.
    pub jitter_ms: u64,
}

/// The answer to a `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pong {
    /// The id of the `ping`.
    pub id: FrameId,
    /// Its number.
    pub n: u64,
}

/// An `event` frame around an envelope that is already encoded.
#[must_use]
pub fn event_frame(envelope: &Bytes) -> Bytes {
    const HEAD: &[u8] = br#"{"frame":"event","#;
    let fields = envelope.get(1..).unwrap_or_default();
    let mut frame = BytesMut::with_capacity(HEAD.len() + fields.len());
    frame.put_slice(HEAD);
    frame.put_slice(fields);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::SystemClock;
    use apex_core::event::{Event, Recorded};
    use apex_core::id::StepId;

    fn envelope() -> Envelope {
        Envelope {
            v: 1,
            run: RunId::new(&SystemClock),
            thread: ThreadId::new(&SystemClock),
            parent: None,
            epoch: Epoch::new(&SystemClock),
            seq: Some(3),
            at: Timestamp::from_millis(1_763_805_600_123),
            event: Event::AgentThinking {
                step: StepId(1),
                agent: "triage".into(),
                note: "\"quoted\"\nline".into(),
            },
        }
    }

    #[test]
    fn an_envelope_is_wrapped_without_being_encoded_again() {
        let envelope = envelope();
        let recorded = Recorded::encode(&envelope).unwrap();
        let frame: ServerFrame = serde_json::from_slice(&event_frame(&recorded.json)).unwrap();
        let ServerFrame::Event(event) = frame else { panic!("{frame:?}") };
        assert_eq!(event.envelope(), Some(envelope));
        assert!(!event.is_terminal());
    }

    #[test]
    fn an_event_of_a_later_version_keeps_its_place() {
        let mut json = serde_json::to_value(envelope()).unwrap();
        json["type"] = "agent_dreaming".into();
        let event: EventFrame = serde_json::from_value(json).unwrap();
        assert_eq!((event.seq, event.envelope()), (Some(3), None));
    }

    #[test]
    fn a_frame_of_a_later_version_is_no_error() {
        let frame: ServerFrame = serde_json::from_str(r#"{"frame":"weather","sun":true}"#).unwrap();
        assert_eq!(frame, ServerFrame::Unknown);
    }

    #[test]
    fn an_error_frame_is_flat() {
        let error = apex_core::error::Error::not_found("x", "run").report();
        let frame = ServerFrame::Error(ErrorFrame { id: Some(7.into()), error });
        let json: Value = serde_json::from_slice(&frame.encode()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "frame": "error", "id": 7, "code": "not_found", "message": "no such run", "retryable": false
            })
        );
        assert_eq!(serde_json::from_value::<ServerFrame>(json).unwrap(), frame);
    }
}
