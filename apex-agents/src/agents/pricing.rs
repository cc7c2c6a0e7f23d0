//! Pricing: what models cost, what would be cheaper, what a change would cost, and which models end.

use super::PASS;
use super::asking;
use super::usage::{EarlierFiles, Priced};
use crate::agent::{Agent, Request, agent_fn};
use crate::context::Context;
use crate::cost::pricing::{PriceQuestion, PriceTopic, english};
use crate::cost::query::calendar;
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use serde_json::json;

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "pricing",
        "Says what models cost, what would be cheaper, what a change would cost and which models end.",
        run,
    )
    .deadline(PASS)
}

async fn run(request: Request, run: Context) -> Result<RunResult> {
    let answered = |text| RunResult { status: RunStatus::Answered, text, artifacts: Vec::new() };
    let Some(question) = read(&request, &run).await? else {
        return Ok(answered(
            "I could not read this as a question about prices. What can be asked, with the names of models:\n\n\
             - What does gpt-4o cost?\n- What is cheaper than gpt-4o?\n\
             - What would last month have cost on gpt-4o-mini?\n- Which of our models will be retired?"
                .to_owned(),
        ));
    };
    let over_records = matches!(question.asked, PriceTopic::Change)
        || (question.asked == PriceTopic::Ending && question.models.is_empty());
    let files = match (over_records, request.files.is_empty()) {
        (false, _) => Vec::new(),
        (true, false) => request.files,
        (true, true) => run.call::<EarlierFiles>("earlier_files", json!({})).await?.files,
    };
    run.think(format!(
        "I answer from list prices{}, as this question: {}",
        if over_records { " and the usage records that are there" } else { "" },
        json!(question)
    ))
    .await?;
    let now = run.now().await?;
    let arguments = json!({ "question": question, "files": files, "now": now });
    let priced: Priced = run.call("price_models", arguments).await?;
    if over_records && priced.requests.is_none() {
        run.degraded("No usage records were there, so the answer is from list prices alone.")
            .await?;
    }
    Ok(answered(priced.text))
}

/// The question: filled in by a model and checked, or read by rules.
async fn read(request: &Request, run: &Context) -> Result<Option<PriceQuestion>> {
    let now = run.now().await?;
    let data = json!({
        "question": request.text,
        "today": calendar::date(calendar::day_of(now)),
        "schema": schemars::schema_for!(PriceQuestion),
    });
    let filled: Option<PriceQuestion> =
        asking::fill(run, prompt::PRICING, &data, PriceQuestion::fault).await?;
    Ok(filled.or_else(|| english::read(&request.text, now)))
}
