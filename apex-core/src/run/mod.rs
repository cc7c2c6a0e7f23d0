//! Runs: their states, the [`Runner`] that starts them, the [`RunLog`] that records them, and the
//! [`Subscription`]s that read what was recorded.
//!
//! The log is the truth. A writer holds a [`Lease`] with a fencing number; every append checks it. A reader reads
//! pages after its cursor; a [`Wakeup`] only tells it that there may be more.

mod bell;
pub(crate) mod checkpoint;
mod emitter;
mod graph;
mod inbox;
pub(crate) mod ledger;
mod live;
mod log;
pub(crate) mod place;
pub(crate) mod record;
mod runner;
mod snapshot;
mod state;
mod subscription;
mod tail;
mod wakeup;

pub use checkpoint::Checkpoint;
pub use emitter::Emitter;
pub use graph::{GRAPH_VERSION, GraphApproval, GraphCall, GraphStep, RunGraph, StepState};
pub use inbox::{InboxDelivery, InboxSubscription};
pub use live::Live;
pub use log::{
    Append, Appended, By, Claim, Claimed, InboxEntry, InboxPage, Lease, NewRun, Page, RunLimits,
    RunLog, RunView, Signal, Signals, Started,
};
pub use runner::{Accepted, Message, Runner};
pub use snapshot::{OpenApproval, OpenCall, Snapshot, StepView};
pub use state::RunState;
pub use subscription::{Delivery, Position, ResetReason, Subscription};
pub use wakeup::{LocalWakeup, Topic, Wakeup, Woken};
