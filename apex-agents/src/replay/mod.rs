//! Runs again, without network: what agents do when everything that they ask for is answered from the record of a run.
//!
//! An engine whose options say [`record`](crate::EngineOptions::record) keeps what each run asked for and got, in order,
//! as an artifact of the run; [`Engine::recording`](crate::Engine::recording) gives it. A [`Replay`] runs the agents of a
//! registry against it: the same agents do the same, and where others differ, the first effect in which they do is
//! named. With other models ([`Replay::models`]) or other instructions it tells what would have been: which effects,
//! which answer, at what cost. Tools are never called.

mod player;
mod recording;

pub use player::Replay;
pub use recording::Recording;
pub(crate) use recording::{RecordedStep, is_name, name};

use apex_core::event::RunResult;
use apex_core::money::Usage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// The answer that it came to; `None` where it came to none.
    pub answer: Option<RunResult>,
    /// The answer of the run that was recorded.
    pub recorded: Option<RunResult>,
    /// Where it differs from the run, in the order in which that was found. A replay without other models ends at the
    /// first.
    pub differences: Vec<Difference>,
    /// How many effects were answered from the record.
    pub answered: usize,
    /// How many questions models were asked anew.
    pub asked: usize,
    /// What models used of which the replay asked, or which answered from the record.
    pub usage: Usage,
    /// What the run that was recorded used.
    pub recorded_usage: Usage,
}

impl Replayed {
    /// The first effect in which it differs from the run.
    #[must_use]
    pub fn first(&self) -> Option<&Difference> {
        self.differences.first()
    }
}

/// One difference between a run and its replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Whose step.
    pub agent: String,
    /// Which of the step's effects, from 1; `None` for what the step made.
    pub effect: Option<usize>,
    /// What it was in the run; `None` when there was none.
    pub was: Option<String>,
    /// What it is in the replay; `None` when there is none.
    pub is: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = "nothing";
        let was = self.was.as_deref().unwrap_or(nothing);
        let is = self.is.as_deref().unwrap_or(nothing);
        match self.effect {
            Some(effect) => write!(f, "{}: effect {effect} was {was} and is {is}", self.agent),
            None => write!(f, "{}: what it made was {was} and is {is}", self.agent),
        }
    }
}
