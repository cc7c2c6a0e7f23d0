//! A run's spans and metrics, by OpenTelemetry's conventions for generative AI
//! (<https://github.com/open-telemetry/semantic-conventions-genai>), opened and closed by its events: what is on record
//! is in the trace, and what is not is not. They hold no word of what was asked, called or answered.
//!
//! `otel.name`, `otel.kind` and `otel.status_code` are fields that `tracing-opentelemetry` takes for a span's name, kind
//! and status.

use super::shared::Shared;
use apex_core::error::correlation::of_message;
use apex_core::event::{AgentOutcome, Event, ToolOutcome};
use apex_core::id::{CallId, RunId, StepId, ThreadId};
use apex_core::money::Usage;
use apex_core::run::{Claimed, RunState};
use apex_core::trace::{TraceBridge, TraceParent};
use metrics::{Label, counter, histogram};
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::sync::Arc;
use tracing::{Span, field, info_span};

/// The spans of one run that are open on this node.
#[derive(Debug)]
pub(super) struct Trace {
    run: Span,
    id: RunId,
    thread: ThreadId,
    /// The agent that runs begin with, after which they are named.
    workflow: String,
    bridge: Option<Arc<dyn TraceBridge>>,
    steps: FxHashMap<StepId, Span>,
    calls: FxHashMap<CallId, Span>,
}

/// What an event says to a trace. It is taken before the event is appended, and told after: nothing is in a trace that is
/// not on record.
pub(super) enum Seen {
    Begun {
        step: StepId,
        agent: String,
    },
    Called {
        step: StepId,
        call: CallId,
        tool: String,
    },
    Answered {
        step: StepId,
        agent: String,
        call: CallId,
        tool: String,
        outcome: ToolOutcome,
        elapsed_ms: u64,
    },
    Ended {
        step: StepId,
        agent: String,
        ended: Ended,
    },
    RunEnded(Ended),
}

/// How a step or a run ended.
pub(super) struct Ended {
    outcome: &'static str,
    /// The code of the error, or what there was instead of a result.
    error: Option<String>,
    elapsed_ms: u64,
    usage: Usage,
}

impl Trace {
    /// Begins the span of an attempt at a run. With a bridge all attempts are in one trace: that of whoever asked, as
    /// the run's first event tells it, else one of the run's own.
    pub(super) async fn begin(shared: &Shared, claimed: &Claimed) -> Self {
        let workflow = shared.registry.entry.clone();
        let (id, thread) = (claimed.lease.run, claimed.lease.thread);
        let run = info_span!(
            parent: None,
            "invoke_workflow",
            otel.name = format!("invoke_workflow {workflow}"),
            otel.kind = "internal",
            otel.status_code = field::Empty,
            gen_ai.operation.name = "invoke_workflow",
            gen_ai.workflow.name = workflow,
            gen_ai.conversation.id = %thread,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
            "error.type" = field::Empty,
            apex.run = %id,
            apex.attempt = claimed.attempt,
            apex.outcome = field::Empty,
            apex.cost_usd = field::Empty,
            correlation = %of_message(claimed.request),
        );
        let bridge = shared.options.traces.clone();
        if let Some(bridge) = &bridge {
            bridge.adopt(&run, place(shared, claimed).await);
        }
        let (steps, calls) = Default::default();
        Self { run, id, thread, workflow, bridge, steps, calls }
    }

    /// The span of the attempt.
    pub(super) fn run(&self) -> Span {
        self.run.clone()
    }

    pub(super) fn bridge(&self) -> Option<Arc<dyn TraceBridge>> {
        self.bridge.clone()
    }

    /// The span of a step at work. One that goes on after a wait begins another one.
    pub(super) fn step(&mut self, step: StepId, agent: &str) -> Span {
        let make = || {
            info_span!(
                parent: &self.run,
                "invoke_agent",
                otel.name = format!("invoke_agent {agent}"),
                otel.kind = "internal",
                otel.status_code = field::Empty,
                gen_ai.operation.name = "invoke_agent",
                gen_ai.agent.name = agent,
                gen_ai.conversation.id = %self.thread,
                gen_ai.usage.input_tokens = field::Empty,
                gen_ai.usage.output_tokens = field::Empty,
                "error.type" = field::Empty,
                apex.run = %self.id,
                apex.step = %step,
                apex.outcome = field::Empty,
                apex.cost_usd = field::Empty,
            )
        };
        self.steps.entry(step).or_insert_with(make).clone()
    }

