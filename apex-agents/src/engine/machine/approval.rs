//! Calls that a person has to approve: asked for, decided, lapsed; and a run that waits for nothing else.

use super::call::{Wanted, digest};
use super::journal::Approval;
use super::state::{Status, Waiting};
use super::{Effect, Machine, Out};
use crate::failure::Failure;
use crate::tool::Terms;
use apex_core::clock::Timestamp;
use apex_core::error::Kind;
use apex_core::event::{Decision, Event};
use apex_core::id::{ApprovalId, CallId, StepId, UserId};

/// How many calls of one run may wait for a decision, and the most bytes of arguments that a person is to judge: a
/// snapshot holds them all.
const MOST_PENDING: usize = 16;
const MOST_ARGUMENTS: usize = 4 * 1024;

/// A decision as it reached the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) approval: ApprovalId,
    pub(crate) decision: Decision,
    /// By whom; `None` when nobody decided in time.
    pub(crate) by: Option<UserId>,
}

impl Machine {
    /// Asks for a decision on a call. The request stands until it is decided or lapses, also when the step is done
    /// again by another node.
    pub(super) fn request_approval(
        &mut self,
        index: usize,
        place: usize,
        call: CallId,
        wanted: &Wanted,
        now: Timestamp,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let (tool, shown) = (&wanted.tool, &wanted.terms.shown);
        if shown.to_string().len() > MOST_ARGUMENTS {
            return Err(Failure::new(
                Kind::TooLarge,
                format!(
                    "{tool} needs an approval, and its arguments are larger than the {MOST_ARGUMENTS} bytes that a \
                     person is shown; hand over an artifact"
                ),
            ));
        }
        if self.pending().count() >= MOST_PENDING {
            return Err(Failure::new(
                Kind::RateLimited,
                format!(
                    "{MOST_PENDING} calls of this run wait for a decision; wait for one of them"
                ),
            ));
        }
        let run = self.facts.run;
        let approval = ApprovalId::derived(&[run.as_bytes(), &call.0.to_be_bytes()]);
        let expires_at = now.plus(self.facts.approval_timeout);
        let parts = [&run.to_string(), &call.to_string(), tool, &wanted.arguments.to_string()];
        let digest = digest(&parts.map(String::clone));
        let Some(step) = self.open(index).map(|(_, open)| open.step) else {
            return Ok(());
        };
        if let Some(part) = self.state.parts.get_mut(index) {
            part.journal.request(place, Approval { approval, call, expires_at, approved: false });
        }
        out.events.push(Event::ApprovalRequested {
            step,
            approval,
            call,
            tool: tool.clone(),
            arguments: shown.clone(),
            digest,
            expires_at,
        });
        Ok(())
    }

    /// Takes in that a call gave the run what others wrote: on record with its result, so that whoever goes on with
    /// the run knows it too.
    pub(super) fn read(&mut self, call: CallId, untrusted: bool) {
        let open = self.state.parts.iter().filter_map(|part| match &part.status {
            Status::Open(open) => open.calls.iter().find(|known| known.call == call),
            _ => None,
        });
        if untrusted && let Some(tool) = open.map(|known| known.tool.clone()).next() {
            self.state.untrusted.get_or_insert(tool);
        }
    }

    /// Whether a call on these terms may be what others want: it leaves the run, which has read what they wrote.
    pub(super) fn is_held_back(&self, terms: &Terms) -> bool {
        self.facts.guarded && terms.leaves && self.state.untrusted.is_some()
    }

    /// Tells the user why a call that needs no approval needs one.
    pub(super) fn say_why(&mut self, index: usize, tool: &str, out: &mut Out) {
        let read = self.state.untrusted.clone().unwrap_or_default();
        let note =
            format!("{tool} needs your approval, because I have read what others wrote ({read}).");
        // One note too many is no reason to make the call.
        let _ = self.note(index, &note, out);
    }

