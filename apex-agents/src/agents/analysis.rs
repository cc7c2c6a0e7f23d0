//! Analysis: one question over usage records, as a typed query.

use super::PASS;
use super::asking;
use super::usage::{self, EarlierFiles, Looked};
use crate::agent::{Agent, Request, agent_fn};
use crate::context::Context;
use crate::cost::query::{Query, calendar, english};
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use serde_json::json;

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "analysis",
        "Answers one question over usage records: grouped, filtered, ordered, over time.",
        run,
    )
    .deadline(PASS)
}

async fn run(request: Request, run: Context) -> Result<RunResult> {
    let Some(query) = read(&request, &run).await? else {
        return Ok(RunResult {
            status: RunStatus::Answered,
            text: "I could not read this as one question over usage records. What can be asked: a figure (cost, \
                   requests, tokens), by one or two of model, provider, user, session, day, week, month, hour, \
                   weekday, status or tier, of certain models, users or times.\n\n\
                   - Top 5 users by cost in March\n- Compare gpt-4o with claude by day\n\
                   - How many requests failed per model?"
                .to_owned(),
            artifacts: Vec::new(),
        });
    };
    let files = match request.files.is_empty() {
        false => request.files,
        true => run.call::<EarlierFiles>("earlier_files", json!({})).await?.files,
    };
    let of = if files.is_empty() { "what the runs here asked of models" } else { "the files" };
    run.think(format!("I count over {of}, as this query: {}", json!(query))).await?;
    let looked: Looked = run.call("query_usage", json!({ "files": files, "query": query })).await?;
    let evidence = &looked.answer.evidence;
    if evidence.rows == evidence.rejected {
        return Ok(RunResult {
            status: RunStatus::InsufficientData,
            text: usage::nothing_to_read(&looked),
            artifacts: Vec::new(),
        });
    }
    Ok(RunResult {
        status: RunStatus::Answered,
        text: looked.answer.to_markdown(),
        artifacts: Vec::new(),
    })
}

/// The query: filled in by a model and checked, or read by rules.
async fn read(request: &Request, run: &Context) -> Result<Option<Query>> {
    let now = run.now().await?;
    let data = json!({
        "question": request.text,
        "today": calendar::date(calendar::day_of(now)),
        "schema": schemars::schema_for!(Query),
    });
    let filled: Option<Query> = asking::fill(run, prompt::ANALYSIS, &data, Query::fault).await?;
    Ok(filled.or_else(|| english::read(&request.text, now)))
}
