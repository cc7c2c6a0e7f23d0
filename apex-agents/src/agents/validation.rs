//! Validation: computes the report's figures a second way, and refuses a report that does not add up.

use super::PASS;
use super::data_helper::Data;
use super::usage::{Analysed, Recomputed};
use super::wording::{self, About, Figures};
use crate::agent::{Agent, AgentOutput, agent_fn};
use crate::context::Context;
use crate::cost::report::words::{count, markdown};
use crate::prompt;
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
    text: String,
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
            let why = refused.report().message;
            let told = match word(&input.text, &why, &run).await? {
                Some(worded) => worded,
                None => format!("I refuse this report, and have it computed once more: {why}"),
            };
            run.think(told).await?;
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

/// Why a report is refused, in a model's words.
async fn word(question: &str, why: &str, run: &Context) -> Result<Option<String>> {
    let mut figures = Figures::default();
    let text = markdown(why).trim_end_matches('.').to_owned();
    let means = "a whole sentence on which figure differs";
    figures.add("difference", means, text, About::Finding, true);
    let data = json!({ "question": question });
    wording::by_model(run, "A thought", prompt::VALIDATION, data, &figures.0).await
}
