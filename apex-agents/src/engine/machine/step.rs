use super::journal::{Entry, Known};
use super::state::{OpenCall, OpenStep, Status};
use super::{Effect, LONGEST_NOTE, Machine, Out, millis, purpose};
use crate::context::{Ask, Reply};
use crate::failure::Failure;
use crate::stored::Stored;
use crate::text::clip;
use apex_core::clock::Timestamp;
use apex_core::error::Kind;
use apex_core::event::{AgentOutcome, Event, ToolOutcome};
use apex_core::id::{CallId, StepId};
use apex_core::money::Usage;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How much one step may say and ask for: what is past it is a flood, and ends the step.
const MOST_NOTES: u32 = 256;
const MOST_EFFECTS: usize = 256;
/// How many calls one run may make; each may leave its result in the checkpoint.
const MOST_CALLS: u32 = 1_024;

/// What happens within a step: what its agent asks for, and its end.
impl Machine {
    pub(super) fn asked(
        &mut self,
        step: StepId,
        ask: Ask,
        shown: Value,
        now: Timestamp,
        out: &mut Out,
    ) {
        let Some(index) = self.state.part_of(step) else {
            let over = Failure::new(Kind::Cancelled, "the step has ended");
            out.effects.push(Effect::Answer(Err(over)));
            return;
        };
        let answer = match ask {
            Ask::Think(note) => self.think(index, &note, out),
            Ask::Degraded(note) => {
                self.state.degrade(&note);
                Ok(Some(Reply::Done))
            }
            Ask::Now(at) => self.journaled(index, Entry::Now(at)),
            Ask::Random(number) => self.journaled(index, Entry::Random(number)),
            Ask::Model { digest, there } => self.question(index, digest, there, now, out),
            Ask::Told { place, what } => self.told(index, place, what, out),
            Ask::Call { tool, arguments } => self.call(index, tool, arguments, shown, now, out),
        };
        match answer {
            Ok(Some(reply)) => out.effects.push(Effect::Answer(Ok(reply))),
            Ok(None) => {}
            Err(Refusal::Call(failure)) => out.effects.push(Effect::Answer(Err(failure))),
            Err(Refusal::Step(failure)) => {
                out.effects.push(Effect::Answer(Err(failure.clone())));
                self.fail(index, failure, now, out);
            }
        }
    }

    fn think(&mut self, index: usize, note: &str, out: &mut Out) -> Asking {
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        if open.notes >= MOST_NOTES {
            return Err(flood(&agent, MOST_NOTES, "notes"));
        }
        open.notes += 1;
        out.effects.push(Effect::Note(Event::AgentThinking {
            step: open.step,
            agent,
            note: clip(note, LONGEST_NOTE).into_owned(),
        }));
        Ok(Some(Reply::Done))
    }

    /// Answers from the journal, or enters the effect there. What is new is answered with what was offered.
    pub(super) fn journaled(&mut self, index: usize, asked: Entry) -> Asking {
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        if open.place >= MOST_EFFECTS {
            return Err(flood(&agent, MOST_EFFECTS, "effects"));
        }
        let place = open.place;
        open.place += 1;
        let offered = asked.clone();
        let Some(part) = self.state.parts.get_mut(index) else {
            return Ok(None);
        };
        let entry = match part.journal.ask(place, asked) {
            Known::New => &offered,
            Known::Before(entry) => entry,
            Known::Other(told) => return Err(diverged(&agent, &told)),
        };
        Ok(match entry {
            Entry::Now(at) => Some(Reply::Time(*at)),
            Entry::Random(number) => Some(Reply::Number(*number)),
            Entry::Call { result: Some(Ok(stored)), .. } => Some(Reply::Result(stored.clone())),
            Entry::Call { result: Some(Err(failure)), .. } => {
                return Err(Refusal::Call(failure.clone()));
            }
            Entry::Model { came: Some(came), .. } => Some(Reply::Came(came.clone())),
            Entry::Call { result: None, .. } | Entry::Model { came: None, .. } => None,
        })
    }

