//! Every event of Apex in AG-UI's terms: which of its types are sent, and that its published models know them.

use super::translate::Translation;
use crate::protocol::ResetFrame;
use apex_core::clock::{SystemClock, Timestamp};
use apex_core::error::{Error, Kind};
use apex_core::event::{
    AgentOutcome, Decision, Envelope, Event, RunResult, RunStatus, ToolOutcome,
};
use apex_core::id::{ApprovalId, CallId, Epoch, RequestId, RunId, StepId, ThreadId, UserId};
use apex_core::money::Usage;
use apex_core::run::{OpenCall, ResetReason, RunState, Snapshot, StepView};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The types that are sent; the table of the guide says what of Apex becomes which.
const SENT: [&str; 22] = [
    "ACTIVITY_SNAPSHOT",
    "CUSTOM",
    "REASONING_END",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END",
    "REASONING_MESSAGE_START",
    "REASONING_START",
    "RUN_ERROR",
    "RUN_FINISHED",
    "RUN_STARTED",
    "STEP_FINISHED",
    "STEP_STARTED",
    "SUBAGENT_ERROR",
    "SUBAGENT_FINISHED",
    "SUBAGENT_STARTED",
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_END",
    "TEXT_MESSAGE_START",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_END",
    "TOOL_CALL_RESULT",
    "TOOL_CALL_START",
];

/// The types that are not, each with why in the guide.
const NOT_SENT: [&str; 9] = [
    "ACTIVITY_DELTA",
    "MESSAGES_SNAPSHOT",
    "RAW",
    "REASONING_ENCRYPTED_VALUE",
    "REASONING_MESSAGE_CHUNK",
    "STATE_DELTA",
    "STATE_SNAPSHOT",
    "TEXT_MESSAGE_CHUNK",
    "TOOL_CALL_CHUNK",
];

const STEP: StepId = StepId(1);

fn agent() -> String {
    "analysis".to_owned()
}

fn began() -> Vec<Event> {
    vec![
        Event::RunStarted {
            request_id: RequestId::new(&SystemClock),
            state: RunState::Queued,
            agents: vec![agent()],
            budget: None,
            trace: None,
        },
        Event::AgentStarted {
            step: STEP,
            agent: agent(),
            purpose: "look".into(),
            attempt: 1,
            needs: Vec::new(),
        },
        Event::AgentThinking { step: STEP, agent: agent(), note: "hm".into() },
        Event::Delta { step: STEP, offset: 0, text: "a".into() },
        Event::Progress { step: STEP, done: 1, total: Some(2), unit: "rows".into() },
        Event::ToolExecuting {
            step: STEP,
            agent: agent(),
            call: CallId(1),
            tool: "sum".into(),
            arguments: json!({"of": "cost"}),
        },
        Event::ToolCompleted {
            step: STEP,
            agent: agent(),
            call: CallId(1),
            tool: "sum".into(),
            outcome: ToolOutcome::Timeout,
            elapsed_ms: 3,
            summary: "too late".into(),
        },
        Event::RunResumed { attempt: 2, from_step: Some(STEP) },
        Event::BudgetWarning { scope: "run".into(), used: json!("1"), limit: json!("2") },
        Event::AnswerRetracted { step: STEP, reason: "another model".into() },
    ]
}

fn stepped(outcome: AgentOutcome) -> Event {
    Event::AgentCompleted {
        step: STEP,
        agent: agent(),
        outcome,
        elapsed_ms: 5,
        output: json!({"message": "so"}),
        usage: Usage::NONE,
        models: Vec::new(),
        plan: Vec::new(),
    }
}

fn result() -> RunResult {
    RunResult { status: RunStatus::Answered, text: "done".into(), artifacts: Vec::new() }
}

