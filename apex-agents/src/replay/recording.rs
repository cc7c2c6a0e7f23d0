use crate::agent::Request;
use crate::engine::machine::{Came, Ending, Entry, Journal, State, Status};
use crate::plan::PlanStep;
use crate::stored::Stored;
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::RunResult;
use apex_core::file::ArtifactStore;
use apex_core::id::RunId;
use apex_core::money::Usage;
use apex_core::principal::Principal;
use serde::{Deserialize, Serialize};

/// How the name of a recording begins among a run's artifacts.
const NAME: &str = "recording-";

/// What a recording is called among a run's artifacts. Those with whom a conversation is shared read what its runs made
/// by ids that follow from names, so nobody can guess this one.
pub(crate) fn name(clock: &dyn Clock) -> String {
    format!("{NAME}{}.json", RunId::new(clock))
}

/// Whether an artifact is a recording.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(NAME)
}

/// The version of the format.
const VERSION: u32 = 1;

/// What a run asked for and got. It holds what the user wrote and what models and tools gave back; arguments of calls it
/// knows by their digests alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    version: u32,
    pub(super) run: RunId,
    pub(super) at: Timestamp,
    pub(super) request: Request,
    /// Whether the conversation had begun before it.
    #[serde(default)]
    pub(super) continues: bool,
    pub(super) steps: Vec<RecordedStep>,
    pub(super) usage: Usage,
    pub(super) result: Option<RunResult>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedStep {
    pub(crate) plan: PlanStep,
    /// What it made; `None` when it ended without that.
    pub(crate) output: Option<Stored>,
    pub(crate) journal: Journal,
}

impl Recording {
    /// The record of a run that is about to end.
    pub(crate) fn of(run: RunId, request: &Request, continues: bool, state: &State) -> Self {
        let steps = state.parts.iter().map(|part| RecordedStep {
            plan: part.plan.clone(),
            output: match &part.status {
                Status::Done(stored) => Some(stored.clone()),
                _ => None,
            },
            journal: part.journal.clone(),
        });
        Self {
            version: VERSION,
            run,
            at: state.began_at.unwrap_or(Timestamp::from_millis(0)),
            request: request.clone(),
            continues,
            steps: steps.collect(),
            usage: state.usage,
            result: match &state.ending {
                Some(Ending::Completed(result)) => Some(result.clone()),
                _ => None,
            },
        }
    }

    /// The run that it is of.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// What each step asked for, in order: the agent, and its effects in words.
    pub fn effects(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        self.steps.iter().map(|step| {
            (step.plan.agent.as_str(), step.journal.entries().iter().map(Entry::named).collect())
        })
    }

    /// The whole of a kept recording: what is kept beside it is read in.
    pub(crate) async fn read(
        json: &[u8],
        artifacts: &dyn ArtifactStore,
        principal: &Principal,
    ) -> Result<Self> {
        let mut read: Self = serde_json::from_slice(json).map_err(|error| {
            let told = "the recording is damaged, or of a version that this library does not know";
            Error::new(Kind::BadCheckpoint, "replay.read", told).with_source(error)
        })?;
        if read.version != VERSION {
            let told = format!("the recording is of format {}, not {VERSION}", read.version);
            return Err(Error::new(Kind::BadCheckpoint, "replay.read", told));
        }
        for step in &mut read.steps {
            if let Some(output) = &mut step.output {
                output.take_in(artifacts, principal).await?;
            }
            for entry in step.journal.entries_mut() {
                match entry {
                    Entry::Call { result: Some(Ok(stored)), .. }
                    | Entry::Model { came: Some(Came::Answer(stored)), .. } => {
                        stored.take_in(artifacts, principal).await?;
                    }
                    _ => {}
                }
            }
        }
        Ok(read)
    }
}