    fn call(
        &mut self,
        index: usize,
        tool: String,
        arguments: Value,
        shown: Value,
        now: Timestamp,
        out: &mut Out,
    ) -> Asking {
        let asked = Entry::Call { tool: tool.clone(), digest: digest(&arguments), result: None };
        if let Some(reply) = self.journaled(index, asked)? {
            return Ok(Some(reply));
        }
        if self.state.calls_made >= MOST_CALLS {
            let agent = self.open(index).map(|(agent, _)| agent).unwrap_or_default();
            return Err(flood(&agent, MOST_CALLS, "calls in one run"));
        }
        self.state.calls_made += 1;
        let call = CallId(self.state.calls_made);
        self.ensure_thought(index, out);
        let run = self.facts.run;
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        let place = open.place - 1;
        open.calls.push(OpenCall { call, tool: tool.clone(), started_at: now, place });
        out.events.push(Event::ToolExecuting {
            step: open.step,
            agent,
            call,
            tool: tool.clone(),
            arguments: shown,
        });
        out.effects.push(Effect::StartCall {
            step: open.step,
            call,
            tool,
            arguments,
            key: format!("{run}:{index}:{place}"),
        });
        Ok(None)
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
            return;
        }
    }

    /// Closes a step that is open, its calls first.
    pub(super) fn close(
        &mut self,
        index: usize,
        outcome: AgentOutcome,
        output: Value,
        calls: ToolOutcome,
        now: Timestamp,
        out: &mut Out,
    ) {
        self.ensure_thought(index, out);
        self.give_up_questions(index);
        let Some((agent, open)) = self.open(index) else {
            return;
        };
        for call in std::mem::take(&mut open.calls) {
            let summary = match calls {
                ToolOutcome::Interrupted => "its node was lost before it ended",
                ToolOutcome::Timeout => "its step passed its deadline",
                _ => "stopped with its step",
            };
            out.effects.push(Effect::StopCall(call.call));
            out.events.push(completed(
                open.step,
                agent.clone(),
                call,
                calls,
                summary.to_owned(),
                now,
            ));
        }
        out.effects.push(Effect::StopAgent(open.step));
        out.events.push(Event::AgentCompleted {
            step: open.step,
            agent,
            outcome,
            elapsed_ms: millis(open.started_at, now),
            output,
            usage: open.models.iter().fold(Usage::NONE, |sum, model| sum.plus(model.usage)),
            models: std::mem::take(&mut open.models),
        });
    }

    /// Lets the step say its purpose if its agent has said nothing yet.
    pub(super) fn ensure_thought(&mut self, index: usize, out: &mut Out) {
        let Some(note) = self.state.parts.get(index).map(|part| purpose(&self.facts, part)) else {
            return;
        };
        if let Some((agent, open)) = self.open(index)
            && open.notes == 0
        {
            open.notes = 1;
            out.events.push(Event::AgentThinking { step: open.step, agent, note });
        }
    }

    pub(super) fn open(&mut self, index: usize) -> Option<(String, &mut OpenStep)> {
        let part = self.state.parts.get_mut(index)?;
        match &mut part.status {
            Status::Open(open) => Some((part.plan.agent.clone(), open)),
            _ => None,
        }
    }
}

/// What comes of an ask: an answer, none yet, or a refusal.
pub(super) type Asking = Result<Option<Reply>, Refusal>;

pub(super) enum Refusal {
    /// The agent is told, and goes on.
    Call(Failure),
    /// The step ends.
    Step(Failure),
}

pub(super) fn flood(agent: &str, most: impl std::fmt::Display, what: &str) -> Refusal {
    Refusal::Step(Failure::new(
        Kind::AgentFailed,
        format!("{agent} asked for more than {most} {what}, and was stopped"),
    ))
}

fn diverged(agent: &str, told: &str) -> Refusal {
    Refusal::Step(Failure::new(
        Kind::AgentFailed,
        format!("{agent} could not go on after a crash: {told}"),
    ))
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

fn digest(arguments: &Value) -> String {
    use std::fmt::Write as _;
    Sha256::digest(arguments.to_string()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
