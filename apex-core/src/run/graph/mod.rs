//! The plan of a run and what happened in it: a [`RunGraph`], made of the run's events, as JSON and as a Mermaid
//! flowchart.

mod fold;
mod mermaid;
mod step;
#[cfg(test)]
mod tests;

pub use step::{GraphApproval, GraphCall, GraphStep, StepState};

use super::log::{RunLog, RunView};
use super::state::RunState;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::event::{Envelope, RunBudget};
use crate::id::{RunId, ThreadId};
use crate::money::Usage;
use crate::principal::Principal;
use serde::{Deserialize, Serialize};

/// How many events are read at a time.
const PAGE: usize = 256;

/// The version of the shape that this crate writes.
pub const GRAPH_VERSION: u32 = 1;

/// A run's plan, step by step, and what came of each: who needs whose result, how long it took, what it cost, how
/// often it was begun, and the calls of tools beneath it. It holds no word of what was asked, called or answered but the
/// purposes of the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunGraph {
    /// The version of this shape, 1.
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// Its conversation.
    pub thread: ThreadId,
    /// Its state.
    pub state: RunState,
    /// Which attempt was the last, from 1.
    pub attempt: u32,
    /// When it was put on record.
    pub started_at: Timestamp,
    /// How long it took, waiting included; absent while it has not ended.
    pub elapsed_ms: Option<u64>,
    /// What it used of models: of the run when it has ended, of the steps that have ended before.
    pub usage: Usage,
    /// What it may use, where its log still says so.
    pub budget: Option<RunBudget>,
    /// Whether a part of its log is no longer kept: then what was there only is missing here.
    pub trimmed: bool,
    /// The steps: those that began in the order in which they did, and those that are planned.
    pub steps: Vec<GraphStep>,
}

impl RunGraph {
    /// The graph of a run from its view and the events of it that are kept, oldest first.
    #[must_use]
    pub fn of<'a>(view: &RunView, events: impl IntoIterator<Item = &'a Envelope>) -> Self {
        let mut graph = Self::begin(view);
        for envelope in events {
            graph.apply(envelope);
        }
        graph.finish(view);
        graph
    }

    /// Reads a run's log and makes its graph. At most as much is read as [`RunLimits`](super::RunLimits) keeps of a
    /// log.
    ///
    /// # Errors
    /// `not_found` for a run that this principal may not see.
    pub async fn read(log: &dyn RunLog, principal: &Principal, run: RunId) -> Result<Self> {
        let view = log.view(principal, run).await?;
        let mut graph = Self::begin(&view);
        let mut after = 0;
        while after < view.head {
            let page = log.read(principal, run, after, PAGE).await?;
            graph.trimmed |= page.oldest > after + 1;
            for event in &page.events {
                if event.seq <= view.head {
                    graph.apply(&event.decode()?);
                }
            }
            let Some(last) = page.events.last() else {
                break;
            };
            after = last.seq;
        }
        graph.finish(&view);
        Ok(graph)
    }
}
