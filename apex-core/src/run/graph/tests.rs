use super::*;
use crate::clock::{SystemClock, Timestamp};
use crate::event::{
    AgentOutcome, Decision, Event, ModelUse, PROTOCOL_VERSION, PlanStep, RunResult, RunStatus,
    ToolOutcome,
};
use crate::id::{ApprovalId, CallId, Epoch, RequestId, StepId, UserId};
use crate::money::Usd;
use crate::run::Snapshot;
use serde_json::{Value, json};
use std::path::Path;

const BEGAN: i64 = 1_763_805_600_000;

/// A log of these events, a second apart, and the view of the run after them.
fn log(events: Vec<Event>) -> (RunView, Vec<Envelope>) {
    let (run, thread) = (RunId::derived(&[b"run"]), ThreadId::derived(&[b"thread"]));
    let epoch = Epoch::new(&SystemClock);
    let mut snapshot = Snapshot::new();
    let mut seq = 0;
    let envelopes: Vec<Envelope> = events
        .into_iter()
        .map(|event| {
            snapshot.apply(&event);
            seq += 1;
            let at = Timestamp::from_millis(BEGAN + 1_000 * (seq as i64 - 1));
            Envelope {
                v: PROTOCOL_VERSION,
                run,
                thread,
                parent: None,
                epoch,
                seq: Some(seq),
                at,
                event,
            }
        })
        .collect();
    let view = RunView {
        run,
        thread,
        state: snapshot.state,
        epoch,
        head: seq,
        oldest: 1,
        attempt: 1,
        started_at: Timestamp::from_millis(BEGAN),
        ended_at: None,
        settled: Vec::new(),
        snapshot,
    };
    (view, envelopes)
}

fn run_started() -> Event {
    let budget =
        RunBudget { tokens: Some(5_000), usd: "0.5".parse().ok(), steps: 256, seconds: 60 };
    Event::RunStarted {
        request_id: RequestId::derived(&[b"request"]),
        state: RunState::Running,
        agents: vec!["supervisor".into()],
        budget: Some(budget),
        trace: None,
    }
}

fn started(step: u32, agent: &str, needs: &[&str]) -> Event {
    Event::AgentStarted {
        step: StepId(step),
        agent: agent.into(),
        purpose: format!("The work of {agent}."),
        attempt: 1,
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
    }
}

fn completed(step: u32, agent: &str, outcome: AgentOutcome, models: Vec<ModelUse>) -> Event {
    Event::AgentCompleted {
        step: StepId(step),
        agent: agent.into(),
        outcome,
        elapsed_ms: 1_234,
        output: json!({"secret": "of no concern here"}),
        usage: models.iter().fold(Usage::NONE, |sum, model| sum.plus(model.usage)),
        models,
        plan: Vec::new(),
    }
}

fn planned(mut event: Event, steps: Vec<PlanStep>) -> Event {
    if let Event::AgentCompleted { plan, .. } = &mut event {
        *plan = steps;
    }
    event
}

fn called(step: u32, call: u32, tool: &str) -> Event {
    let (step, call, agent) = (StepId(step), CallId(call), "reader".to_owned());
    Event::ToolExecuting { step, agent, call, tool: tool.into(), arguments: json!({"pin": 77_001}) }
}

fn answered(step: u32, call: u32, tool: &str, outcome: ToolOutcome) -> Event {
    let (step, call, agent) = (StepId(step), CallId(call), "reader".to_owned());
    let summary = "of no concern here".to_owned();
    Event::ToolCompleted { step, agent, call, tool: tool.into(), outcome, elapsed_ms: 15, summary }
}

fn asked(model: &str, cost_usd: Option<Usd>) -> ModelUse {
    let usage = Usage { input_tokens: 900, output_tokens: 80, cost_usd, ..Usage::NONE };
    let (provider, model) = ("openai".into(), model.into());
    ModelUse { provider, model, attempts: 2, answers: 1, usage }
}

/// A run with everything that can happen in one, up to where it waits for a decision.
fn waiting() -> Vec<Event> {
    let plan = vec![
        PlanStep::new("reader"),
        PlanStep::new("checker").optional(),
        PlanStep::new("writer")
            .needs(["reader", "checker", "editor"])
            .purpose("\"] --> x; click s0 \"javascript:x\" %%{init: {}}%% `<img src=x onerror=y>`"),
        PlanStep::new("editor").needs(["reader"]),
    ];
    let usd = |text: &str| text.parse().ok();
    let approval = |number: u32| Event::ApprovalRequested {
        step: StepId(4),
        approval: ApprovalId::derived(&[&[number as u8]]),
        call: CallId(2 + number),
        tool: "pay".into(),
        arguments: json!({"usd": 5}),
        digest: "d".into(),
        expires_at: Timestamp::from_millis(BEGAN),
    };
    let supervised =
        completed(1, "supervisor", AgentOutcome::Ok, vec![asked("gpt-5-mini", usd("0.001"))]);
    let lost = vec![asked("gpt-5", usd("0.25")), asked("local", None)];
    vec![
        run_started(),
        started(1, "supervisor", &[]),
        planned(supervised, plan),
        started(2, "reader", &[]),
        started(3, "checker", &[]),
        called(2, 1, "look"),
        answered(2, 1, "look", ToolOutcome::Timeout),
        called(2, 2, "look"),
        answered(2, 2, "look", ToolOutcome::Interrupted),
        completed(2, "reader", AgentOutcome::Interrupted, lost),
        completed(3, "checker", AgentOutcome::Error, Vec::new()),
        Event::RunResumed { attempt: 2, from_step: Some(StepId(2)) },
        started(4, "reader", &[]),
        approval(1),
        approval(2),
        Event::ApprovalDecided {
            approval: ApprovalId::derived(&[&[1]]),
            decision: Decision::Deny,
            by: None,
        },
    ]
}

