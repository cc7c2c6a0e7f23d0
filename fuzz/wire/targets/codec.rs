//! Every event and every frame of a server's, with any words and numbers in it: written and read again it is the same,
//! in a frame and as a server-sent event, read by a slow reader that is written from the standard's text.

#![no_main]

#[path = "feed.rs"]
mod feed;

use apex_core::clock::Timestamp;
use apex_core::error::ErrorReport;
use apex_core::event::{
    AgentOutcome, Decision, Envelope, Event, ModelUse, Payload, Recorded, RunResult, RunStatus,
    ToolOutcome,
};
use apex_core::id::{
    ApprovalId, ArtifactId, CallId, ConnectionId, CorrelationId, Epoch, RequestId, RunId, StepId,
    ThreadId, UserId,
};
use apex_core::money::{Usage, Usd};
use apex_core::run::{OpenApproval, OpenCall, ResetReason, RunState, Snapshot, StepView};
use apex_transport::protocol::{
    AcceptedFrame, Answered, Draining, ErrorFrame, Expiring, FrameId, HEARTBEAT, InboxFrame,
    Limits, Pong, ResetFrame, ServerFrame, Since, Subscribed, Welcome, event_frame, write_event,
    write_retry,
};
use bytes::{BufMut as _, BytesMut};
use feed::Feed;
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let feed = &mut Feed::new(bytes);
    let mut stream = BytesMut::new();
    let mut expected = Vec::new();
    write_retry(1_000, &mut stream);
    while !feed.is_empty() {
        if feed.flag() {
            let frame = frame(feed);
            let again: ServerFrame = serde_json::from_slice(&frame.encode()).unwrap();
            assert_eq!(again, frame);
            continue;
        }
        let envelope = envelope(feed);
        let Ok(recorded) = Recorded::encode(&envelope) else {
            continue;
        };
        assert_eq!(recorded.decode().unwrap(), envelope);
        assert_eq!(recorded.event().unwrap(), envelope.event);
        assert_eq!(recorded.terminal, envelope.event.is_terminal());
        let frame: ServerFrame = serde_json::from_slice(&event_frame(&recorded.json)).unwrap();
        let ServerFrame::Event(frame) = frame else { panic!("{frame:?}") };
        assert_eq!((frame.seq, frame.is_terminal()), (envelope.seq, recorded.terminal));
        assert_eq!(frame.envelope(), Some(envelope.clone()));
        if feed.flag() {
            stream.put_slice(HEARTBEAT);
        }
        let (epoch, seq) = (envelope.epoch, recorded.seq);
        let name = feed.flag().then_some("reset");
        write_event(Some(format_args!("{epoch}:{seq}")), name, &recorded.json, &mut stream);
        let since = Since { epoch: Some(epoch), after: Some(seq) };
        assert_eq!(Since::from_event_id(&format!("{epoch}:{seq}")), Some(since));
        expected.push(Dispatched {
            id: format!("{epoch}:{seq}"),
            name: name.unwrap_or("message").to_owned(),
            data: String::from_utf8(recorded.json.to_vec()).unwrap(),
        });
    }
    let stream = String::from_utf8(stream.to_vec()).unwrap();
    assert!(!stream.contains('\r'));
    assert_eq!(listen(&stream), expected);
});

/// An event as a listener gets it.
#[derive(Debug, PartialEq)]
struct Dispatched {
    id: String,
    name: String,
    data: String,
}

/// WHATWG HTML, section 9.2.6, line by line.
fn listen(stream: &str) -> Vec<Dispatched> {
    let (mut dispatched, mut id) = (Vec::new(), String::new());
    let (mut name, mut data) = (String::new(), String::new());
    for line in stream.split_inclusive('\n') {
        let line = line.strip_suffix('\n').expect("a line without an end");
        if line.is_empty() {
            let (named, mut said) = (std::mem::take(&mut name), std::mem::take(&mut data));
            if said.is_empty() {
                continue;
            }
            assert_eq!(said.pop(), Some('\n'));
            let name = if named.is_empty() { "message".to_owned() } else { named };
            dispatched.push(Dispatched { id: id.clone(), name, data: said });
            continue;
        }
        if line.starts_with(':') {
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" => assert!(value.bytes().all(|digit| digit.is_ascii_digit())),
            _ => panic!("what is {line:?}"),
        }
    }
    dispatched
}

fn envelope(feed: &mut Feed<'_>) -> Envelope {
    Envelope {
        v: 1,
        run: RunId::from_bytes(feed.id()),
        thread: ThreadId::from_bytes(feed.id()),
        parent: feed.optional(|feed| RunId::from_bytes(feed.id())),
        epoch: Epoch::from_bytes(feed.id()),
        seq: feed.optional(Feed::number),
        at: moment(feed),
        event: event(feed),
    }
}

