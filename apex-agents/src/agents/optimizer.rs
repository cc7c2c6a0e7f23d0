//! The optimizer: computes what the requests cost, what is remarkable and what could be saved.

use super::PASS;
use super::data_helper::Data;
use super::triage::Triage;
use super::usage::Analysed;
use super::wording::range;
use crate::agent::{Agent, AgentOutput, Then, agent_fn};
use crate::context::Context;
use crate::cost::report::words::{count, dollars};
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

impl AgentOutput for Analysed {
    fn then(&self) -> Then {
        match self.requests {
            0 => Then::Answer(RunResult {
                status: RunStatus::InsufficientData,
                text: format!(
                    "## The data does not suffice\n\nNone of {} rows is a usage record: {}.",
                    count(self.rows),
                    self.first_rejection.as_deref().unwrap_or("the files are empty")
                ),
                artifacts: Vec::new(),
            }),
            _ => Then::HandOn,
        }
    }
}

pub(super) fn agent() -> impl Agent {
    agent_fn("optimizer", "Computes costs, findings and savings from the usage records.", run)
        .deadline(PASS)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    triage: Triage,
    data_helper: Data,
}

async fn run(input: Input, run: Context) -> Result<Analysed> {
    let asked = input.triage.asked.named();
    run.think(format!(
        "To say {asked} I read every record once: its price on its day, sums by model, user and day, what is \
         remarkable, and what each lever would save of what the levers before it leave."
    ))
    .await?;
    let arguments = json!({ "files": input.data_helper.files });
    let analysed: Analysed = run.call("analyse_usage", arguments).await?;
    let mut note =
        format!("{} of {} rows are usage records.", count(analysed.requests), count(analysed.rows));
    if let Some(recorded) = analysed.recorded_cost_usd {
        note.push_str(&format!(" Recorded: {}.", dollars(recorded)));
    }
    match analysed.priced_cost_usd {
        Some(priced) => note.push_str(&format!(
            " At list prices: {}, {} requests unpriced. Could be saved: {}.",
            dollars(priced),
            count(analysed.unpriced_requests),
            range(&analysed.saving_usd)
        )),
        None => note.push_str(" None of them could be priced."),
    }
    if let Some(finding) = &analysed.first_finding {
        note.push_str(&format!(" First of all: {finding}"));
    }
    run.think(note).await?;
    Ok(analysed)
}
