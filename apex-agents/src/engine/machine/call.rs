//! Calls of tools: asked for, held until they may begin, under way, ended.

use super::journal::Entry;
use super::state::{OpenCall, Status};
use super::step::{Asking, Refusal, flood};
use super::{Effect, Machine, Out, millis};
use crate::context::Reply;
use crate::failure::Failure;
use crate::stored::Stored;
use crate::tool::Terms;
use apex_core::clock::Timestamp;
use apex_core::event::{Event, ToolOutcome};
use apex_core::id::{CallId, StepId};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How many calls one run may make; each may leave its result in the checkpoint.
const MOST_CALLS: u32 = 1_024;

/// A call that an agent asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) tool: String,
    pub(super) arguments: Value,
    pub(super) terms: Terms,
}

/// A call that waits for its turn or for a decision. Its agent waits for it, and asks again when it is run again.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) call: CallId,
    pub(super) step: StepId,
    index: usize,
    place: usize,
    wanted: Wanted,
    /// Whether a node that was lost may have made it.
    in_doubt: bool,
}

impl Machine {
    /// Answers from the journal, or holds the call until it may begin.
    pub(super) fn call(
        &mut self,
        index: usize,
        wanted: Wanted,
        now: Timestamp,
        out: &mut Out,
    ) -> Asking {
        let asked = Entry::call(wanted.tool.clone(), call_digest(&wanted.arguments));
        if let Some(reply) = self.journaled(index, asked)? {
            return Ok(Some(reply));
        }
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        let (step, place) = (open.step, open.place - 1);
        let known = self.state.parts.get(index).map(|part| part.journal.called(place));
        let (begun, approval) = known.unwrap_or_default();
        let held_back = self.is_held_back(&wanted.terms);
        let needs_approval = (wanted.terms.approval || held_back) && !begun && approval.is_none();
        let call = match approval {
            // The one that was to be decided on; once it was made, the next is another one.
            Some(approval) if !begun => approval.call,
            _ if self.state.calls_made >= MOST_CALLS => {
                return Err(flood(&agent, MOST_CALLS, "calls in one run"));
            }
            _ => {
                self.state.calls_made += 1;
                CallId(self.state.calls_made)
            }
        };
        self.ensure_thought(index, out);
        if needs_approval && !wanted.terms.approval {
            self.say_why(index, &wanted.tool, out);
        }
        if needs_approval
            && let Err(failure) = self.request_approval(index, place, call, &wanted, now, out)
        {
            if let Some(part) = self.state.parts.get_mut(index) {
                part.journal.complete(place, Err(failure.clone()));
            }
            out.save = true;
            return Err(Refusal::Call(failure));
        }
        self.held.push(Held { call, step, index, place, wanted, in_doubt: begun });
        out.effects.push(Effect::Hold(call));
        Ok(None)
    }

    /// Begins the held calls that may: those that nobody has to decide on, and of those that must not be made twice
    /// one at a time, in the order in which they were asked for; none for a node that is about to let go of the run.
    pub(super) fn begin_calls(&mut self, now: Timestamp, out: &mut Out) {
        let mut at = 0;
        while let Some(held) = self.held.get(at) {
            if self.may_begin(held) {
                let held = self.held.remove(at);
                self.begin_call(held, now, out);
            } else {
                at += 1;
            }
        }
    }

    fn may_begin(&self, held: &Held) -> bool {
        let known = self.state.parts.get(held.index).map(|part| part.journal.called(held.place));
        let (begun, approval) = known.unwrap_or_default();
        let decided = begun || approval.is_none_or(|approval| approval.approved);
        !self.leaving && decided && (held.wanted.terms.effect.repeatable() || self.once.is_none())
    }

    fn begin_call(&mut self, held: Held, now: Timestamp, out: &mut Out) {
        let Held { call, step, index, place, wanted, in_doubt } = held;
        let Wanted { tool, arguments, terms } = wanted;
        if let Some(part) = self.state.parts.get_mut(index) {
            part.journal.begin(place);
        }
        let run = self.facts.run;
        let Some((agent, open)) = self.open(index) else {
            return;
        };
        open.calls.push(OpenCall { call, tool: tool.clone(), started_at: now, place });
        if !terms.effect.repeatable() {
            self.once = Some(call);
        }
        let arguments_shown = terms.shown;
        out.events.push(Event::ToolExecuting {
            step,
            agent,
            call,
            tool: tool.clone(),
            arguments: arguments_shown,
        });
        let key = format!("{run}:{index}:{place}");
        out.effects.push(Effect::StartCall { step, call, tool, arguments, key, in_doubt });
    }

    pub(super) fn call_ended(
        &mut self,
        call: CallId,
        outcome: ToolOutcome,
        result: Result<Stored, Failure>,
        summary: String,
        now: Timestamp,
        out: &mut Out,
    ) {
        for part in &mut self.state.parts {
            let Status::Open(open) = &mut part.status else {
                continue;
            };
            let Some(at) = open.calls.iter().position(|known| known.call == call) else {
                continue;
            };
            let ended = open.calls.remove(at);
            part.journal.complete(ended.place, result.clone());
            let agent = part.plan.agent.clone();
            out.events.push(completed(open.step, agent, ended, outcome, summary, now));
            out.effects.push(Effect::AnswerCall(call, result.map(Reply::Result)));
            self.once.take_if(|once| *once == call);
            return;
        }
    }

    /// Closes the calls of a step that ends, and lets go of those that have not begun.
    pub(super) fn close_calls(
        &mut self,
        index: usize,
        outcome: ToolOutcome,
        now: Timestamp,
        out: &mut Out,
    ) {
        let Some((agent, open)) = self.open(index) else {
            return;
        };
        let (step, calls) = (open.step, std::mem::take(&mut open.calls));
        for call in calls {
            let summary = match outcome {
                ToolOutcome::Interrupted => "its node was lost before it ended",
                ToolOutcome::Timeout => "its step passed its deadline",
                _ => "stopped with its step",
            };
            self.once.take_if(|once| *once == call.call);
            out.effects.push(Effect::StopCall(call.call));
            let summary = summary.to_owned();
            out.events.push(completed(step, agent.clone(), call, outcome, summary, now));
        }
        self.held.retain(|held| {
            let stays = held.step != step;
            if !stays {
                out.effects.push(Effect::StopCall(held.call));
            }
            stays
        });
    }
}

fn completed(
    step: StepId,
    agent: String,
    call: OpenCall,
    outcome: ToolOutcome,
    summary: String,
    now: Timestamp,
) -> Event {
    Event::ToolCompleted {
        step,
        agent,
        call: call.call,
        tool: call.tool,
        outcome,
        elapsed_ms: millis(call.started_at, now),
        summary,
    }
}

/// By which a call's arguments are known again.
pub(crate) fn call_digest(arguments: &Value) -> String {
    digest(&[arguments.to_string()])
}

/// A digest of these parts, in hexadecimal; where each ends is a part of it when there are several.
pub(super) fn digest(parts: &[String]) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for part in parts {
        if parts.len() > 1 {
            hash.update((part.len() as u64).to_be_bytes());
        }
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
