//! Validation: computes the report's figures a second way, and refuses a report that does not add up.

use super::PASS;
use super::data_helper::Data;
use super::usage::{Analysed, Recomputed};
use crate::agent::{Agent, AgentOutput, agent_fn};
use crate::context::Context;
use crate::cost::report::words::count;
use apex_core::error::{Kind, Result};
use apex_core::event::Payload;
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
    run.think(
        "I read the records again and compare every figure. Where one differs the report is computed once more; a \
         second difference ends the run.",
    )
    .await?;
    let files = &input.data_helper.files;
    let check = |report: Payload| {
        run.call::<Recomputed>(
            "recompute_figures",
            json!({ "report": report.artifact, "files": files }),
        )
    };
    let recomputed = match check(input.optimizer.report).await {
        Err(refused) if refused.kind() == Kind::BadFigures => {
            run.think(format!(
                "I refuse this report, and have it computed once more: {}",
                refused.report().message
            ))
            .await?;
            let again: Analysed = run.call("analyse_usage", json!({ "files": files })).await?;
            let recomputed = check(again.report.clone()).await?;
            run.degraded("The first report did not add up and was computed once more.").await?;
            Recomputed { report: Some(again.report), ..recomputed }
        }
        checked => checked?,
    };
    run.think(format!(
        "{} figures over {} rows come out the same.",
        count(recomputed.figures),
        count(recomputed.rows)
    ))
    .await?;
    Ok(recomputed)
}
