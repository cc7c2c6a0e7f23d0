use crate::clock::Timestamp;
use crate::event::{AgentOutcome, Decision, ModelUse, ToolOutcome};
use crate::id::{ApprovalId, CallId, StepId};
use crate::money::Usage;
use serde::{Deserialize, Serialize};

/// A step of a run: what was planned, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphStep {
    /// The agent; a plan has each at most once.
    pub agent: String,
    /// What it is to do.
    pub purpose: String,
    /// The agents whose results it is handed.
    pub needs: Vec<String>,
    /// Whether the run goes on without it when it fails.
    pub optional: bool,
    /// The agent that planned it; absent for the one that the run began with.
    pub planned_by: Option<String>,
    /// How far it is.
    pub state: StepState,
    /// The step's ids, one for each time that it was begun: after its node was lost it begins anew.
    pub tries: Vec<StepId>,
    /// When it was begun the last time.
    pub began_at: Option<Timestamp>,
    /// How long its last try took; absent while it has not ended.
    pub elapsed_ms: Option<u64>,
    /// What it used of models, over all tries that have ended.
    pub usage: Usage,
    /// That by model.
    pub models: Vec<ModelUse>,
    /// Its calls of tools, over all tries, in the order in which they were asked for.
    pub calls: Vec<GraphCall>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has not begun; in a run that has ended it never will.
    Planned,
    /// It is at work.
    Running,
    /// One of its calls waits for a person's decision.
    Waiting,
    /// It ended with a result.
    Ok,
    /// It ended with an error.
    Error,
    /// It was cancelled.
    Cancelled,
    /// The run ended before it did.
    Skipped,
    /// Its node was lost, and it has not begun again.
    Interrupted,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphCall {
    /// The try of its step that asked for it.
    pub step: StepId,
    /// The call.
    pub call: CallId,
    /// The tool.
    pub tool: String,
    /// How it ended; absent while it has not, and where it was never made.
    pub outcome: Option<ToolOutcome>,
    /// When it was made; absent while it was not.
    pub began_at: Option<Timestamp>,
    /// How long it took; absent while it has not ended.
    pub elapsed_ms: Option<u64>,
    /// The decision that it needed, if it needed one.
    pub approval: Option<GraphApproval>,
}

/// A decision that a call needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GraphApproval {
    /// Which.
    pub approval: ApprovalId,
    /// What was decided; absent while nothing is.
    pub decision: Option<Decision>,
    /// Whether nobody decided in time.
    pub lapsed: bool,
}

impl StepState {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Option<AgentOutcome>> for StepState {
    /// Of a step that has begun: how it ended, if it did.
    fn from(outcome: Option<AgentOutcome>) -> Self {
        match outcome {
            None => Self::Running,
            Some(AgentOutcome::Ok) => Self::Ok,
            Some(AgentOutcome::Error) => Self::Error,
            Some(AgentOutcome::Cancelled) => Self::Cancelled,
            Some(AgentOutcome::Skipped) => Self::Skipped,
            Some(AgentOutcome::Interrupted) => Self::Interrupted,
        }
    }
}

impl GraphStep {
    /// A step of which nothing is known but who does it.
    pub(super) fn new(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            purpose: String::new(),
            needs: Vec::new(),
            optional: false,
            planned_by: None,
            state: StepState::Planned,
            tries: Vec::new(),
            began_at: None,
            elapsed_ms: None,
            usage: Usage::NONE,
            models: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// Whether one of its calls waits for a decision.
    pub(super) fn asks(&self) -> bool {
        self.calls.iter().any(|call| {
            call.outcome.is_none()
                && call.approval.as_ref().is_some_and(|asked| asked.decision.is_none())
        })
    }

    /// Counts what a try used.
    pub(super) fn spend(&mut self, usage: Usage, models: &[ModelUse]) {
        self.usage = self.usage.plus(usage);
        for new in models {
            let known = self
                .models
                .iter_mut()
                .find(|known| known.provider == new.provider && known.model == new.model);
            match known {
                Some(known) => {
                    known.attempts += new.attempts;
                    known.answers += new.answers;
                    known.usage = known.usage.plus(new.usage);
                }
                None => self.models.push(new.clone()),
            }
        }
    }
}