fn moment(feed: &mut Feed<'_>) -> Timestamp {
    // The years that four digits can tell.
    Timestamp::from_millis((feed.number() % 253_402_300_799_999) as i64)
}

fn step(feed: &mut Feed<'_>) -> StepId {
    StepId(feed.number() as u32)
}

fn usage(feed: &mut Feed<'_>) -> Usage {
    Usage {
        input_tokens: feed.number(),
        cached_tokens: feed.number(),
        output_tokens: feed.number(),
        reasoning_tokens: feed.number(),
        cost_usd: feed.optional(|feed| Usd::from_units(i128::from(feed.number()))),
    }
}

fn value(feed: &mut Feed<'_>) -> Value {
    match feed.below(6) {
        0 => Value::Null,
        1 => feed.flag().into(),
        2 => feed.number().into(),
        3 => feed.text().into(),
        4 => json!([feed.text(), feed.number()]),
        _ => json!({feed.text(): feed.text(), feed.text(): {feed.text(): feed.number()}}),
    }
}

fn one_of<T: Copy>(feed: &mut Feed<'_>, all: &[T]) -> T {
    all[usize::from(feed.byte()) % all.len()]
}

const STATES: [RunState; 7] = [
    RunState::Queued,
    RunState::Running,
    RunState::Waiting,
    RunState::Cancelling,
    RunState::Completed,
    RunState::Failed,
    RunState::Cancelled,
];

const AGENT_OUTCOMES: [AgentOutcome; 5] = [
    AgentOutcome::Ok,
    AgentOutcome::Error,
    AgentOutcome::Cancelled,
    AgentOutcome::Skipped,
    AgentOutcome::Interrupted,
];

const TOOL_OUTCOMES: [ToolOutcome; 5] = [
    ToolOutcome::Ok,
    ToolOutcome::Error,
    ToolOutcome::Timeout,
    ToolOutcome::Cancelled,
    ToolOutcome::Interrupted,
];

fn result(feed: &mut Feed<'_>) -> RunResult {
    RunResult {
        status: one_of(feed, &[RunStatus::Answered, RunStatus::InsufficientData]),
        text: feed.text(),
        artifacts: feed.several(|feed| Payload {
            artifact: ArtifactId::from_bytes(feed.id()),
            name: feed.text(),
            bytes: feed.number(),
            sha256: feed.text(),
        }),
    }
}

fn error(feed: &mut Feed<'_>) -> ErrorReport {
    ErrorReport {
        code: feed.text(),
        message: feed.text(),
        retryable: feed.flag(),
        correlation: feed.optional(|feed| CorrelationId::from_bytes(feed.id())),
        retry_after_ms: feed.optional(Feed::number),
    }
}

fn event(feed: &mut Feed<'_>) -> Event {
    match feed.below(16) {
        0 => Event::RunStarted {
            request_id: RequestId::from_bytes(feed.id()),
            state: one_of(feed, &STATES),
            agents: feed.several(Feed::text),
            budget: None,
            trace: None,
        },
        1 => Event::AgentStarted {
            step: step(feed),
            agent: feed.text(),
            purpose: feed.text(),
            attempt: feed.number() as u32,
            needs: feed.several(Feed::text),
        },
        2 => Event::AgentThinking { step: step(feed), agent: feed.text(), note: feed.text() },
        3 => Event::ToolExecuting {
            step: step(feed),
            agent: feed.text(),
            call: CallId(feed.number() as u32),
            tool: feed.text(),
            arguments: value(feed),
        },
        4 => Event::ToolCompleted {
            step: step(feed),
            agent: feed.text(),
            call: CallId(feed.number() as u32),
            tool: feed.text(),
            outcome: one_of(feed, &TOOL_OUTCOMES),
            elapsed_ms: feed.number(),
            summary: feed.text(),
        },
        5 => Event::AgentCompleted {
            step: step(feed),
            agent: feed.text(),
            outcome: one_of(feed, &AGENT_OUTCOMES),
            elapsed_ms: feed.number(),
            output: value(feed),
            usage: usage(feed),
            models: feed.several(|feed| ModelUse {
                provider: feed.text(),
                model: feed.text(),
                attempts: feed.number() as u32,
                answers: feed.number() as u32,
                usage: usage(feed),
            }),
            plan: Vec::new(),
        },
        6 => Event::RunResumed { attempt: feed.number() as u32, from_step: feed.optional(step) },
        7 => Event::ApprovalRequested {
            step: step(feed),
            approval: ApprovalId::from_bytes(feed.id()),
            call: CallId(feed.number() as u32),
            tool: feed.text(),
            arguments: value(feed),
            digest: feed.text(),
            expires_at: moment(feed),
        },
        8 => Event::ApprovalDecided {
            approval: ApprovalId::from_bytes(feed.id()),
            decision: one_of(feed, &[Decision::Approve, Decision::Deny]),
            by: feed.optional(|feed| UserId::from_bytes(feed.id())),
        },
        9 => Event::BudgetWarning { scope: feed.text(), used: value(feed), limit: value(feed) },
        10 => Event::AnswerRetracted { step: step(feed), reason: feed.text() },
        11 => Event::RunCompleted {
            elapsed_ms: feed.number(),
            usage: usage(feed),
            degraded: feed.several(Feed::text),
            result: result(feed),
        },
        12 => Event::RunFailed {
            elapsed_ms: feed.number(),
            usage: usage(feed),
            error: error(feed),
        },
        13 => Event::RunCancelled {
            elapsed_ms: feed.number(),
            usage: usage(feed),
            by: UserId::from_bytes(feed.id()),
        },
        14 => Event::Delta { step: step(feed), offset: feed.number(), text: feed.text() },
        _ => Event::Progress {
            step: step(feed),
            done: feed.number(),
            total: feed.optional(Feed::number),
            unit: feed.text(),
        },
    }
}

