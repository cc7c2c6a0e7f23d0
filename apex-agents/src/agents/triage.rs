//! Triage: what is asked, and does the data suffice for it?

use super::asking::{self, Asked};
use super::question::{Topic, topic};
use super::usage::EarlierFiles;
use super::wording;
use crate::agent::{Agent, AgentOutput, Request, Then, agent_fn};
use crate::context::Context;
use crate::cost::Inspection;
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use apex_core::id::FileId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How the request was read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Triage {
    pub(super) asked: Topic,
    pub(super) data: Sufficiency,
    pub(super) files: Vec<LookedAt>,
    /// The answer, where no analysis is needed for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<String>,
}

/// Whether a question can be answered from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sufficiency {
    /// In full.
    Sufficient,
    /// In part.
    Partial,
    /// Not at all.
    Insufficient,
}

/// A file that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct LookedAt {
    pub(super) file: FileId,
    pub(super) found: Inspection,
}

impl AgentOutput for Triage {
    fn then(&self) -> Then {
        match &self.answer {
            None => Then::HandOn,
            Some(text) => Then::Answer(RunResult {
                status: RunStatus::Answered,
                text: text.clone(),
                artifacts: Vec::new(),
            }),
        }
    }
}

pub(super) fn agent() -> impl Agent {
    agent_fn("triage", "Reads the question and looks whether the data suffices for it.", run)
}

async fn run(request: Request, run: Context) -> Result<Triage> {
    let asked = read(&request, &run).await?;
    if asked == Topic::Other && request.files.is_empty() {
        run.think("This is not about what models cost; I say what this team can do.").await?;
        return Ok(Triage {
            asked,
            data: Sufficiency::Insufficient,
            files: Vec::new(),
            answer: Some(wording::what_we_do().to_owned()),
        });
    }
    // With a file at hand and a question that says little, savings are what people come for.
    let asked = if asked == Topic::Other { Topic::Savings } else { asked };
    run.think(format!("The question is {}.", asked.named())).await?;
    let files = match request.files.is_empty() {
        false => request.files,
        true => run.call::<EarlierFiles>("earlier_files", json!({})).await?.files,
    };
    let mut looked = Vec::new();
    for file in files {
        let found = run.call("inspect_usage", json!({ "file": file })).await?;
        looked.push(LookedAt { file, found });
    }
    let data = sufficiency(&looked);
    run.think(judged(data, &looked)).await?;
    Ok(Triage { asked, data, files: looked, answer: None })
}

/// What the question is about: read by a model, or by rules.
async fn read(request: &Request, run: &Context) -> Result<Topic> {
    let by_rules = topic(&request.text);
    let question = asking::request(prompt::TRIAGE, &json!({ "question": request.text }));
    let why = match asking::ask(run, question).await? {
        Asked::NoModel => return Ok(by_rules),
        Asked::Answer(answer) => match Topic::named_in(&answer.text()) {
            Some(topic) => return Ok(topic),
            None => "The question was read by rules: a model's answer named no topic.".to_owned(),
        },
        Asked::Failed(why) => asking::unanswered(&why),
    };
    run.degraded(why).await?;
    Ok(by_rules)
}

fn sufficiency(files: &[LookedAt]) -> Sufficiency {
    if !files.iter().any(|file| file.found.is_sufficient()) {
        return Sufficiency::Insufficient;
    }
    if files.iter().all(|file| file.found.is_complete()) {
        return Sufficiency::Sufficient;
    }
    Sufficiency::Partial
}

fn judged(data: Sufficiency, files: &[LookedAt]) -> String {
    match (data, files) {
        (_, []) => "There is no usage data: without any, nothing can be computed.".to_owned(),
        (Sufficiency::Sufficient, _) => "The data suffices to answer in full.".to_owned(),
        (Sufficiency::Partial, _) => {
            "The data suffices in part; the data helper says for what it does not.".to_owned()
        }
        (Sufficiency::Insufficient, _) => {
            "None of the files has usage records that can be priced.".to_owned()
        }
    }
}
