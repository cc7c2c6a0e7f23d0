//! The frames of the wire protocol, section 3, and its codes, section 6: one JSON object a frame, `"frame"` its name,
//! unknown fields ignored; and the same envelopes as server-sent events. The JSON Schema of these types is the authority on their shape.

mod close;
mod decode;
mod event_stream;
mod frame_id;
mod from_client;
mod from_server;
pub mod schema;

pub use close::{Advice, CloseCode, CloseRow};
pub use decode::{Malformed, decode};
pub use event_stream::{HEARTBEAT, write_event, write_retry};
pub use frame_id::FrameId;
pub use from_client::{
    Attachment, Call, ClientFrame, Decide, Hello, NewMessage, OfRun, OfStep, Ping, Since, Subscribe,
};
pub use from_server::{
    AcceptedFrame, Answered, Draining, ErrorFrame, EventFrame, Expiring, InboxFrame, Limits, Pong,
    ResetFrame, ServerFrame, Subscribed, Welcome, event_frame,
};

/// The subprotocol that the server echoes.
pub const SUBPROTOCOL: &str = "apex.v1";
