use super::call::Wanted;
use super::journal::{Entry, Known};
use super::state::{OpenStep, Status};
use super::{Effect, LONGEST_NOTE, Machine, Out, millis, purpose};
use crate::context::{Ask, Reply};
use crate::failure::Failure;
use crate::text::clip;
use crate::tool::Terms;
use apex_core::clock::Timestamp;
use apex_core::error::Kind;
use apex_core::event::{AgentOutcome, Event, ToolOutcome};
use apex_core::id::StepId;
use apex_core::money::Usage;
use serde_json::Value;

/// How much one step may say and ask for: what is past it is a flood, and ends the step.
const MOST_NOTES: u32 = 256;
const MOST_EFFECTS: usize = 256;

/// What happens within a step: what its agent asks for, and its end.
impl Machine {
    pub(super) fn asked(
        &mut self,
        step: StepId,
        ask: Ask,
        terms: Option<Terms>,
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
            Ask::Call { tool, arguments } => match terms {
                Some(terms) => self.call(index, Wanted { tool, arguments, terms }, now, out),
                None => Ok(None),
            },
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

    /// Records a thought, unless it is one that the agent, run again, says again.
    fn think(&mut self, index: usize, note: &str, out: &mut Out) -> Asking {
        let Some((_, open)) = self.open(index) else {
            return Ok(None);
        };
        open.said += 1;
        if open.said <= open.thoughts {
            return Ok(Some(Reply::Done));
        }
        open.thoughts = open.said;
        self.note(index, note, out)
    }

    pub(super) fn note(&mut self, index: usize, note: &str, out: &mut Out) -> Asking {
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
        self.close_calls(index, calls, now, out);
        if outcome != AgentOutcome::Interrupted {
            self.withdraw(index, out);
        }
        let Some((agent, open)) = self.open(index) else {
            return;
        };
        out.effects.push(Effect::StopAgent(open.step));
        out.events.push(Event::AgentCompleted {
            step: open.step,
            agent,
            outcome,
            elapsed_ms: millis(open.started_at, now),
            output,
            usage: open.models.iter().fold(Usage::NONE, |sum, model| sum.plus(model.usage)),
            models: std::mem::take(&mut open.models),
            plan: Vec::new(),
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
