use super::journal::Entry;
use super::state::OpenQuestion;
use super::step::{Asking, Refusal, flood};
use super::{LONGEST_NOTE, Machine, Out};
use crate::context::{Came, Reply, Telling};
use crate::text::clip;
use apex_core::budget::Charge;
use apex_core::clock::Timestamp;
use apex_core::event::{Event, ModelUse};
use apex_core::id::{AttemptId, ReservationId, RunId, StepId};
use apex_core::money::Usage;
use apex_core::usage::{Attempt, AttemptOutcome};

/// How many questions to models one run may ask.
const MOST_QUESTIONS: u32 = 256;

/// A question to a model whose node was lost while it was under way: it may have been answered and billed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lost {
    step: StepId,
    place: usize,
    asked_at: Timestamp,
    provider: String,
    model: String,
    /// What was reserved of its user's budget for the question, and may have been used.
    pub(crate) reserved: Vec<(ReservationId, Charge)>,
}

impl Lost {
    /// As it is recorded; the same each time, so that it is recorded once.
    pub(crate) fn attempt(self, run: RunId, now: Timestamp) -> Attempt {
        let step = self.step.to_string();
        let place = self.place.to_string();
        let parts = [
            run.as_bytes().as_slice(),
            step.as_bytes(),
            place.as_bytes(),
            self.provider.as_bytes(),
            self.model.as_bytes(),
        ];
        Attempt {
            attempt: AttemptId::derived(&parts),
            run: Some(run),
            step: Some(self.step),
            number: 1,
            at: self.asked_at,
            took_ms: super::millis(self.asked_at, now),
            provider: self.provider,
            model: self.model,
            outcome: AttemptOutcome::Lost,
            reason: None,
            request: None,
            service_tier: None,
            cache_write_tokens: 0,
            usage: Usage::UNKNOWN,
            estimated: true,
        }
    }
}

/// Questions to models: on record before they are asked, with what they cost as soon as it is known.
impl Machine {
    /// Answers from the journal, or lets the question be asked.
    pub(super) fn question(
        &mut self,
        index: usize,
        digest: String,
        there: bool,
        now: Timestamp,
        out: &mut Out,
    ) -> Asking {
        if let Some(known) = self.journaled(index, Entry::model(digest))? {
            return Ok(Some(known));
        }
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        let place = open.place - 1;
        if !there {
            if let Some(part) = self.state.parts.get_mut(index) {
                part.journal.answer(place, Came::Nothing);
            }
            return Ok(Some(Reply::Came(Came::Nothing)));
        }
        let reserved = Charge::default();
        let of_user = Vec::new();
        let question = OpenQuestion { place, asked_at: now, asking: Vec::new(), reserved, of_user };
        open.questions.push(question);
        self.state.questions += 1;
        if self.state.questions > MOST_QUESTIONS {
            return Err(flood(&agent, MOST_QUESTIONS, "answers of models in one run"));
        }
        self.ensure_thought(index, out);
        out.save = true;
        Ok(Some(Reply::Go(place)))
    }

