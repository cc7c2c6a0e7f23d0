use super::FrameId;
use apex_core::auth::Credential;
use apex_core::config::Secret;
use apex_core::event::Decision;
use apex_core::id::{ApprovalId, Epoch, FileId, RequestId, RunId, StepId, ThreadId};
use apex_core::run::{Message, Position};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

/// A frame that a client sends.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct ClientFrame {
    /// The client's id of the frame; the answer repeats it.
    pub id: FrameId,
    /// What the client wants.
    #[serde(flatten)]
    pub call: Call,
}

/// What a client wants.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Call {
    /// Be let in, or stay in: answered by `welcome`.
    Hello(Hello),
    /// Start a run: answered by `accepted`; the sender is subscribed from 0.
    Message(NewMessage),
    /// Follow a run: answered by `subscribed` or `reset`.
    Subscribe(Subscribe),
    /// Follow the user's inbox: answered by `subscribed` or `reset`.
    Inbox(Since),
    /// Stop following a run: answered by `ok`.
    Unsubscribe(OfRun),
    /// Cancel a run: `ok` when recorded.
    Cancel(OfRun),
    /// Stop one step: `ok` when recorded.
    Stop(OfStep),
    /// Decide an approval: `ok`, or `conflict` when it was decided before.
    Decide(Decide),
    /// See whether the server is there: answered by `pong`.
    Ping(Ping),
}

impl Call {
    /// The names of all calls.
    pub(super) const NAMES: [&'static str; 9] = [
        "hello",
        "message",
        "subscribe",
        "inbox",
        "unsubscribe",
        "cancel",
        "stop",
        "decide",
        "ping",
    ];
}

/// A credential by first message: exactly one of `token` and `ticket`.
#[derive(Debug, Clone)]
pub struct Hello(pub Credential);

/// The fields of a `hello`, of which exactly one is there.
#[derive(Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Hello", extend("oneOf" = [{"required": ["token"]}, {"required": ["ticket"]}]))]
pub(super) struct HelloFields {
    token: Option<String>,
    ticket: Option<String>,
}

impl HelloFields {
    pub(super) fn into_hello(self) -> Option<Hello> {
        let (token, ticket) = (self.token.map(Secret::new), self.ticket.map(Secret::new));
        match (token, ticket) {
            (Some(token), None) => Some(Hello(Credential::Token(token))),
            (None, Some(ticket)) => Some(Hello(Credential::Ticket(ticket))),
            _ => None,
        }
    }
}

impl Serialize for Hello {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, secret) = match &self.0 {
            Credential::Token(token) => ("token", token),
            Credential::Ticket(ticket) => ("ticket", ticket),
        };
        let mut fields = serializer.serialize_struct("Hello", 1)?;
        fields.serialize_field(name, secret.reveal())?;
        fields.end()
    }
}

impl schemars::JsonSchema for Hello {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hello".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        HelloFields::json_schema(generator)
    }
}

/// A message of the user's, by frame or by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NewMessage {
    /// The client's id of the message; the same message again under it is the same run.
    pub request_id: RequestId,
    /// The conversation; absent begins one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// The words.
    pub text: String,
    /// Files of the user's that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl NewMessage {
    /// The message as a runner takes it.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message {
            request_id: self.request_id,
            thread: self.thread,
            text: self.text,
            attachments: self.attachments.iter().map(|a| a.file).collect(),
        }
    }
}

/// A file that belongs to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Attachment {
    /// The file.
    pub file: FileId,
}

/// From where to follow a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Subscribe {
    /// The run.
    pub run: RunId,
    /// The life of the log in which `after` was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The last number that the client has applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl Subscribe {
    /// Follow `run` from `since`.
    #[must_use]
    pub fn new(run: RunId, since: Since) -> Self {
        Self { run, epoch: since.epoch, after: since.after }
    }

    /// From where.
    #[must_use]
    pub fn since(self) -> Since {
        Since { epoch: self.epoch, after: self.after }
    }
}

/// The last event that a client has applied; empty for one that has seen nothing.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Since {
    /// The life of the log in which `after` was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The last number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl Since {
    /// The position; `None` for a number without the epoch that gives it a meaning.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        let after = self.after.unwrap_or(0);
        if self.epoch.is_none() && after > 0 {
            return None;
        }
        Some(Position { epoch: self.epoch, after })
    }
}

impl From<Position> for Since {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, after: position.epoch.map(|_| position.after) }
    }
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OfRun {
    /// The run.
    pub run: RunId,
}

/// A step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OfStep {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepId,
}

/// A decision about an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Decide {
    /// The run.
    pub run: RunId,
    /// The approval.
    pub approval: ApprovalId,
    /// The digest of the call that the user saw.
    pub digest: String,
    /// What is decided.
    pub decision: Decision,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Ping {
    /// Any number; the answer repeats it.
    pub n: u64,
}
