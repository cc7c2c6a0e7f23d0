//! The reporter: writes the report, and the answer to the question.

use super::actions::Actions;
use super::data_helper::Data;
use super::question::Topic;
use super::triage::Triage;
use super::usage::{Analysed, Recomputed, Written};
use crate::agent::{Agent, agent_fn};
use crate::context::Context;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// How many of the plan's steps the answer tells; the report has all.
const NEXT: usize = 3;

pub(super) fn agent() -> impl Agent {
    agent_fn("reporter", "Answers the question and writes the report.", run)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    triage: Triage,
    data_helper: Data,
    optimizer: Analysed,
    validation: Recomputed,
    actions: Actions,
}

async fn run(input: Input, run: Context) -> Result<RunResult> {
    let asked = input.triage.asked;
    run.think(format!(
        "I write the report in three forms and answer {}, with figures of the computed report only.",
        asked.named()
    ))
    .await?;
    if asked == Topic::Forecast {
        run.degraded("A forecast was asked for; this team tells what was spent, not what will be.")
            .await?;
    }
    let next: Vec<String> =
        input.actions.actions.into_iter().map(|action| action.what).take(NEXT).collect();
    let arguments = json!({
        "report": input.optimizer.report.artifact,
        "asked": asked,
        "limits": input.data_helper.limits,
        "figures_checked": input.validation.figures,
        "next": next,
    });
    let written: Written = run.call("write_report", arguments).await?;
    Ok(RunResult {
        status: RunStatus::Answered,
        text: written.answer,
        artifacts: written.artifacts,
    })
}