    /// The span of a call under way.
    pub(super) fn call(&self, call: CallId) -> Span {
        self.calls.get(&call).cloned().unwrap_or_else(Span::none)
    }

    /// What these events will say once they are on record.
    pub(super) fn seen(events: &[Event]) -> Vec<Seen> {
        events.iter().filter_map(Seen::of).collect()
    }

    /// Takes in what is on record now.
    pub(super) fn tell(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Begun { step, agent } => drop(self.step(step, &agent)),
                Seen::Called { step, call, tool } => {
                    let span = self.called(step, call, &tool);
                    self.calls.insert(call, span);
                }
                Seen::Answered { step, agent, call, tool, outcome, elapsed_ms } => {
                    let (outcome, error) = named(outcome);
                    let span = self.calls.remove(&call).unwrap_or_else(|| {
                        self.step(step, &agent);
                        self.called(step, call, &tool)
                    });
                    close(&span, outcome, error);
                    let labels = labels("gen_ai.tool.name", tool, error);
                    histogram!("gen_ai.execute_tool.duration", labels).record(seconds(elapsed_ms));
                }
                Seen::Ended { step, agent, ended } => {
                    // One that was given back or lost ends here without having been at work.
                    let span = self.step(step, &agent);
                    self.steps.remove(&step);
                    match ended.usage.cost_usd {
                        None => {
                            counter!("apex_unpriced_steps_total", "agent" => agent.clone())
                                .increment(1);
                        }
                        Some(_) if ended.usage == Usage::NONE => {}
                        Some(usd) => {
                            histogram!("apex_step_cost_usd", "agent" => agent.clone())
                                .record(usd.to_f64());
                        }
                    }
                    let labels = labels("gen_ai.agent.name", agent, ended.error.as_deref());
                    let took = seconds(ended.elapsed_ms);
                    histogram!("gen_ai.invoke_agent.duration", labels).record(took);
                    ended.close(&span);
                }
                Seen::RunEnded(ended) => {
                    if let Some(usd) = ended.usage.cost_usd.filter(|_| ended.usage != Usage::NONE) {
                        histogram!("apex_run_cost_usd").record(usd.to_f64());
                    }
                    let workflow = self.workflow.clone();
                    let labels = labels("gen_ai.workflow.name", workflow, ended.error.as_deref());
                    let took = seconds(ended.elapsed_ms);
                    histogram!("gen_ai.workflow.duration", labels).record(took);
                    ended.close(&std::mem::replace(&mut self.run, Span::none()));
                }
            }
        }
    }

    /// The run is given back until somebody decides: what is open ends here, and begins again elsewhere.
    pub(super) fn wait(&mut self) {
        self.let_go("waiting", None);
    }

    fn let_go(&mut self, outcome: &'static str, error: Option<&'static str>) {
        let calls = self.calls.drain().map(|(_, span)| span);
        let steps = self.steps.drain().map(|(_, span)| span);
        for span in calls.chain(steps).chain([std::mem::replace(&mut self.run, Span::none())]) {
            close(&span, outcome, error);
        }
    }

    fn called(&self, step: StepId, call: CallId, tool: &str) -> Span {
        info_span!(
            parent: self.steps.get(&step).unwrap_or(&self.run),
            "execute_tool",
            otel.name = format!("execute_tool {tool}"),
            otel.kind = "internal",
            otel.status_code = field::Empty,
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = tool,
            "gen_ai.tool.type" = "function",
            gen_ai.tool.call.id = %call,
            "error.type" = field::Empty,
            apex.run = %self.id,
            apex.step = %step,
            apex.outcome = field::Empty,
        )
    }
}

impl Drop for Trace {
    /// What is still open is lost to this node: its log will say `interrupted`.
    fn drop(&mut self) {
        self.let_go("interrupted", Some("interrupted"));
    }
}

