//! From what Apex records to what AG-UI knows.

use crate::protocol::ResetFrame;
use apex_core::clock::Timestamp;
use apex_core::event::{AgentOutcome, Envelope, Event, RunResult};
use apex_core::id::{ApprovalId, Epoch, RunId, StepId};
use apex_core::money::Usage;
use apex_core::run::RunState;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of AG-UI that is spoken.
const PROTOCOL_VERSION: &str = "1.0";

/// What a run waits for, as an id that says everything a decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupt {
    pub(crate) run: RunId,
    pub(crate) epoch: Epoch,
    /// The place of the request in the run's log.
    pub(crate) seq: u64,
    pub(crate) approval: ApprovalId,
    pub(crate) digest: String,
}

impl Interrupt {
    pub(super) fn parse(id: &str) -> Option<Self> {
        let mut parts = id.splitn(5, '.');
        Some(Self {
            run: parts.next()?.parse().ok()?,
            epoch: parts.next()?.parse().ok()?,
            seq: parts.next()?.parse().ok()?,
            approval: parts.next()?.parse().ok()?,
            digest: parts.next()?.to_owned(),
        })
    }

    fn id(&self) -> String {
        let Self { run, epoch, seq, approval, digest } = self;
        format!("{run}.{epoch}.{seq}.{approval}.{digest}")
    }
}

/// Translates one run from its beginning, so that it knows what is open.
#[derive(Debug)]
pub(super) struct Translation {
    /// The front end's own names.
    thread: String,
    run: String,
    /// Up to where an earlier AG-UI run told this one: its interrupt.
    answered: u64,
    open: BTreeMap<StepId, String>,
    ended: bool,
}

impl Translation {
    pub(super) fn new(thread: String, run: String, answered: u64) -> Self {
        Self { thread, run, answered, open: BTreeMap::new(), ended: false }
    }

    /// Whether nothing may follow.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// One envelope as AG-UI's events; none for what an earlier AG-UI run told.
    pub(super) fn translate(&mut self, envelope: Envelope) -> Vec<Value> {
        let seq = envelope.seq.unwrap_or(u64::MAX);
        let told = Told { run: envelope.run, epoch: envelope.epoch, seq, at: envelope.at };
        if seq > self.answered {
            return self.tell(&told, envelope.event);
        }
        match envelope.event {
            Event::AgentStarted { step, agent, .. } => drop(self.open.insert(step, agent)),
            Event::AgentCompleted { step, .. } => drop(self.open.remove(&step)),
            _ => {}
        }
        if seq < self.answered {
            return Vec::new();
        }
        let mut events = vec![self.run_started()];
        for (step, agent) in &self.open {
            events.extend(begins(&told, *step, agent, None));
        }
        told.at(events)
    }

    /// What stands in the place of events that are no longer kept.
    pub(super) fn reset(&mut self, reset: &ResetFrame, at: Timestamp, begin: bool) -> Vec<Value> {
        let mut events = Vec::new();
        if begin {
            events.push(self.run_started());
        }
        let ResetFrame { run, reason, epoch, head, snapshot, .. } = reset;
        let value = json!({"reason": reason, "epoch": epoch, "head": head, "snapshot": snapshot});
        events.push(custom("reset", value));
        let (Some(run), Some(snapshot)) = (run, snapshot) else {
            return events;
        };
        let told = Told { run: *run, epoch: *epoch, seq: *head, at };
        match snapshot.state {
            RunState::Completed => {
                events.extend(snapshot.result.iter().flat_map(|result| answer(&told, result)));
                events.push(self.finished(json!({"type": "success"})));
            }
            RunState::Cancelled => events.push(self.finished(json!({"type": "cancelled"}))),
            RunState::Failed => {
                self.ended = true;
                events.push(json!({"type": "RUN_ERROR", "message": "the run failed"}));
            }
            _ => {
                self.open.clear();
                for step in snapshot.steps.iter().filter(|step| step.outcome.is_none()) {
                    self.open.insert(step.step, step.agent.clone());
                    events.extend(begins(&told, step.step, &step.agent, None));
                }
            }
        }
        told.at(events)
    }

