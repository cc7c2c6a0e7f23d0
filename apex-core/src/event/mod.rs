//! What happens in a run, as everybody sees it: typed [`Event`]s, and the [`Envelope`] that names one for ever by
//! `(run, epoch, seq)`. The shapes are those of the wire protocol, section 2.

mod envelope;
mod kind;
mod plan;

pub use envelope::{Envelope, MAX_ENVELOPE, PROTOCOL_VERSION, Recorded};
pub use kind::{
    AgentOutcome, Decision, Event, ModelUse, Payload, RunBudget, RunResult, RunStatus, ToolOutcome,
};
pub use plan::PlanStep;
