use super::state::RunState;
use crate::clock::Timestamp;
use crate::event::{AgentOutcome, Event, RunResult};
use crate::id::{ApprovalId, CallId, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most steps and open calls that a snapshot keeps; older ones go first.
const MOST: usize = 256;

/// The most calls that wait for a decision; they are kept with their arguments.
const MOST_APPROVALS: usize = 16;

/// Where a run stands: what is left of its events when their detail is trimmed, and what a `reset` brings a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Snapshot {
    /// The run's state.
    pub state: RunState,
    /// Its steps, oldest first.
    pub steps: Vec<StepView>,
    /// Tool calls that have begun and not ended.
    pub open_calls: Vec<OpenCall>,
    /// The calls that wait for a decision, oldest first.
    #[serde(default)]
    pub approvals: Vec<OpenApproval>,
    /// The result, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// A step in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepView {
    /// The step.
    pub step: StepId,
    /// The agent's name.
    pub agent: String,
    /// How it ended; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AgentOutcome>,
}

/// An open tool call in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OpenCall {
    /// The step.
    pub step: StepId,
    /// The call.
    pub call: CallId,
    /// The tool's name.
    pub tool: String,
}

/// A call in a snapshot that waits for a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OpenApproval {
    /// The step.
    pub step: StepId,
    /// The decision.
    pub approval: ApprovalId,
    /// The call that it is about.
    pub call: CallId,
    /// The tool's name.
    pub tool: String,
    /// The exact arguments, secrets redacted.
    pub arguments: Value,
    /// The digest of the exact call, to be sent back with the decision.
    pub digest: String,
    /// When the request lapses.
    pub expires_at: Timestamp,
}

impl Snapshot {
    /// Before the first event.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: RunState::Queued,
            steps: Vec::new(),
            open_calls: Vec::new(),
            approvals: Vec::new(),
            result: None,
        }
    }

    /// Goes on by one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted { state, .. } => self.state = *state,
            Event::AgentStarted { step, agent, .. } => {
                self.state = RunState::Running;
                keep_most(&mut self.steps, MOST);
                self.steps.push(StepView { step: *step, agent: agent.clone(), outcome: None });
            }
            Event::AgentCompleted { step, outcome, .. } => {
                if let Some(view) = self.steps.iter_mut().rfind(|view| view.step == *step) {
                    view.outcome = Some(*outcome);
                }
            }
            Event::ToolExecuting { step, call, tool, .. } => {
                keep_most(&mut self.open_calls, MOST);
                self.open_calls.push(OpenCall { step: *step, call: *call, tool: tool.clone() });
            }
            Event::ToolCompleted { call, .. } => self.open_calls.retain(|open| open.call != *call),
            Event::ApprovalRequested {
                step,
                approval,
                call,
                tool,
                arguments,
                digest,
                expires_at,
            } => {
                self.state = RunState::Waiting;
                keep_most(&mut self.approvals, MOST_APPROVALS);
                self.approvals.push(OpenApproval {
                    step: *step,
                    approval: *approval,
                    call: *call,
                    tool: tool.clone(),
                    arguments: arguments.clone(),
                    digest: digest.clone(),
                    expires_at: *expires_at,
                });
            }
            Event::ApprovalDecided { approval, .. } => {
                self.state = RunState::Running;
                self.approvals.retain(|open| open.approval != *approval);
            }
            Event::RunResumed { .. } => self.state = RunState::Running,
            Event::RunCompleted { result, .. } => {
                self.result = Some(result.clone());
            }
            Event::RunFailed { .. }
            | Event::RunCancelled { .. }
            | Event::AgentThinking { .. }
            | Event::BudgetWarning { .. }
            | Event::AnswerRetracted { .. }
            | Event::Delta { .. }
            | Event::Progress { .. } => {}
        }
        if let Some(state) = event.terminal_state() {
            self.state = state;
            self.approvals.clear();
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

fn keep_most<T>(list: &mut Vec<T>, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ToolOutcome;

    #[test]
    fn a_snapshot_follows_steps_and_calls() {
        let (step, call) = (StepId(1), CallId(1));
        let mut snapshot = Snapshot::new();
        snapshot.apply(&Event::AgentStarted {
            step,
            agent: "a".into(),
            purpose: String::new(),
            attempt: 1,
            needs: Vec::new(),
        });
        let tool = "t".to_owned();
        snapshot.apply(&Event::ToolExecuting {
            step,
            agent: "a".into(),
            call,
            tool,
            arguments: Value::Null,
        });
        assert_eq!(snapshot.state, RunState::Running);
        assert_eq!(snapshot.open_calls.len(), 1);
        snapshot.apply(&Event::ToolCompleted {
            step,
            agent: "a".into(),
            call,
            tool: "t".into(),
            outcome: ToolOutcome::Ok,
            elapsed_ms: 1,
            summary: String::new(),
        });
        assert!(snapshot.open_calls.is_empty());
        assert_eq!(snapshot.steps[0].outcome, None);
    }

    #[test]
    fn a_snapshot_names_what_waits_for_a_decision() {
        let mut snapshot = Snapshot::new();
        let [first, second] = [b"1", b"2"].map(|id| ApprovalId::derived(&[id]));
        for approval in [first, second] {
            snapshot.apply(&Event::ApprovalRequested {
                step: StepId(1),
                approval,
                call: CallId(1),
                tool: "pay".into(),
                arguments: serde_json::json!({"usd": 5}),
                digest: "d".into(),
                expires_at: Timestamp::from_millis(9),
            });
        }
        let decided = |approval| Event::ApprovalDecided {
            approval,
            decision: crate::event::Decision::Deny,
            by: None,
        };
        snapshot.apply(&decided(first));
        let open: Vec<ApprovalId> = snapshot.approvals.iter().map(|open| open.approval).collect();
        assert_eq!(open, [second]);
        assert_eq!(snapshot.approvals[0].arguments, serde_json::json!({"usd": 5}));
        let kept: Snapshot =
            serde_json::from_str(r#"{"state":"running","steps":[],"open_calls":[]}"#).unwrap();
        assert!(kept.approvals.is_empty(), "one that was kept before there were any");
    }

    #[test]
    fn a_snapshot_is_bounded() {
        let mut snapshot = Snapshot::new();
        for n in 0..2_000 {
            let agent = "a".to_owned();
            snapshot.apply(&Event::AgentStarted {
                step: StepId(n),
                agent,
                purpose: String::new(),
                attempt: 1,
                needs: Vec::new(),
            });
        }
        assert_eq!(snapshot.steps.len(), MOST);
        assert_eq!(snapshot.steps.last().unwrap().step, StepId(1_999));
    }
}
