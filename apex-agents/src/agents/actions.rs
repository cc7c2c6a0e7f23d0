//! Actions: what to do, in which order.

use super::triage::Triage;
use super::usage::{Analysed, Recomputed};
use crate::agent::{Agent, AgentOutput, agent_fn};
use crate::context::Context;
use crate::cost::report::Action;
use crate::cost::report::words::dollars;
use apex_core::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An ordered plan.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Actions {
    pub(super) actions: Vec<Action>,
}

impl AgentOutput for Actions {}

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "actions",
        "Puts what follows from the findings in order: what, where, effort, risk, how to verify.",
        run,
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    triage: Triage,
    optimizer: Analysed,
    /// Nothing follows from figures that did not come out the same twice.
    validation: Recomputed,
}

async fn run(input: Input, run: Context) -> Result<Actions> {
    let report = input.validation.report.unwrap_or(input.optimizer.report);
    let arguments = json!({ "report": report.artifact });
    let planned: Actions = run.call("plan_actions", arguments).await?;
    let asked = input.triage.asked.named();
    run.think(match planned.actions.first() {
        None => format!("Asked was {asked}; nothing has to be done about it."),
        Some(first) => {
            let saves = first.saving_usd.map(|saving| format!(", worth {}", dollars(saving)));
            let (steps, what) = (planned.actions.len(), &first.what);
            format!("{steps} steps follow, the first: {what}{}.", saves.unwrap_or_default())
        }
    })
    .await?;
    Ok(planned)
}
