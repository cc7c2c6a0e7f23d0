//! The data helper: what is missing in the data, for what, and where to get it.

use super::sources::Guide;
use super::triage::{LookedAt, Sufficiency, Triage};
use super::wording::{self, About, Figures};
use crate::agent::{Agent, AgentOutput, Then, agent_fn};
use crate::context::Context;
use crate::cost::Inspection;
use crate::cost::report::words::markdown;
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use apex_core::id::FileId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt::Write as _;

/// What the analysis can work with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Data {
    /// The files that have usage records.
    pub(super) files: Vec<FileId>,
    /// What cannot be said from them, and why.
    pub(super) limits: Vec<String>,
    /// What to tell the user where nothing can be computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing: Option<String>,
}

impl AgentOutput for Data {
    fn then(&self) -> Then {
        match &self.missing {
            None => Then::HandOn,
            Some(text) => Then::Answer(RunResult {
                status: RunStatus::InsufficientData,
                text: text.clone(),
                artifacts: Vec::new(),
            }),
        }
    }
}

pub(super) fn agent() -> impl Agent {
    agent_fn("data_helper", "Says what is missing in the data and where to get it.", run)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    text: String,
    triage: Triage,
}

async fn run(input: Input, run: Context) -> Result<Data> {
    let files = input.triage.files;
    if input.triage.data == Sufficiency::Insufficient {
        run.think(
            "Nothing can be computed from what is there; I look up where such data comes from.",
        )
        .await?;
        let fields = missing_fields(&files);
        let guide: Guide = run.call("export_guide", json!({ "fields": fields })).await?;
        let mut missing = String::from("## The data does not suffice\n\n");
        if let Some(worded) = word(&input.text, &files, &fields, &guide, &run).await? {
            let _ = write!(missing, "{worded}\n\n");
        }
        missing.push_str(&told(&files, &guide));
        return Ok(Data { files: Vec::new(), limits: Vec::new(), missing: Some(missing) });
    }
    let limits = limits(&files);
    for limit in &limits {
        run.degraded(limit).await?;
    }
    let usable: Vec<FileId> = files
        .iter()
        .filter(|looked| looked.found.is_sufficient())
        .map(|looked| looked.file)
        .collect();
    run.think(match limits.as_slice() {
        [] => "Every column that the analysis uses is there.".to_owned(),
        limits => format!("The analysis goes on with these limits:\n- {}", limits.join("\n- ")),
    })
    .await?;
    Ok(Data { files: usable, limits, missing: None })
}

/// The fields that a file lacks that could be read at all.
fn missing_fields(files: &[LookedAt]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    let read = files.iter().filter(|looked| looked.found.refused.is_none());
    for missing in read.flat_map(|looked| &looked.found.missing) {
        if !fields.contains(&missing.field) {
            fields.push(missing.field.clone());
        }
    }
    fields
}

/// What cannot be said in full from files that are good enough to go on with.
fn limits(files: &[LookedAt]) -> Vec<String> {
    let mut limits = Vec::new();
    for LookedAt { found, .. } in files {
        let name = markdown(&found.file);
        if !found.is_sufficient() {
            limits.push(format!("{name} is left out: {}", refusal(found)));
            continue;
        }
        let told: Vec<String> = found
            .missing
            .iter()
            .map(|missing| format!("no `{}` ({})", missing.field, missing.needed_for))
            .collect();
        if !told.is_empty() {
            limits.push(format!("{name} has {}.", told.join("; ")));
        }
    }
    limits
}

fn refusal(found: &Inspection) -> String {
    let first = found.refused.as_ref().or(found.rejected.first());
    match first {
        Some(rejection) => format!("line {}: {}", rejection.line, markdown(&rejection.reason)),
        None => "it has no rows".to_owned(),
    }
}

/// What to do first, in a model's words. Of the files it knows how many there are and which of our fields they lack.
async fn word(
    question: &str,
    files: &[LookedAt],
    fields: &[String],
    guide: &Guide,
    run: &Context,
) -> Result<Option<String>> {
    let mut figures = Figures::default();
    if !fields.is_empty() {
        let text = format!("`{}`", fields.join("`, `"));
        figures.add("missing", "the names of the columns that are missing", text, About::Use, true);
    }
    let sources: Vec<&str> = guide.sources.iter().map(|source| source.name.as_str()).collect();
    let data = json!({
        "question": question,
        "any_file_attached": !files.is_empty(),
        "any_file_could_be_read": files.iter().any(|looked| looked.found.refused.is_none()),
        "columns_that_are_missing": fields,
        "sources": sources,
    });
    wording::by_model(run, "What is missing", prompt::DATA_HELPER, data, &figures.0).await
}

fn told(files: &[LookedAt], guide: &Guide) -> String {
    let mut text = String::new();
    if files.is_empty() {
        text.push_str(
            "No usage data is attached, so nothing can be computed. Attach an export of your requests to models, \
             as CSV or as JSON lines (gzip is fine), and ask again.\n\n",
        );
    }
    for LookedAt { found, .. } in files {
        let _ = write!(text, "**{}**: {}.", markdown(&found.file), refusal(found));
        if found.refused.is_none() {
            columns(found, &mut text);
        }
        text.push_str("\n\n");
    }
    let _ = write!(text, "### What a file needs\n\n{}\n\n### Where to get it\n", guide.needs);
    for source in &guide.sources {
        let _ = write!(text, "\n- **{}**: {}", source.name, source.how);
    }
    text.push('\n');
    text
}

/// Which columns a file lacks, and which of its own nobody knows.
fn columns(found: &Inspection, text: &mut String) {
    let (needed, helpful): (Vec<_>, Vec<_>) =
        found.missing.iter().partition(|missing| missing.required);
    for (missing, lead) in [(needed, "Missing and needed"), (helpful, "Missing and helpful")] {
        let told: Vec<String> = missing
            .iter()
            .map(|missing| format!("`{}` ({})", missing.field, missing.needed_for))
            .collect();
        if !told.is_empty() {
            let _ = write!(text, "\n- {lead}: {}", told.join("; "));
        }
    }
    if !found.unknown_columns.is_empty() {
        let unknown = markdown(&found.unknown_columns.join(", "));
        let _ = write!(text, "\n- Its columns that mean nothing here: {unknown}");
    }
}
