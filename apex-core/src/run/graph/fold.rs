//! From events to a graph.

use super::step::{GraphApproval, GraphCall, GraphStep, StepState};
use super::{GRAPH_VERSION, RunGraph};
use crate::clock::Timestamp;
use crate::event::{Envelope, Event, PlanStep};
use crate::id::{CallId, StepId};
use crate::money::Usage;
use crate::run::log::RunView;
use std::collections::BTreeSet;

/// The most steps that a graph has; further ones are left out. Plans of Apex's own have at most 32.
const MOST_STEPS: usize = 256;

impl RunGraph {
    /// What a view says of a run, before its events.
    pub(super) fn begin(view: &RunView) -> Self {
        Self {
            v: GRAPH_VERSION,
            run: view.run,
            thread: view.thread,
            state: view.state,
            attempt: view.attempt,
            started_at: view.started_at,
            elapsed_ms: None,
            usage: Usage::NONE,
            budget: None,
            trimmed: view.oldest > 1,
            steps: Vec::new(),
        }
    }

    /// Goes on by one event.
    pub(super) fn apply(&mut self, envelope: &Envelope) {
        let at = envelope.at;
        match &envelope.event {
            Event::RunStarted { budget, .. } => self.budget = *budget,
            Event::AgentStarted { step, agent, purpose, attempt, needs } => {
                self.attempt = self.attempt.max(*attempt);
                if let Some(known) = self.named(agent) {
                    known.purpose.clone_from(purpose);
                    known.needs.clone_from(needs);
                    known.tries.push(*step);
                    (known.state, known.began_at, known.elapsed_ms) =
                        (StepState::Running, Some(at), None);
                }
            }
            Event::AgentCompleted {
                step, agent, outcome, elapsed_ms, usage, models, plan, ..
            } => {
                if let Some(known) = self.tried(*step, agent) {
                    known.state = Some(*outcome).into();
                    known.elapsed_ms = Some(*elapsed_ms);
                    known.spend(*usage, models);
                }
                self.usage = self.usage.plus(*usage);
                self.plan(agent, plan);
            }
            Event::ToolExecuting { step, agent, call, tool, .. } => {
                if let Some(known) = self.tried(*step, agent) {
                    asked(known, *step, *call, tool).began_at = Some(at);
                }
            }
            Event::ToolCompleted { step, agent, call, tool, outcome, elapsed_ms, .. } => {
                if let Some(known) = self.tried(*step, agent) {
                    let call = asked(known, *step, *call, tool);
                    (call.outcome, call.elapsed_ms) = (Some(*outcome), Some(*elapsed_ms));
                }
            }
            Event::ApprovalRequested { step, approval, call, tool, .. } => {
                if let Some(known) = self.of_try(*step) {
                    let approval = *approval;
                    asked(known, *step, *call, tool).approval =
                        Some(GraphApproval { approval, decision: None, lapsed: false });
                }
            }
            Event::ApprovalDecided { approval, decision, by } => {
                let calls = self.steps.iter_mut().flat_map(|step| &mut step.calls);
                let mut approvals = calls.filter_map(|call| call.approval.as_mut());
                if let Some(known) = approvals.find(|known| known.approval == *approval) {
                    (known.decision, known.lapsed) = (Some(*decision), by.is_none());
                }
            }
            Event::RunCompleted { elapsed_ms, usage, .. }
            | Event::RunFailed { elapsed_ms, usage, .. }
            | Event::RunCancelled { elapsed_ms, usage, .. } => {
                (self.elapsed_ms, self.usage) = (Some(*elapsed_ms), *usage);
            }
            Event::RunResumed { attempt, .. } => self.attempt = self.attempt.max(*attempt),
            Event::AgentThinking { .. }
            | Event::BudgetWarning { .. }
            | Event::AnswerRetracted { .. }
            | Event::Delta { .. }
            | Event::Progress { .. } => {}
        }
    }

    /// Adds what only the view knows, and says which steps wait.
    pub(super) fn finish(&mut self, view: &RunView) {
        let kept: BTreeSet<String> = self.steps.iter().map(|step| step.agent.clone()).collect();
        let mut lost: Vec<GraphStep> = Vec::new();
        for told in view.snapshot.steps.iter().filter(|told| !kept.contains(&told.agent)) {
            let known = lost.iter().position(|step| step.agent == told.agent);
            let mut step =
                known.map_or_else(|| GraphStep::new(&told.agent), |place| lost.remove(place));
            step.tries.push(told.step);
            step.state = told.outcome.into();
            lost.push(step);
        }
        // What is lost came before what is kept.
        lost.append(&mut self.steps);
        lost.truncate(MOST_STEPS);
        self.steps = lost;
        let asks = |step: &GraphStep| {
            let open = &view.snapshot.approvals;
            step.asks() || open.iter().any(|open| step.tries.contains(&open.step))
        };
        for step in &mut self.steps {
            if step.state == StepState::Running && asks(step) {
                step.state = StepState::Waiting;
            }
        }
        if view.state.is_terminal() && self.elapsed_ms.is_none() {
            self.elapsed_ms = view.ended_at.map(|ended| millis(ended, view.started_at));
        }
    }

    /// Enters what an agent planned.
    fn plan(&mut self, by: &str, plan: &[PlanStep]) {
        for planned in plan {
            if let Some(step) = self.named(&planned.agent) {
                step.purpose.clone_from(&planned.purpose);
                step.needs.clone_from(&planned.needs);
                step.optional = planned.optional;
                step.planned_by = Some(by.to_owned());
            }
        }
    }

    /// The step of this agent, which it is given where it has none; `None` when there are too many.
    fn named(&mut self, agent: &str) -> Option<&mut GraphStep> {
        let known = self.steps.iter().position(|step| step.agent == agent);
        let place = known.unwrap_or(self.steps.len());
        if place >= MOST_STEPS {
            return None;
        }
        if known.is_none() {
            self.steps.push(GraphStep::new(agent));
        }
        self.steps.get_mut(place)
    }

    /// The step that this was a try of, also where its beginning is no longer kept.
    fn tried(&mut self, step: StepId, agent: &str) -> Option<&mut GraphStep> {
        let known = self.named(agent)?;
        if !known.tries.contains(&step) {
            known.tries.push(step);
            known.state = StepState::Running;
        }
        Some(known)
    }

    fn of_try(&mut self, step: StepId) -> Option<&mut GraphStep> {
        self.steps.iter_mut().find(|known| known.tries.contains(&step))
    }
}

/// The call of this step, which is entered where it is new.
fn asked<'a>(
    known: &'a mut GraphStep,
    step: StepId,
    call: CallId,
    tool: &str,
) -> &'a mut GraphCall {
    let place = known.calls.iter().position(|asked| asked.call == call);
    let place = place.unwrap_or_else(|| {
        known.calls.push(GraphCall {
            step,
            call,
            tool: tool.to_owned(),
            outcome: None,
            began_at: None,
            elapsed_ms: None,
            approval: None,
        });
        known.calls.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "it was found there, or put there")]
    &mut known.calls[place]
}

fn millis(to: Timestamp, from: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}
