//! The reporter: writes the report, and the answer to the question.

use super::actions::Actions;
use super::data_helper::Data;
use super::question::Topic;
use super::triage::Triage;
use super::usage::{Analysed, Recomputed, Written};
use super::wording;
use crate::agent::{Agent, agent_fn};
use crate::context::Context;
use crate::prompt;
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
    text: String,
    triage: Triage,
    data_helper: Data,
    optimizer: Analysed,
    validation: Recomputed,
    /// Absent where the plan went without.
    actions: Option<Actions>,
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
    let planned = input.actions.unwrap_or_default();
    let next: Vec<String> =
        planned.actions.into_iter().map(|action| action.what).take(NEXT).collect();
    let report = input.validation.report.unwrap_or(input.optimizer.report);
    let arguments = json!({
        "report": report.artifact,
        "asked": asked,
        "limits": input.data_helper.limits,
        "figures_checked": input.validation.figures,
        "next": next,
        "next_said": planned.said,
    });
    let written: Written = run.call("write_report", arguments).await?;
    let lead = match word(&input.text, &written, &run).await? {
        Some(worded) => format!("{worded}\n\n"),
        None => written.lead,
    };
    Ok(RunResult {
        status: RunStatus::Answered,
        text: lead + &written.rest,
        artifacts: written.artifacts,
    })
}

/// The beginning of the answer in a model's words; `None` where there is no model, or none that keeps to the computed
/// figures.
async fn word(question: &str, written: &Written, run: &Context) -> Result<Option<String>> {
    let data = json!({ "question": question, "plain_wording": plain(written) });
    wording::by_model(run, "The answer", prompt::REPORTER, data, &written.figures).await
}

/// A wording by placeholders, from which a model can set out.
fn plain(written: &Written) -> String {
    let required = written.figures.iter().filter(|figure| figure.required);
    let sentences: Vec<String> =
        required.map(|figure| format!("There is {}.", figure.placeholder())).collect();
    sentences.join(" ")
}
