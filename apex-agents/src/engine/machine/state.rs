use super::budget::Spent;
use super::journal::Journal;
use crate::failure::Failure;
use crate::plan::PlanStep;
use crate::stored::Stored;
use crate::text::clip;
use apex_core::budget::Charge;
use apex_core::clock::Timestamp;
use apex_core::event::{ModelUse, RunResult};
use apex_core::id::{CallId, ReservationId, StepId, UserId};
use apex_core::money::Usage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest answer, in bytes, and its longest list of artifacts: together with the notes on what was degraded
/// they fit one envelope.
const LONGEST_ANSWER: usize = 24 * 1024;
const MOST_ARTIFACTS: usize = 8;
const MOST_DEGRADED: usize = 20;
const LONGEST_DEGRADED: usize = 400;

/// Everything that a run has to remember: what a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// When its first attempt began; `None` before.
    pub(crate) began_at: Option<Timestamp>,
    pub(crate) steps_made: u32,
    pub(crate) calls_made: u32,
    /// The plan and how far it is; the first part is the agent that the run begins with.
    pub(crate) parts: Vec<Part>,
    pub(crate) degraded: Vec<String>,
    /// What its steps used of models, lost attempts included.
    #[serde(default = "none")]
    pub(crate) usage: Usage,
    /// How many questions it put to models.
    #[serde(default)]
    pub(crate) questions: u32,
    /// What counts against its budget.
    #[serde(default)]
    pub(crate) spent: Spent,
    /// Since when it waits for decisions alone, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    /// For how long it did, in milliseconds.
    #[serde(default)]
    pub(crate) waited_ms: u64,
    /// The step that was under way when its node was lost or let go of the run.
    pub(crate) interrupted: Option<StepId>,
    /// The first tool that gave it what others wrote, if one did. What it does since may be their wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) untrusted: Option<String>,
    /// What its plan made of the user's words, where it made something of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) question: Option<String>,
    /// How it ends, once that is certain. From here on nothing else can come of it.
    pub(crate) ending: Option<Ending>,
}

/// A run that was given back until somebody decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) since: Timestamp,
    /// The attempt that gave it back. Another one means that its node was lost after that.
    pub(crate) attempt: u32,
}

/// One step of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) plan: PlanStep,
    pub(crate) status: Status,
    /// What its agent has asked for, until it is done.
    pub(crate) journal: Journal,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Pending,
    Open(OpenStep),
    Done(Stored),
    /// It ended without a result, and the run goes on without it.
    Missing,
}

/// A step under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenStep {
    pub(crate) step: StepId,
    pub(crate) started_at: Timestamp,
    pub(crate) notes: u32,
    /// How many thoughts of its agent are on record, and how many the agent has said since it began or began again.
    #[serde(default)]
    pub(crate) thoughts: u32,
    #[serde(skip)]
    pub(crate) said: u32,
    /// The place in the journal of the next effect that its agent asks for.
    pub(crate) place: usize,
    pub(crate) calls: Vec<OpenCall>,
    /// The questions to models that are under way.
    #[serde(default)]
    pub(crate) questions: Vec<OpenQuestion>,
    /// What the step used of which model.
    #[serde(default)]
    pub(crate) models: Vec<ModelUse>,
}

/// A call under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenCall {
    pub(crate) call: CallId,
    pub(crate) tool: String,
    pub(crate) started_at: Timestamp,
    /// Its place in the journal.
    pub(crate) place: usize,
}

/// A question to a model under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenQuestion {
    /// Its place in the journal.
    pub(crate) place: usize,
    pub(crate) asked_at: Timestamp,
    /// The models that are being asked, by provider and name.
    pub(crate) asking: Vec<(String, String)>,
    /// What it may use at most, as far as that is not settled.
    #[serde(default)]
    pub(crate) reserved: Charge,
    /// The same of its user's budget, by reservation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) of_user: Vec<(ReservationId, Charge)>,
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    Completed(RunResult),
    Failed(Failure),
    Cancelled(UserId),
}

/// The use of a run that was saved before there was any.
fn none() -> Usage {
    Usage::NONE
}