fn ended() -> Vec<Event> {
    let mut events = waiting();
    let approval = ApprovalId::derived(&[&[2]]);
    let by = Some(UserId::derived(&[b"user"]));
    events.extend([
        Event::ApprovalDecided { approval, decision: Decision::Approve, by },
        called(4, 4, "pay"),
        answered(4, 4, "pay", ToolOutcome::Ok),
        completed(4, "reader", AgentOutcome::Ok, Vec::new()),
        started(5, "editor", &["reader"]),
        completed(5, "editor", AgentOutcome::Skipped, Vec::new()),
        Event::RunCompleted {
            elapsed_ms: 61_000,
            usage: Usage { cost_usd: None, input_tokens: 2_700, output_tokens: 240, ..Usage::NONE },
            degraded: Vec::new(),
            result: RunResult {
                status: RunStatus::Answered,
                text: "t".into(),
                artifacts: Vec::new(),
            },
        },
    ]);
    events
}

fn golden(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run/graph/golden").join(name);
    if std::env::var_os("APEX_UPDATE").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == kept,
        "{name} is another one; look at it, and run this with APEX_UPDATE=1:\n{made}"
    );
}

#[test]
fn a_run_that_waits_is_drawn_with_what_is_planned() {
    let (view, events) = log(waiting());
    let graph = RunGraph::of(&view, &events);
    golden("waiting.json", &(serde_json::to_string_pretty(&graph).unwrap() + "\n"));
    golden("waiting.mmd", &graph.mermaid());
    let states: Vec<_> = graph.steps.iter().map(|step| (step.agent.as_str(), step.state)).collect();
    let expected = [
        ("supervisor", StepState::Ok),
        ("reader", StepState::Waiting),
        ("checker", StepState::Error),
        ("writer", StepState::Planned),
        ("editor", StepState::Planned),
    ];
    assert_eq!(states, expected);
    assert_eq!((graph.attempt, graph.elapsed_ms, graph.trimmed), (2, None, false));
}

#[test]
fn a_run_that_ended_is_drawn_with_what_came_of_it() {
    let (view, events) = log(ended());
    let graph = RunGraph::of(&view, &events);
    golden("ended.json", &(serde_json::to_string_pretty(&graph).unwrap() + "\n"));
    golden("ended.mmd", &graph.mermaid());
    assert_eq!((graph.usage.cost_usd, graph.elapsed_ms), (None, Some(61_000)));
    let back: RunGraph = serde_json::from_value(json!(graph)).unwrap();
    assert_eq!(back, graph);
}

#[test]
fn content_is_not_in_it() {
    let (view, events) = log(ended());
    let graph = RunGraph::of(&view, &events);
    let all = serde_json::to_string(&graph).unwrap() + &graph.mermaid();
    for content in ["of no concern", "77001", "pin"] {
        assert!(!all.contains(content), "{content}");
    }
}

#[test]
fn of_a_trimmed_log_the_outcome_is_left() {
    let (mut view, events) = log(ended());
    let all = RunGraph::of(&view, &events);
    for kept in 1..=events.len() {
        view.oldest = kept as u64;
        let graph = RunGraph::of(&view, &events[kept - 1..]);
        assert_eq!(graph.trimmed, kept > 1);
        let begun = |graph: &RunGraph| -> Vec<(String, StepState)> {
            let begun = graph.steps.iter().filter(|step| step.state != StepState::Planned);
            let mut begun: Vec<_> = begun.map(|step| (step.agent.clone(), step.state)).collect();
            begun.sort_by(|a, b| a.0.cmp(&b.0));
            begun
        };
        assert_eq!(begun(&graph), begun(&all), "from {kept}");
        assert_eq!(graph.elapsed_ms, Some(61_000), "from {kept}");
    }
}

#[test]
fn needs_that_lead_in_a_circle_or_nowhere_are_drawn_too() {
    let mut events = vec![run_started()];
    for (step, agent) in (1..).zip(["a", "b", "c"]) {
        events.push(started(step, agent, &["a", "b", "c", "nobody"]));
    }
    let (view, events) = log(events);
    let chart = RunGraph::of(&view, &events).mermaid();
    assert!(chart.starts_with("flowchart TD\n") && !chart.contains("nobody"), "{chart}");
}

#[test]
fn a_graph_is_bounded() {
    let events = (1..2_000).map(|step| started(step, &format!("agent{step}"), &[])).collect();
    let (view, events) = log(events);
    let graph = RunGraph::of(&view, &events);
    assert_eq!(graph.steps.len(), 256);
    let mut calls = vec![started(1, "reader", &[])];
    calls.extend((1..=20).map(|call| called(1, call, "look")));
    let (view, events) = log(calls);
    let graph = RunGraph::of(&view, &events);
    assert_eq!(graph.steps[0].calls.len(), 20);
    assert!(graph.mermaid().contains("and 12 more calls"), "{}", graph.mermaid());
    assert_eq!(json!(graph)["steps"][0]["calls"][0]["outcome"], Value::Null);
}