    /// Takes in how a question goes.
    pub(super) fn told(
        &mut self,
        index: usize,
        place: usize,
        what: Telling,
        out: &mut Out,
    ) -> Asking {
        if let Telling::Thought(note) = &what {
            return self.note(index, note, out);
        }
        if let Telling::Left(balances) = &what {
            self.warn_of_user(balances, out);
            return Ok(Some(Reply::Done));
        }
        out.save = true;
        if let Telling::Begun { bound, .. } = &what {
            self.check_budget(Charge::of(*bound, Charge::default())).map_err(Refusal::Call)?;
        }
        let Some((agent, open)) = self.open(index) else {
            return Ok(None);
        };
        let Some(at) = open.questions.iter().position(|question| question.place == place) else {
            return Ok(Some(Reply::Done));
        };
        let step = open.step;
        match what {
            Telling::Thought(_) | Telling::Left(_) => {}
            Telling::Begun { provider, model, bound, reservation } => {
                let note = format!("I ask {model} ({provider}).");
                if let Some(question) = open.questions.get_mut(at) {
                    question.asking.push((provider, model));
                    let bound = Charge::of(bound, Charge::default());
                    question.reserved = question.reserved.plus(bound);
                    question.of_user.extend(reservation.map(|id| (id, bound)));
                }
                open.notes += 1;
                let note = clip(&note, LONGEST_NOTE).into_owned();
                out.events.push(Event::AgentThinking { step, agent, note });
            }
            Telling::Ended { provider, model, answered, usage, bound, reservation, retracted } => {
                let bound = Charge::of(bound, Charge::default());
                if let Some(question) = open.questions.get_mut(at) {
                    let is_it =
                        |asking: &(String, String)| *asking == (provider.clone(), model.clone());
                    let known = question.asking.iter().position(is_it);
                    known.map(|known| question.asking.remove(known));
                    question.reserved = question.reserved.less(bound);
                    question.of_user.retain(|(id, _)| Some(*id) != reservation);
                }
                let charged = &mut self.state.spent.charged;
                *charged = charged.plus(Charge::of(usage, bound));
                self.spend(index, provider, model, answered, usage);
                if let Some(reason) = retracted {
                    let reason = clip(&reason, LONGEST_NOTE).into_owned();
                    out.events.push(Event::AnswerRetracted { step, reason });
                }
            }
            Telling::Came(came) => {
                let over = open.questions.remove(at);
                let charged = &mut self.state.spent.charged;
                *charged = charged.plus(over.reserved);
                if let Some(part) = self.state.parts.get_mut(index) {
                    part.journal.answer(place, came);
                }
            }
        }
        Ok(Some(Reply::Done))
    }

    /// Counts what an attempt used.
    fn spend(
        &mut self,
        index: usize,
        provider: String,
        model: String,
        answered: bool,
        usage: Usage,
    ) {
        self.state.usage = self.state.usage.plus(usage);
        let Some((_, open)) = self.open(index) else {
            return;
        };
        let known =
            open.models.iter_mut().find(|known| known.provider == provider && known.model == model);
        let answers = u32::from(answered);
        match known {
            Some(known) => {
                known.attempts += 1;
                known.answers += answers;
                known.usage = known.usage.plus(usage);
            }
            None => open.models.push(ModelUse { provider, model, attempts: 1, answers, usage }),
        }
    }

    /// Counts the questions that a step leaves under way: they are billed, and nobody will know how much.
    pub(super) fn give_up_questions(&mut self, index: usize) {
        let open = self.open(index).map(|(_, open)| std::mem::take(&mut open.questions));
        for question in open.iter().flatten() {
            let charged = &mut self.state.spent.charged;
            *charged = charged.plus(question.reserved);
        }
        for (provider, model) in open.into_iter().flatten().flat_map(|question| question.asking) {
            self.spend(index, provider, model, false, Usage::UNKNOWN);
        }
    }

    /// Has the questions recorded that were under way on a node that was lost.
    pub(super) fn record_lost(&mut self, out: &mut Out) {
        let mut lost = Vec::new();
        for index in 0..self.state.parts.len() {
            let Some((_, open)) = self.open(index) else {
                continue;
            };
            for question in &open.questions {
                // What was reserved is known of all together: it goes with the first.
                let reserved = std::iter::once(question.of_user.clone());
                let reserved = reserved.chain(std::iter::repeat(Vec::new()));
                let asking = question.asking.iter().zip(reserved);
                lost.extend(asking.map(|((provider, model), reserved)| Lost {
                    step: open.step,
                    place: question.place,
                    asked_at: question.asked_at,
                    provider: provider.clone(),
                    model: model.clone(),
                    reserved,
                }));
            }
        }
        if !lost.is_empty() {
            out.effects.push(super::Effect::RecordLost(lost));
        }
    }
}