impl State {
    /// A run that begins with `entry`.
    pub(crate) fn new(entry: &str) -> Self {
        Self {
            began_at: None,
            steps_made: 0,
            calls_made: 0,
            parts: vec![Part::new(PlanStep::new(entry))],
            degraded: Vec::new(),
            usage: Usage::NONE,
            questions: 0,
            spent: Spent::default(),
            waiting: None,
            waited_ms: 0,
            interrupted: None,
            untrusted: None,
            question: None,
            ending: None,
        }
    }

    pub(crate) fn degrade(&mut self, note: &str) {
        let note = clip(note, LONGEST_DEGRADED);
        if self.degraded.len() < MOST_DEGRADED && !self.degraded.iter().any(|known| *known == note)
        {
            self.degraded.push(note.into_owned());
        }
    }

    /// For how long it was worked on; waiting for a decision is no work.
    pub(crate) fn worked(&self, now: Timestamp) -> Duration {
        let all = self.began_at.map_or(Duration::ZERO, |began| now.since(began));
        let waits =
            self.waiting.as_ref().map_or(Duration::ZERO, |waiting| now.since(waiting.since));
        all.saturating_sub(Duration::from_millis(self.waited_ms)).saturating_sub(waits)
    }

    /// It without its parts and what was degraded.
    pub(crate) fn rest(&self) -> Self {
        Self {
            began_at: self.began_at,
            steps_made: self.steps_made,
            calls_made: self.calls_made,
            parts: Vec::new(),
            degraded: Vec::new(),
            usage: self.usage,
            questions: self.questions,
            spent: self.spent.clone(),
            waiting: self.waiting.clone(),
            waited_ms: self.waited_ms,
            interrupted: self.interrupted,
            untrusted: self.untrusted.clone(),
            question: self.question.clone(),
            ending: self.ending.clone(),
        }
    }

    /// What cannot be in a state that a run can go on from, if anything is: each part hands results on forwards, and
    /// what is open has its place in its part's journal and a number of its own.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let (mut steps, mut calls) = (BTreeSet::new(), BTreeSet::new());
        if self.parts.is_empty() {
            return Some("it has no part".to_owned());
        }
        for part in &self.parts {
            let agent = part.plan.agent.as_str();
            if let Some(need) = part.plan.needs.iter().find(|need| !seen.contains(need.as_str())) {
                return Some(format!("{agent} needs {need}, which is no earlier part"));
            }
            if !seen.insert(agent) {
                return Some(format!("{agent} has two parts"));
            }
            let Status::Open(open) = &part.status else {
                continue;
            };
            if open.step.0 > self.steps_made || !steps.insert(open.step) {
                return Some(format!("{} was not begun", open.step));
            }
            for call in &open.calls {
                if call.call.0 > self.calls_made || !calls.insert(call.call) {
                    return Some(format!("{} was not asked for", call.call));
                }
            }
            let places = open.calls.iter().map(|call| call.place);
            let places = places.chain(open.questions.iter().map(|question| question.place));
            if let Some(place) = places.max().filter(|place| *place >= part.journal.len()) {
                return Some(format!("effect {place} of {agent} is in no journal"));
            }
        }
        None
    }

    /// The part whose open step this is.
    pub(crate) fn part_of(&mut self, step: StepId) -> Option<usize> {
        self.parts
            .iter()
            .position(|part| matches!(&part.status, Status::Open(open) if open.step == step))
    }
}

impl OpenStep {
    pub(crate) fn new(step: StepId, started_at: Timestamp) -> Self {
        Self {
            step,
            started_at,
            notes: 0,
            thoughts: 0,
            said: 0,
            place: 0,
            calls: Vec::new(),
            questions: Vec::new(),
            models: Vec::new(),
        }
    }
}

impl Part {
    pub(crate) fn new(plan: PlanStep) -> Self {
        Self { plan, status: Status::Pending, journal: Journal::default() }
    }
}

impl Ending {
    /// The end with an answer, cut to what an envelope can hold.
    pub(crate) fn answered(mut result: RunResult) -> Self {
        result.text = clip(&result.text, LONGEST_ANSWER).into_owned();
        result.artifacts.truncate(MOST_ARTIFACTS);
        Self::Completed(result)
    }

    /// What the conversation says of it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Completed(result) => result.text.clone(),
            Self::Failed(failure) => failure.told(),
            Self::Cancelled(_) => "Cancelled. Ask again to start over.".to_owned(),
        }
    }
}
