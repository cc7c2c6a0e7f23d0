use apex_core::event::{Decision, Envelope, Event};
use apex_core::id::{ApprovalId, CallId, StepId};
use std::collections::{HashMap, HashSet};

/// What is wrong with a run's log, held against the protocol: its numbers, the order of each step's events, and
/// exactly one terminal event at the end. `None` when nothing is.
#[must_use]
pub fn fault(events: &[Envelope]) -> Option<String> {
    let mut steps: HashMap<StepId, Step> = HashMap::new();
    let mut calls: HashMap<CallId, StepId> = HashMap::new();
    let mut used: HashSet<CallId> = HashSet::new();
    let mut approvals: HashMap<ApprovalId, (CallId, Option<Decision>)> = HashMap::new();
    for (place, envelope) in events.iter().enumerate() {
        let wrong = |what: &str| Some(format!("event {}: {what}: {:?}", place + 1, envelope.event));
        if envelope.seq != Some(place as u64 + 1) {
            return wrong("its number");
        }
        if (place == 0) != matches!(envelope.event, Event::RunStarted { .. }) {
            return wrong("run_started is first and only there");
        }
        if (place + 1 == events.len()) != envelope.event.is_terminal() {
            return wrong("a terminal event is last and only there");
        }
        if let Some(what) = approval_fault(&envelope.event, &steps, &mut approvals) {
            return wrong(what);
        }
        if let Some(what) = step_fault(&envelope.event, &mut steps, &mut calls, &mut used) {
            return wrong(what);
        }
    }
    events.is_empty().then(|| "no events".to_owned())
}

/// A request belongs to a step at work; it is decided once, before the end; and its call is made only if it was
/// approved, after that.
fn approval_fault(
    event: &Event,
    steps: &HashMap<StepId, Step>,
    approvals: &mut HashMap<ApprovalId, (CallId, Option<Decision>)>,
) -> Option<&'static str> {
    let fits = match event {
        Event::ApprovalRequested { step, approval, call, .. } => {
            let at_work = steps.get(step).is_some_and(|step| step.thought && !step.ended);
            at_work && approvals.insert(*approval, (*call, None)).is_none()
        }
        Event::ApprovalDecided { approval, decision, .. } => approvals
            .get_mut(approval)
            .is_some_and(|(_, decided)| decided.replace(*decision).is_none()),
        Event::ToolExecuting { call, .. } => {
            let mut about = approvals.values().filter(|(known, _)| known == call);
            about.all(|(_, decided)| *decided == Some(Decision::Approve))
        }
        event if event.is_terminal() => approvals.values().all(|(_, decided)| decided.is_some()),
        _ => true,
    };
    (!fits).then_some("it does not fit the approvals before it")
}

fn step_fault(
    event: &Event,
    steps: &mut HashMap<StepId, Step>,
    calls: &mut HashMap<CallId, StepId>,
    used: &mut HashSet<CallId>,
) -> Option<&'static str> {
    let is_open =
        |steps: &HashMap<StepId, Step>, step| steps.get(step).is_some_and(|s: &Step| !s.ended);
    let fits = match event {
        Event::AgentStarted { step, .. } => steps.insert(*step, Step::default()).is_none(),
        Event::AgentThinking { step, .. } => {
            let open = is_open(steps, step);
            steps.entry(*step).or_default().thought = true;
            open
        }
        Event::ToolExecuting { step, call, .. } => {
            calls.insert(*call, *step);
            is_open(steps, step) && steps[step].thought && used.insert(*call)
        }
        Event::ToolCompleted { step, call, .. } => {
            calls.remove(call) == Some(*step) && is_open(steps, step)
        }
        Event::AgentCompleted { step, .. } => {
            let was_open = is_open(steps, step) && steps[step].thought;
            steps.entry(*step).or_default().ended = true;
            was_open && !calls.values().any(|of| of == step)
        }
        Event::AnswerRetracted { step, .. } => is_open(steps, step),
        Event::RunResumed { .. } => steps.values().all(|step| step.ended),
        event if event.is_terminal() => steps.values().all(|step| step.ended),
        _ => true,
    };
    (!fits).then_some("it does not fit the step's events before it")
}

#[derive(Debug, Default)]
struct Step {
    thought: bool,
    ended: bool,
}

#[cfg(test)]
#[test]
fn a_log_out_of_order_is_seen() {
    use apex_core::clock::SystemClock;
    use apex_core::id::{Epoch, RequestId, RunId, ThreadId};
    use apex_core::run::RunState;
    let (run, thread, epoch) =
        (RunId::new(&SystemClock), ThreadId::new(&SystemClock), Epoch::new(&SystemClock));
    let log = |events: Vec<Event>| -> Vec<Envelope> {
        let at = apex_core::clock::Timestamp::from_millis(0);
        let envelope = |(place, event)| Envelope {
            v: 1,
            run,
            thread,
            parent: None,
            epoch,
            seq: Some(place),
            at,
            event,
        };
        (1..).zip(events).map(envelope).collect()
    };
    let request_id = RequestId::new(&SystemClock);
    let started = Event::RunStarted {
        request_id,
        state: RunState::Running,
        agents: Vec::new(),
        budget: None,
        trace: None,
    };
    let step = Event::AgentStarted {
        step: StepId(1),
        agent: "a".into(),
        purpose: String::new(),
        attempt: 1,
        needs: Vec::new(),
    };
    let asked = Event::ApprovalRequested {
        step: StepId(1),
        approval: ApprovalId::new(&SystemClock),
        call: CallId(1),
        tool: "t".into(),
        arguments: serde_json::Value::Null,
        digest: "d".into(),
        expires_at: apex_core::clock::Timestamp::from_millis(9),
    };
    let usage = apex_core::money::Usage::NONE;
    let by = apex_core::id::UserId::new(&SystemClock);
    let end = Event::RunCancelled { elapsed_ms: 0, usage, by };
    assert_eq!(fault(&log(vec![started.clone(), end.clone()])), None);
    for wrong in [
        vec![end.clone()],
        vec![started.clone()],
        vec![started.clone(), step.clone(), end.clone()],
        vec![started.clone(), end.clone(), end.clone()],
        vec![started.clone(), asked, end],
    ] {
        assert!(fault(&log(wrong)).is_some());
    }
    assert!(fault(&[]).is_some());
}