    fn tell(&mut self, told: &Told, event: Event) -> Vec<Value> {
        let name = event.name();
        let events = match event {
            Event::RunStarted { .. } => vec![self.run_started()],
            Event::AgentStarted { step, agent, purpose, .. } => {
                let events = begins(told, step, &agent, Some(&purpose)).into();
                self.open.insert(step, agent);
                events
            }
            Event::AgentThinking { step, note, .. } => thought(told, step, &note),
            Event::ToolExecuting { step, call, tool, arguments, .. } => {
                let (call, by) = (format!("{}:{call}", told.run), told.subagent(step));
                vec![
                    json!({"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": tool, "subagentRunId": by}),
                    json!({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": arguments.to_string(), "subagentRunId": by}),
                    json!({"type": "TOOL_CALL_END", "toolCallId": call, "subagentRunId": by}),
                ]
            }
            Event::ToolCompleted { step, call, outcome, elapsed_ms, summary, .. } => vec![json!({
                "type": "TOOL_CALL_RESULT", "messageId": told.message(), "toolCallId": format!("{}:{call}", told.run),
                "content": summary, "role": "tool", "subagentRunId": told.subagent(step),
                "metadata": {"outcome": outcome, "elapsed_ms": elapsed_ms},
            })],
            Event::AgentCompleted { step, agent, outcome, output, .. } => {
                self.open.remove(&step);
                ends(told, step, &agent, outcome, &output)
            }
            Event::ApprovalRequested { approval, tool, arguments, digest, expires_at, .. } => {
                let interrupt =
                    Interrupt { run: told.run, epoch: told.epoch, seq: told.seq, approval, digest };
                self.suspend(told, &interrupt, &tool, &arguments, expires_at)
            }
            Event::RunCompleted { elapsed_ms, usage, degraded, result } => {
                let mut events = answer(told, &result);
                let metadata = json!({
                    "elapsed_ms": elapsed_ms, "cost_usd": usage.cost_usd, "degraded": degraded,
                });
                let finished = self.finished(json!({"type": "success"}));
                let finished = with(finished, "result", json!(result));
                let finished = with(finished, "usage", tokens(&usage));
                events.push(with(finished, "metadata", metadata));
                events
            }
            Event::RunFailed { usage, error, .. } => {
                self.ended = true;
                let usage = tokens(&usage);
                vec![json!({
                    "type": "RUN_ERROR", "message": error.message, "code": error.code, "usage": usage,
                    "metadata": {"correlation": error.correlation},
                })]
            }
            Event::RunCancelled { usage, .. } => {
                let finished = self.finished(json!({"type": "cancelled"}));
                vec![with(finished, "usage", tokens(&usage))]
            }
            Event::Progress { step, done, total, unit } => vec![json!({
                "type": "ACTIVITY_SNAPSHOT", "messageId": format!("{}:progress", told.subagent(step)),
                "activityType": "progress", "content": {"done": done, "total": total, "unit": unit}, "replace": true,
                "subagentRunId": told.subagent(step),
            })],
            other => {
                vec![custom(name, data_of(&other))]
            }
        };
        told.at(events)
    }

    fn run_started(&self) -> Value {
        json!({
            "type": "RUN_STARTED", "threadId": self.thread, "runId": self.run, "protocolVersion": PROTOCOL_VERSION,
        })
    }

    fn finished(&mut self, outcome: Value) -> Value {
        self.ended = true;
        json!({"type": "RUN_FINISHED", "threadId": self.thread, "runId": self.run, "outcome": outcome})
    }

    /// Ends the AG-UI run while ours waits: nothing may be open when it does.
    fn suspend(
        &mut self,
        told: &Told,
        interrupt: &Interrupt,
        tool: &str,
        arguments: &Value,
        expires_at: Timestamp,
    ) -> Vec<Value> {
        let id = interrupt.id();
        let mut events = Vec::new();
        for (step, agent) in &self.open {
            let by = told.subagent(*step);
            events.push(json!({"type": "STEP_FINISHED", "stepName": step_name(*step, agent), "subagentRunId": by}));
            events.push(json!({
                "type": "SUBAGENT_FINISHED", "subagentRunId": by,
                "outcome": {"type": "suspended", "interruptIds": [id]},
            }));
        }
        events.push(self.finished(json!({"type": "interrupt", "interrupts": [{
            "id": id, "reason": "approval", "message": format!("{tool} {arguments}"), "expiresAt": expires_at,
            "responseSchema": {
                "type": "object", "required": ["decision"],
                "properties": {"decision": {"enum": ["approve", "deny"]}},
            },
        }]})));
        events
    }
}

/// Of what an event is told.
struct Told {
    run: RunId,
    epoch: Epoch,
    seq: u64,
    at: Timestamp,
}

impl Told {
    fn subagent(&self, step: StepId) -> String {
        format!("{}:{step}", self.run)
    }

    /// An id for a message that this event makes.
    fn message(&self) -> String {
        format!("{}:{}", self.run, self.seq)
    }

    fn at(&self, events: Vec<Value>) -> Vec<Value> {
        let at = self.at.as_millis();
        events.into_iter().map(|event| with(event, "timestamp", at.into())).collect()
    }
}

fn step_name(step: StepId, agent: &str) -> String {
    format!("{agent} {step}")
}

fn begins(told: &Told, step: StepId, agent: &str, purpose: Option<&str>) -> [Value; 2] {
    let by = told.subagent(step);
    let started = json!({"type": "SUBAGENT_STARTED", "subagentRunId": by, "name": agent});
    let started = match purpose {
        Some(purpose) => with(started, "description", purpose.into()),
        None => started,
    };
    [
        started,
        json!({"type": "STEP_STARTED", "stepName": step_name(step, agent), "subagentRunId": by}),
    ]
}

fn ends(
    told: &Told,
    step: StepId,
    agent: &str,
    outcome: AgentOutcome,
    output: &Value,
) -> Vec<Value> {
    let by = told.subagent(step);
    let finished =
        json!({"type": "STEP_FINISHED", "stepName": step_name(step, agent), "subagentRunId": by});
    let ended = match outcome {
        AgentOutcome::Ok | AgentOutcome::Skipped => json!({
            "type": "SUBAGENT_FINISHED", "subagentRunId": by, "result": output,
            "outcome": {"type": "success"}, "metadata": {"outcome": outcome},
        }),
        AgentOutcome::Error | AgentOutcome::Cancelled | AgentOutcome::Interrupted => {
            let said = output.get("message").and_then(Value::as_str);
            let message = said.map_or_else(|| format!("{agent} did not finish"), str::to_owned);
            json!({"type": "SUBAGENT_ERROR", "subagentRunId": by, "message": message, "code": outcome})
        }
    };
    vec![finished, ended]
}

fn thought(told: &Told, step: StepId, note: &str) -> Vec<Value> {
    let (id, by) = (told.message(), told.subagent(step));
    let event = |kind: &str| json!({"type": kind, "messageId": id, "subagentRunId": by});
    let start = with(event("REASONING_MESSAGE_START"), "role", "reasoning".into());
    let content = with(event("REASONING_MESSAGE_CONTENT"), "delta", note.into());
    vec![
        event("REASONING_START"),
        start,
        content,
        event("REASONING_MESSAGE_END"),
        event("REASONING_END"),
    ]
}

/// The answer, under the run's own id: by it a later message says which conversation goes on.
fn answer(told: &Told, result: &RunResult) -> Vec<Value> {
    let id = told.run;
    vec![
        json!({"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": result.text}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": id}),
    ]
}

/// The fields of an event that AG-UI has no name for.
fn data_of(event: &Event) -> Value {
    let mut event = serde_json::to_value(event).unwrap_or_default();
    event.get_mut("data").map(Value::take).unwrap_or_default()
}

fn tokens(usage: &Usage) -> Value {
    json!([{
        "inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens, "cachedInputTokens": usage.cached_tokens,
    }])
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = event.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    event
}

fn custom(name: &str, value: Value) -> Value {
    json!({"type": "CUSTOM", "name": name, "value": value})
}