/// One run of each kind of course, as AG-UI's events.
fn courses() -> Vec<Vec<Value>> {
    let usage = Usage::NONE;
    let user = UserId::new(&SystemClock);
    let error = Error::new(Kind::Unavailable, "test", "no model answers").report();
    let approval = ApprovalId::new(&SystemClock);
    let asks = Event::ApprovalRequested {
        step: STEP,
        approval,
        call: CallId(2),
        tool: "delete".into(),
        arguments: json!({}),
        digest: "d".into(),
        expires_at: Timestamp::from_millis(1_763_805_600_000),
    };
    let decided = Event::ApprovalDecided { approval, decision: Decision::Deny, by: Some(user) };
    let completed =
        Event::RunCompleted { elapsed_ms: 9, usage, degraded: vec!["x".into()], result: result() };
    let failed = Event::RunFailed { elapsed_ms: 9, usage, error };
    let cancelled = Event::RunCancelled { elapsed_ms: 9, usage, by: user };
    let with = |ends: Vec<Event>| tell([began(), ends].concat());
    vec![
        with(vec![stepped(AgentOutcome::Ok), completed.clone()]),
        with(vec![stepped(AgentOutcome::Skipped), completed.clone()]),
        with(vec![stepped(AgentOutcome::Error), failed]),
        with(vec![stepped(AgentOutcome::Cancelled), cancelled]),
        with(vec![decided, stepped(AgentOutcome::Interrupted), completed]),
        with(vec![asks]),
        reset(RunState::Running),
        reset(RunState::Completed),
        reset(RunState::Failed),
        reset(RunState::Cancelled),
    ]
}

fn tell(events: Vec<Event>) -> Vec<Value> {
    let mut translation = Translation::new("thread".into(), "run".into(), 0);
    let (run, thread) = (RunId::new(&SystemClock), ThreadId::new(&SystemClock));
    let epoch = Epoch::new(&SystemClock);
    let mut told = Vec::new();
    for (event, n) in events.into_iter().zip(1..) {
        let seq = (!event.is_volatile()).then_some(n);
        let at = Timestamp::from_millis(1_763_805_600_000);
        let envelope = Envelope { v: 1, run, thread, parent: None, epoch, seq, at, event };
        told.extend(translation.translate(envelope));
    }
    assert!(translation.is_over());
    told
}

fn reset(state: RunState) -> Vec<Value> {
    let view = StepView { step: STEP, agent: agent(), outcome: None };
    let snapshot = Snapshot {
        state,
        steps: vec![view],
        open_calls: vec![OpenCall { step: STEP, call: CallId(1), tool: "sum".into() }],
        approvals: Vec::new(),
        result: (state == RunState::Completed).then(result),
    };
    let frame = ResetFrame {
        id: None,
        run: Some(RunId::new(&SystemClock)),
        reason: ResetReason::Trimmed,
        epoch: Epoch::new(&SystemClock),
        head: 9,
        snapshot: Some(snapshot),
    };
    let mut translation = Translation::new("thread".into(), "run".into(), 0);
    let told = translation.reset(&frame, Timestamp::from_millis(0), true);
    assert_eq!(translation.is_over(), state.is_terminal());
    told
}

#[test]
fn the_types_that_are_sent_are_those_that_are_told() {
    let courses = courses();
    let sent: BTreeSet<&str> =
        courses.iter().flatten().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(sent, BTreeSet::from(SENT));
    let guide = include_str!("../../../docs/guide/clients.md");
    for kind in NOT_SENT {
        assert!(!sent.contains(kind) && guide.contains(&format!("`{kind}`")), "{kind}");
    }
    for course in courses {
        assert_eq!(course[0]["type"], "RUN_STARTED");
        let last = course.last().unwrap()["type"].as_str().unwrap();
        let cut = course.iter().any(|event| event["name"] == "reset") && last == "STEP_STARTED";
        assert!(cut || ["RUN_FINISHED", "RUN_ERROR"].contains(&last), "{last}");
    }
}

#[test]
fn every_event_of_every_course_passes_the_models_that_ag_ui_publishes() {
    let Some(python) = std::env::var("APEX_TEST_PYTHON").ok().filter(|path| !path.is_empty())
    else {
        return apex_test_services::skip("ag-ui-protocol", "APEX_TEST_PYTHON names no Python");
    };
    const CHECK: &str = "
import sys
from pydantic import TypeAdapter
from ag_ui.core import Event, EventType
known = TypeAdapter(Event)
for line in sys.stdin:
    event = known.validate_json(line)
    assert not event.model_extra, (event.type, event.model_extra)
print(*sorted(kind.value for kind in EventType))
";
    let mut child = Command::new(python)
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = String::new();
    for event in courses().into_iter().flatten() {
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "AG-UI does not know what is sent");
    let known = String::from_utf8(output.stdout).unwrap();
    let mut all = [&SENT[..], &NOT_SENT[..]].concat();
    all.sort_unstable();
    assert_eq!(known.split_whitespace().collect::<Vec<_>>(), all);
}