fn frame_id(feed: &mut Feed<'_>) -> FrameId {
    let text: String = feed.text().chars().take(16).collect();
    if text.is_empty() { feed.number().into() } else { FrameId::Text(text) }
}

fn snapshot(feed: &mut Feed<'_>) -> Snapshot {
    Snapshot {
        state: one_of(feed, &STATES),
        steps: feed.several(|feed| StepView {
            step: step(feed),
            agent: feed.text(),
            outcome: feed.optional(|feed| one_of(feed, &AGENT_OUTCOMES)),
        }),
        open_calls: feed.several(|feed| OpenCall {
            step: step(feed),
            call: CallId(feed.number() as u32),
            tool: feed.text(),
        }),
        approvals: feed.several(|feed| OpenApproval {
            step: step(feed),
            approval: ApprovalId::from_bytes(feed.id()),
            call: CallId(feed.number() as u32),
            tool: feed.text(),
            arguments: value(feed),
            digest: feed.text(),
            expires_at: moment(feed),
        }),
        result: feed.optional(result),
    }
}

fn frame(feed: &mut Feed<'_>) -> ServerFrame {
    match feed.below(10) {
        0 => ServerFrame::Welcome(Welcome {
            id: feed.optional(frame_id),
            connection: ConnectionId::from_bytes(feed.id()),
            user: UserId::from_bytes(feed.id()),
            heartbeat_s: feed.number(),
            expires_at: moment(feed),
            limits: Limits {
                frame_bytes: feed.number() as usize,
                frames_per_s: feed.number() as u32,
                frames_burst: feed.number() as u32,
                subscriptions: feed.number() as usize,
                outbound_bytes: feed.number() as usize,
                outbound_ms: feed.number(),
                connections: feed.number() as usize,
                running_runs: feed.number() as usize,
                queued_runs: feed.number() as usize,
                unused_tickets: feed.number() as usize,
                file_bytes: feed.number(),
            },
        }),
        1 => ServerFrame::Accepted(AcceptedFrame {
            id: frame_id(feed),
            request_id: RequestId::from_bytes(feed.id()),
            thread: ThreadId::from_bytes(feed.id()),
            run: RunId::from_bytes(feed.id()),
        }),
        2 => ServerFrame::Subscribed(Subscribed {
            id: frame_id(feed),
            run: feed.optional(|feed| RunId::from_bytes(feed.id())),
            epoch: Epoch::from_bytes(feed.id()),
            head: feed.number(),
            oldest: feed.number(),
            recovered: feed.flag(),
            state: feed.optional(|feed| one_of(feed, &STATES)),
        }),
        3 => ServerFrame::Ok(Answered { id: frame_id(feed) }),
        4 => ServerFrame::Error(ErrorFrame { id: feed.optional(frame_id), error: error(feed) }),
        5 => ServerFrame::Inbox(InboxFrame {
            epoch: Epoch::from_bytes(feed.id()),
            seq: feed.number(),
            run: RunId::from_bytes(feed.id()),
            thread: ThreadId::from_bytes(feed.id()),
            state: one_of(feed, &STATES),
            at: moment(feed),
        }),
        6 => ServerFrame::Reset(ResetFrame {
            id: feed.optional(frame_id),
            run: feed.optional(|feed| RunId::from_bytes(feed.id())),
            reason: one_of(feed, &[ResetReason::Trimmed, ResetReason::Epoch]),
            epoch: Epoch::from_bytes(feed.id()),
            head: feed.number(),
            snapshot: feed.optional(snapshot),
        }),
        7 => ServerFrame::Expiring(Expiring { at: moment(feed) }),
        8 => ServerFrame::Draining(Draining {
            after_ms: feed.number(),
            jitter_ms: feed.number(),
        }),
        _ => ServerFrame::Pong(Pong { id: frame_id(feed), n: feed.number() }),
    }
}
