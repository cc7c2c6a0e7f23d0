//! The optimizer: computes what the requests cost, what is remarkable and what could be saved.

use super::PASS;
use super::data_helper::Data;
use super::triage::Triage;
use super::usage::Analysed;
use super::wording::{self, About, Figure, Figures, range, requests};
use crate::agent::{Agent, AgentOutput, Then, agent_fn};
use crate::context::Context;
use crate::cost::report::words::{count, dollars, markdown};
use crate::prompt;
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
    text: String,
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
    let note = match word(&input.text, &analysed, &run).await? {
        Some(worded) => worded,
        None => note(&analysed),
    };
    run.think(note).await?;
    Ok(analysed)
}

/// What was found, by rules.
fn note(analysed: &Analysed) -> String {
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
    note
}

/// What was found, in a model's words. It is asked only where there is something to word.
async fn word(question: &str, analysed: &Analysed, run: &Context) -> Result<Option<String>> {
    if analysed.requests == 0 {
        return Ok(None);
    }
    let data = json!({ "question": question });
    wording::by_model(run, "A thought", prompt::OPTIMIZER, data, &figures(analysed)).await
}

fn figures(analysed: &Analysed) -> Vec<Figure> {
    let mut figures = Figures::default();
    let records =
        format!("{} usage records in {} rows", count(analysed.requests), count(analysed.rows));
    let means = "how many of the rows are usage records";
    figures.add("records", means, records, About::Use, true);
    if let Some(recorded) = analysed.recorded_cost_usd {
        let text = format!("a recorded cost of {}", dollars(recorded));
        figures.add("recorded_cost", "what the records say that it cost", text, About::Cost, false);
    }
    if let Some(priced) = analysed.priced_cost_usd {
        let text = format!("a cost of {} at list prices", dollars(priced));
        figures.add("priced_cost", "what it cost at list prices", text, About::Cost, true);
        let text = format!("a possible saving of {}", range(&analysed.saving_usd));
        figures.add("saving", "what could be saved", text, About::Saving, false);
    }
    if analysed.unpriced_requests > 0 {
        let text = format!("{} without a price", requests(analysed.unpriced_requests));
        figures.add("unpriced", "the requests that have no price", text, About::Use, true);
    }
    if let Some(finding) = &analysed.first_finding {
        let text = markdown(finding).trim_end_matches('.').to_owned();
        let means = "a whole sentence on what is most remarkable in the records";
        figures.add("finding", means, text, About::Finding, false);
    }
    figures.0
}
