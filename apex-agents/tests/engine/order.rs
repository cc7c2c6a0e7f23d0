use apex_core::event::{Envelope, Event};
use apex_core::id::{CallId, StepId};
use std::collections::{HashMap, HashSet};

/// What is wrong with a run's log, held against the protocol: its numbers, the order of each step's events, and
/// exactly one terminal event at the end.
pub(crate) fn fault(events: &[Envelope]) -> Option<String> {
    let mut steps: HashMap<StepId, Step> = HashMap::new();
    let mut calls: HashMap<CallId, StepId> = HashMap::new();
    let mut used: HashSet<CallId> = HashSet::new();
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
        match &envelope.event {
            Event::AgentStarted { step, .. } => {
                if steps.insert(*step, Step::default()).is_some() {
                    return wrong("a step starts twice");
                }
            }
            Event::AgentThinking { step, .. } => match steps.get_mut(step) {
                Some(open) if !open.ended => open.thought = true,
                _ => return wrong("a thought outside its step"),
            },
            Event::ToolExecuting { step, call, .. } => match steps.get(step) {
                Some(open) if !open.ended && open.thought && used.insert(*call) => {
                    calls.insert(*call, *step);
                }
                _ => return wrong("a call before a thought, outside its step, or twice"),
            },
            Event::ToolCompleted { step, call, .. } => {
                if calls.remove(call) != Some(*step) || steps.get(step).is_none_or(|s| s.ended) {
                    return wrong("a call ends that is not open");
                }
            }
            Event::AgentCompleted { step, .. } => match steps.get_mut(step) {
                Some(open) if !open.ended && open.thought && !calls.values().any(|s| s == step) => {
                    open.ended = true;
                }
                _ => return wrong("a step ends without a thought, with open calls, or twice"),
            },
            Event::RunResumed { .. } => {
                if steps.values().any(|step| !step.ended) {
                    return wrong("the run goes on while a step is open");
                }
            }
            terminal if terminal.is_terminal() => {
                if steps.values().any(|step| !step.ended) {
                    return wrong("the run ends while a step is open");
                }
            }
            _ => {}
        }
    }
    events.is_empty().then(|| "no events".to_owned())
}

#[derive(Debug, Default)]
struct Step {
    thought: bool,
    ended: bool,
}

#[test]
fn a_log_out_of_order_is_seen() {
    use apex_core::clock::SystemClock;
    use apex_core::id::{Epoch, RequestId, RunId, ThreadId};
    use apex_core::run::RunState;
    let (run, thread, epoch) = (
        RunId::new(&SystemClock),
        ThreadId::new(&SystemClock),
        Epoch::new(&SystemClock),
    );
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
    };
    let step = Event::AgentStarted {
        step: StepId(1),
        agent: "a".into(),
        purpose: String::new(),
        attempt: 1,
    };
    let usage = apex_core::money::Usage::NONE;
    let by = apex_core::id::UserId::new(&SystemClock);
    let end = Event::RunCancelled {
        elapsed_ms: 0,
        usage,
        by,
    };
    assert_eq!(fault(&log(vec![started.clone(), end.clone()])), None);
    for wrong in [
        vec![end.clone()],
        vec![started.clone()],
        vec![started.clone(), step.clone(), end.clone()],
        vec![started.clone(), end.clone(), end],
    ] {
        assert!(fault(&log(wrong)).is_some());
    }
    assert!(fault(&[]).is_some());
}
