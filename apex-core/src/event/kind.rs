use super::PlanStep;
use crate::clock::Timestamp;
use crate::error::ErrorReport;
use crate::id::{ApprovalId, ArtifactId, CallId, RequestId, StepId, UserId};
use crate::money::{Usage, Usd};
use crate::run::RunState;
use crate::trace::TraceParent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a step of an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentOutcome {
    /// With a result.
    Ok,
    /// With an error, a panic, a missed deadline or a result that does not fit.
    Error,
    /// The user cancelled.
    Cancelled,
    /// The plan went round it.
    Skipped,
    /// Its node was lost; another attempt follows.
    Interrupted,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// With a result.
    Ok,
    /// With an error.
    Error,
    /// It passed its deadline.
    Timeout,
    /// The user cancelled.
    Cancelled,
    /// Its node was lost; whether it took effect is not known.
    Interrupted,
}

/// A user's answer to an approval request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Do it.
    Approve,
    /// Do not.
    Deny,
}

/// Whether a completed run could answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// The question is answered.
    Answered,
    /// It needs data that is not there; the text says which.
    InsufficientData,
}

/// What a completed run gives the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunResult {
    /// Whether the question is answered.
    pub status: RunStatus,
    /// The answer, as Markdown.
    pub text: String,
    /// Documents that belong to it.
    pub artifacts: Vec<Payload>,
}

/// What a step used of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ModelUse {
    /// The provider.
    pub provider: String,
    /// The model, as it was asked for.
    pub model: String,
    /// How often it was asked.
    pub attempts: u32,
    /// How often its answer was the one.
    pub answers: u32,
    /// What that used and cost, answers that broke off included.
    pub usage: Usage,
}

/// A value kept outside the event because of its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Payload {
    /// Where to fetch it.
    pub artifact: ArtifactId,
    /// Its file name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
}

/// What one run may use, all of its agents together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunBudget {
    /// Tokens of models, sent and received; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// What models cost; absent for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<Usd>,
    /// Steps, over all attempts.
    pub steps: u32,
    /// Time at work, over all attempts, in seconds.
    pub seconds: u64,
}