    /// Takes in what came of a request; what is decided already stays so.
    pub(super) fn decide(&mut self, decided: Decided, out: &mut Out) {
        let Decided { approval, decision, by } = decided;
        for part in &mut self.state.parts {
            let found = part.journal.pending().find(|(_, _, known)| known.approval == approval);
            let Some((place, tool, call)) =
                found.map(|(at, tool, found)| (at, tool.to_owned(), found.call))
            else {
                continue;
            };
            out.events.push(Event::ApprovalDecided { approval, decision, by });
            if decision == Decision::Approve {
                return part.journal.approve(place);
            }
            let why = match by {
                Some(_) => format!("the call of {tool} was not approved"),
                None => format!(
                    "nobody decided on the call of {tool} in time; it counts as not approved"
                ),
            };
            let failure = Failure::new(Kind::Denied, format!("{why}, and was not made"));
            part.journal.complete(place, Err(failure.clone()));
            if let Some(at) = self.held.iter().position(|held| held.call == call) {
                self.held.remove(at);
                out.effects.push(Effect::AnswerCall(call, Err(failure)));
            }
            return;
        }
    }

    /// Takes back the requests of a step that has ended: nobody waits for them.
    pub(super) fn withdraw(&mut self, index: usize, out: &mut Out) {
        let Some(part) = self.state.parts.get_mut(index) else {
            return;
        };
        let pending: Vec<(usize, ApprovalId)> =
            part.journal.pending().map(|(place, _, approval)| (place, approval.approval)).collect();
        for (place, approval) in pending {
            let over = Failure::new(Kind::Cancelled, "the step has ended");
            part.journal.complete(place, Err(over));
            let decision = Decision::Deny;
            out.events.push(Event::ApprovalDecided { approval, decision, by: None });
        }
    }

    /// When the next request lapses.
    pub(crate) fn next_lapse(&self) -> Option<Timestamp> {
        self.pending().map(|approval| approval.expires_at).min()
    }

    /// The requests whose time is over.
    pub(crate) fn lapsed(&self, now: Timestamp) -> Vec<ApprovalId> {
        let over = self.pending().filter(|approval| approval.expires_at <= now);
        over.map(|approval| approval.approval).collect()
    }

    /// Whether a call of this step waits for a decision.
    pub(crate) fn awaits(&self, step: StepId) -> bool {
        self.state.parts.iter().any(|part| {
            matches!(&part.status, Status::Open(open) if open.step == step)
                && part.journal.pending().next().is_some()
        })
    }

    /// Whether nothing but decisions is left to wait for: no call and no question is under way, and every agent has
    /// asked again for the calls that wait for one.
    pub(crate) fn waits(&self) -> bool {
        let mut waits = false;
        for part in &self.state.parts {
            let Status::Open(open) = &part.status else {
                continue;
            };
            let pending = part.journal.pending().count();
            let held = self.held.iter().filter(|held| held.step == open.step).count();
            let busy = !open.calls.is_empty() || !open.questions.is_empty();
            if busy || pending == 0 || held != pending || open.place < part.journal.len() {
                return false;
            }
            waits = true;
        }
        waits && !self.is_ending()
    }

    /// Gives the run back until somebody decides or a request lapses. Its steps stay open: their agents are run again
    /// from their start, against their journals.
    pub(super) fn wait(&mut self, now: Timestamp, out: &mut Out) {
        self.state.waiting = Some(Waiting { since: now, attempt: self.attempt });
        self.held.clear();
        for part in &mut self.state.parts {
            if let Status::Open(open) = &mut part.status {
                (open.place, open.said) = (0, 0);
                out.effects.push(Effect::StopAgent(open.step));
            }
        }
        out.effects.push(Effect::Wait { until: self.next_lapse() });
    }

    /// Goes on in the steps in which the run waited, if it waited until now; whether it did.
    pub(super) fn go_on(&mut self, now: Timestamp, out: &mut Out) -> bool {
        if !self.has_waited(now) {
            return false;
        }
        for index in 0..self.state.parts.len() {
            if let Some((agent, step)) = self.open(index).map(|(agent, open)| (agent, open.step)) {
                let handed = self.handed(index).unwrap_or_default();
                out.effects.push(Effect::StartAgent { step, agent, handed });
            }
        }
        out.save = true;
        true
    }

    /// Ends the wait, and says whether the run waited until now. A node that was lost after that leaves steps behind
    /// that are interrupted as any others.
    pub(super) fn has_waited(&mut self, now: Timestamp) -> bool {
        let Some(waiting) = self.state.waiting.take() else {
            return false;
        };
        self.state.waited_ms += super::millis(waiting.since, now);
        waiting.attempt == self.attempt
    }

    fn pending(&self) -> impl Iterator<Item = &Approval> {
        let parts = self.state.parts.iter();
        parts.flat_map(|part| part.journal.pending().map(|(_, _, approval)| approval))
    }
}
