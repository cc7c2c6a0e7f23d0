use crate::error::Result;
use crate::event::Decision;
use crate::id::{ApprovalId, FileId, RequestId, RunId, StepId, ThreadId};
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a user asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The client's id; unique for the user. The same message under it again is the same run.
    pub request_id: RequestId,
    /// The conversation that it continues; `None` begins one.
    pub thread: Option<ThreadId>,
    /// The words.
    pub text: String,
    /// Files of the user's that belong to it.
    pub attachments: Vec<FileId>,
}

/// A message that is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Accepted {
    /// The client's id.
    pub request_id: RequestId,
    /// The conversation.
    pub thread: ThreadId,
    /// The run.
    pub run: RunId,
}

/// Starts and steers runs: what the transport and hosts call, and the agent engine implements.
#[async_trait]
pub trait Runner: fmt::Debug + Send + Sync {
    /// Puts a message on record and starts its run, or queues it. The same message again gives the same answer.
    ///
    /// # Errors
    /// `conflict` for other content under the same id; `not_found` for a thread or file that is not the user's;
    /// `too_many_runs`; `too_large`; `draining`.
    async fn start(&self, principal: &Principal, message: Message) -> Result<Accepted>;

    /// Tells a run to stop; the answer means that this is recorded. A run that has ended stays as it is.
    ///
    /// # Errors
    /// `not_found`.
    async fn cancel(&self, principal: &Principal, run: RunId) -> Result<()>;

    /// Tells one step to stop; the run goes on with what it has.
    ///
    /// # Errors
    /// `not_found`.
    async fn stop(&self, principal: &Principal, run: RunId, step: StepId) -> Result<()>;

    /// Decides what a run waits for.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it is decided already, lapsed, or the digest is another.
    async fn decide(
        &self,
        principal: &Principal,
        run: RunId,
        approval: ApprovalId,
        digest: &str,
        decision: Decision,
    ) -> Result<()>;
}