/// What happened. `delta` and `progress` are volatile: shown if there is someone to see them, never recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// A run is on record.
    RunStarted {
        /// The client's id of the message.
        request_id: RequestId,
        /// Queued or running.
        state: RunState,
        /// The agents that the run may use.
        agents: Vec<String>,
        /// What it may use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<RunBudget>,
        /// The place in a trace from which it was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceParent>,
    },
    /// An agent begins a step.
    AgentStarted {
        /// The step.
        step: StepId,
        /// The agent's name.
        agent: String,
        /// What it is to do.
        purpose: String,
        /// The attempt of the run that it belongs to, from 1.
        attempt: u32,
        /// The agents whose results it is handed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        needs: Vec<String>,
    },
    /// A whole thought or progress note.
    AgentThinking {
        /// The step.
        step: StepId,
        /// The agent's name.
        agent: String,
        /// The thought.
        note: String,
    },
    /// A tool is called.
    ToolExecuting {
        /// The step.
        step: StepId,
        /// The agent's name.
        agent: String,
        /// The call.
        call: CallId,
        /// The tool's name.
        tool: String,
        /// Its arguments, secrets redacted.
        arguments: Value,
    },
    /// A tool call ended.
    ToolCompleted {
        /// The step.
        step: StepId,
        /// The agent's name.
        agent: String,
        /// The call.
        call: CallId,
        /// The tool's name.
        tool: String,
        /// How it ended.
        outcome: ToolOutcome,
        /// How long it took.
        elapsed_ms: u64,
        /// What came of it, in a sentence.
        summary: String,
    },
    /// An agent ended its step.
    AgentCompleted {
        /// The step.
        step: StepId,
        /// The agent's name.
        agent: String,
        /// How it ended.
        outcome: AgentOutcome,
        /// How long it took.
        elapsed_ms: u64,
        /// Its result, or the error.
        output: Value,
        /// What it used of models.
        usage: Usage,
        /// The models that it asked, in the order in which they were asked first.
        models: Vec<ModelUse>,
        /// The steps that it planned, each after those that it needs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        plan: Vec<PlanStep>,
    },
    /// The run goes on after its node was lost.
    RunResumed {
        /// The attempt, from 2.
        attempt: u32,
        /// The step that begins again.
        from_step: Option<StepId>,
    },
    /// The run waits for a user's decision.
    ApprovalRequested {
        /// The step.
        step: StepId,
        /// The decision.
        approval: ApprovalId,
        /// The call that it is about.
        call: CallId,
        /// The tool's name.
        tool: String,
        /// The exact arguments, secrets redacted.
        arguments: Value,
        /// The digest of the exact call, to be sent back with the decision.
        digest: String,
        /// When the request lapses.
        expires_at: Timestamp,
    },
    /// A decision was made.
    ApprovalDecided {
        /// Which.
        approval: ApprovalId,
        /// What was decided.
        decision: Decision,
        /// By whom; absent when it lapsed.
        by: Option<UserId>,
    },
    /// Most of a budget is spent.
    BudgetWarning {
        /// Whose budget: `run` or `user`.
        scope: String,
        /// How much is used.
        used: Value,
        /// How much there is.
        limit: Value,
    },
    /// What deltas of a step showed no longer holds.
    AnswerRetracted {
        /// The step.
        step: StepId,
        /// Why.
        reason: String,
    },
    /// The run ended with a result. Terminal.
    RunCompleted {
        /// How long it took, waiting included.
        elapsed_ms: u64,
        /// What it used of models.
        usage: Usage,
        /// What could not be done in full, and why.
        degraded: Vec<String>,
        /// The result.
        result: RunResult,
    },
    /// The run ended with an error. Terminal.
    RunFailed {
        /// How long it took, waiting included.
        elapsed_ms: u64,
        /// What it used of models.
        usage: Usage,
        /// What went wrong.
        error: ErrorReport,
    },
    /// The run was cancelled. Terminal.
    RunCancelled {
        /// How long it took, waiting included.
        elapsed_ms: u64,
        /// What it used of models.
        usage: Usage,
        /// Who cancelled.
        by: UserId,
    },
    /// Volatile: a piece of streamed text.
    Delta {
        /// The step.
        step: StepId,
        /// Where the piece begins in the step's text, in bytes.
        offset: u64,
        /// The piece.
        text: String,
    },
    /// Volatile: how far a long piece of work is.
    Progress {
        /// The step.
        step: StepId,
        /// How much is done.
        done: u64,
        /// How much there is, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// What is counted, such as `bytes` or `rows`.
        unit: String,
    },
}

impl Event {
    /// The name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::AgentStarted { .. } => "agent_started",
            Self::AgentThinking { .. } => "agent_thinking",
            Self::ToolExecuting { .. } => "tool_executing",
            Self::ToolCompleted { .. } => "tool_completed",
            Self::AgentCompleted { .. } => "agent_completed",
            Self::RunResumed { .. } => "run_resumed",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalDecided { .. } => "approval_decided",
            Self::BudgetWarning { .. } => "budget_warning",
            Self::AnswerRetracted { .. } => "answer_retracted",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunFailed { .. } => "run_failed",
            Self::RunCancelled { .. } => "run_cancelled",
            Self::Delta { .. } => "delta",
            Self::Progress { .. } => "progress",
        }
    }

    /// Whether it closes its run.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.terminal_state().is_some()
    }

    /// The state in which it leaves its run, if it closes it.
    #[must_use]
    pub const fn terminal_state(&self) -> Option<RunState> {
        match self {
            Self::RunCompleted { .. } => Some(RunState::Completed),
            Self::RunFailed { .. } => Some(RunState::Failed),
            Self::RunCancelled { .. } => Some(RunState::Cancelled),
            _ => None,
        }
    }

    /// Whether it is shown without being recorded.
    #[must_use]
    pub const fn is_volatile(&self) -> bool {
        matches!(self, Self::Delta { .. } | Self::Progress { .. })
    }
}
