//! Validation: computes the report's figures a second way, and refuses a report that does not add up.

use super::PASS;
use super::data_helper::Data;
use super::usage::{Analysed, Recomputed};
use crate::agent::{Agent, AgentOutput, agent_fn};
use crate::context::Context;
use crate::cost::report::words::count;
use apex_core::error::Result;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

impl AgentOutput for Recomputed {}

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "validation",
        "Computes every figure a second way and refuses a report that does not add up.",
        run,
    )
    .deadline(PASS)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    data_helper: Data,
    optimizer: Analysed,
}

async fn run(input: Input, run: Context) -> Result<Recomputed> {
    run.think("I read the records again and compare every figure; one that differs ends the run.")
        .await?;
    let arguments = json!({
        "report": input.optimizer.report.artifact,
        "files": input.data_helper.files,
    });
    let recomputed: Recomputed = run.call("recompute_figures", arguments).await?;
    run.think(format!(
        "{} figures over {} rows come out the same.",
        count(recomputed.figures),
        count(recomputed.rows)
    ))
    .await?;
    Ok(recomputed)
}