impl Seen {
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::AgentStarted { step, agent, .. } => {
                Self::Begun { step: *step, agent: agent.clone() }
            }
            Event::ToolExecuting { step, call, tool, .. } => {
                Self::Called { step: *step, call: *call, tool: tool.clone() }
            }
            Event::ToolCompleted { step, agent, call, tool, outcome, elapsed_ms, .. } => {
                Self::Answered {
                    step: *step,
                    agent: agent.clone(),
                    call: *call,
                    tool: tool.clone(),
                    outcome: *outcome,
                    elapsed_ms: *elapsed_ms,
                }
            }
            Event::AgentCompleted { step, agent, outcome, elapsed_ms, output, usage, .. } => {
                let (outcome, error) = match outcome {
                    AgentOutcome::Ok => ("ok", None),
                    AgentOutcome::Error => ("error", Some(code(output))),
                    AgentOutcome::Cancelled => ("cancelled", None),
                    AgentOutcome::Skipped => ("skipped", None),
                    AgentOutcome::Interrupted => ("interrupted", Some("interrupted".to_owned())),
                };
                let ended = Ended { outcome, error, elapsed_ms: *elapsed_ms, usage: *usage };
                Self::Ended { step: *step, agent: agent.clone(), ended }
            }
            Event::RunCompleted { elapsed_ms, usage, .. }
            | Event::RunFailed { elapsed_ms, usage, .. }
            | Event::RunCancelled { elapsed_ms, usage, .. } => {
                let error = match event {
                    Event::RunFailed { error, .. } => Some(error.code.to_string()),
                    _ => None,
                };
                let outcome = event.terminal_state().map_or("", RunState::name);
                let (elapsed_ms, usage) = (*elapsed_ms, *usage);
                Self::RunEnded(Ended { outcome, error, elapsed_ms, usage })
            }
            _ => return None,
        })
    }
}

impl Ended {
    fn close(self, span: &Span) {
        span.record("gen_ai.usage.input_tokens", self.usage.input_tokens);
        span.record("gen_ai.usage.output_tokens", self.usage.output_tokens);
        if let Some(usd) = self.usage.cost_usd {
            span.record("apex.cost_usd", usd.to_f64());
        }
        close(span, self.outcome, self.error.as_deref());
    }
}

fn close(span: &Span, outcome: &'static str, error: Option<&str>) {
    span.record("apex.outcome", outcome);
    if let Some(error) = error {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
}

/// The code of an error that a step ended with.
fn code(output: &Value) -> String {
    output.get("code").and_then(Value::as_str).unwrap_or("_OTHER").to_owned()
}

fn named(outcome: ToolOutcome) -> (&'static str, Option<&'static str>) {
    match outcome {
        ToolOutcome::Ok => ("ok", None),
        ToolOutcome::Error => ("error", Some("_OTHER")),
        ToolOutcome::Timeout => ("timeout", Some("timeout")),
        ToolOutcome::Cancelled => ("cancelled", None),
        ToolOutcome::Interrupted => ("interrupted", Some("interrupted")),
    }
}

/// Whose trace the run belongs to.
async fn place(shared: &Shared, claimed: &Claimed) -> TraceParent {
    let run = claimed.lease.run;
    let first = shared.stores.runs.read(&claimed.principal, run, 0, 1).await;
    let first = first.ok().and_then(|page| page.events.first()?.event().ok());
    match first {
        Some(Event::RunStarted { trace: Some(place), .. }) => place,
        _ => TraceParent::of_run(run),
    }
}

/// Of whom a duration is, and with which error it ended.
fn labels(key: &'static str, name: String, error: Option<&str>) -> Vec<Label> {
    let error = error.map(|error| Label::new("error.type", error.to_owned()));
    std::iter::once(Label::new(key, name)).chain(error).collect()
}

#[expect(clippy::cast_precision_loss, reason = "nothing takes 2^53 ms")]
fn seconds(elapsed_ms: u64) -> f64 {
    elapsed_ms as f64 / 1_000.0
}
