//! Actions: what to do, in which order.

use super::triage::Triage;
use super::usage::{Analysed, Recomputed};
use super::wording::{self, About, Figure, Figures};
use crate::agent::{Agent, AgentOutput, agent_fn};
use crate::context::Context;
use crate::cost::report::Action;
use crate::cost::report::words::dollars;
use crate::prompt;
use apex_core::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An ordered plan.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Actions {
    pub(super) actions: Vec<Action>,
    /// What a model says of them, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) said: Option<String>,
}

impl AgentOutput for Actions {}

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "actions",
        "Puts what follows from the findings in order: what, where, effort, risk, how to verify.",
        run,
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Input {
    text: String,
    triage: Triage,
    optimizer: Analysed,
    /// Nothing follows from figures that did not come out the same twice.
    validation: Recomputed,
}

async fn run(input: Input, run: Context) -> Result<Actions> {
    let report = input.validation.report.unwrap_or(input.optimizer.report);
    let arguments = json!({ "report": report.artifact });
    let planned: Actions = run.call("plan_actions", arguments).await?;
    let asked = input.triage.asked.named();
    run.think(match planned.actions.first() {
        None => format!("Asked was {asked}; nothing has to be done about it."),
        Some(first) => {
            let saves = first.saving_usd.map(|saving| format!(", worth {}", dollars(saving)));
            let lead = match planned.actions.len() {
                1 => "1 step follows".to_owned(),
                steps => format!("{steps} steps follow, the first"),
            };
            format!("{lead}: {}{}.", first.what, saves.unwrap_or_default())
        }
    })
    .await?;
    let said = word(&input.text, &planned.actions, &run).await?;
    Ok(Actions { said, ..planned })
}

/// What the plan comes to for the question, in a model's words. It knows the steps, but none of their figures.
async fn word(question: &str, actions: &[Action], run: &Context) -> Result<Option<String>> {
    if actions.is_empty() {
        return Ok(None);
    }
    let steps: Vec<_> = actions
        .iter()
        .map(|action| json!({ "what": action.what, "effort": action.effort, "risk": action.risk }))
        .collect();
    let data = json!({ "question": question, "steps": steps });
    wording::by_model(run, "The plan", prompt::ACTIONS, data, &figures(actions)).await
}

/// How many steps there are, and what they save one by one.
fn figures(actions: &[Action]) -> Vec<Figure> {
    let mut figures = Figures::default();
    let steps = match actions.len() {
        1 => "1 step".to_owned(),
        steps => format!("{steps} steps"),
    };
    figures.add("steps", "how many steps there are", steps, About::Use, true);
    for (letter, action) in ('a'..='z').zip(actions) {
        if let Some(saving) = action.saving_usd {
            let text = format!("an expected saving of {}", dollars(saving));
            let means = format!("what this step is expected to save: {}", action.what);
            figures.add(format!("saving_{letter}"), &means, text, About::Saving, false);
        }
    }
    figures.0
}
