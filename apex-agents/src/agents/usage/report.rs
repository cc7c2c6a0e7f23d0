use crate::agents::actions::Actions;
use crate::agents::question::Topic;
use crate::agents::wording::{self, Figure};
use crate::cost::Report;
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::error::{Error, Result};
use apex_core::event::Payload;
use apex_core::id::ArtifactId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, JsonSchema)]
struct OneReport {
    /// The report.
    report: ArtifactId,
}

/// What follows from a report, in order.
pub(in crate::agents) fn plan_actions() -> impl Tool {
    tool_fn(
        "plan_actions",
        "Puts what follows from a report in order: what, where, effort, risk, how to roll back, how to verify.",
        |one: OneReport, call: ToolContext| async move {
            let report = call.artifact(one.report).await?;
            let actions = call.blocking(move |_| Ok(load(&report)?.actions)).await?;
            call.summarise(format!("{} steps", actions.len()));
            Ok(Actions { actions, said: None })
        },
    )
    .effect(Effect::Read)
}

/// A written report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct Written {
    /// The beginning of the answer, by rules.
    pub(in crate::agents) lead: String,
    /// The figures that the beginning can hold.
    pub(in crate::agents) figures: Vec<Figure>,
    /// The rest of the answer.
    pub(in crate::agents) rest: String,
    pub(in crate::agents) artifacts: Vec<Payload>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Order {
    /// The computed report.
    report: ArtifactId,
    /// What was asked.
    asked: Topic,
    /// What could not be said in full.
    limits: Vec<String>,
    /// How many figures were computed twice.
    figures_checked: u64,
    /// The first steps of the plan.
    next: Vec<String>,
    /// What is said of them.
    #[serde(default)]
    next_said: Option<String>,
}

/// Writes a computed report as JSON, Markdown and HTML, and the answer to the question.
pub(in crate::agents) fn write_report() -> impl Tool {
    tool_fn(
        "write_report",
        "Writes a computed report as JSON, Markdown and HTML, and answers the question from it.",
        |order: Order, call: ToolContext| async move {
            let report = call.artifact(order.report).await?;
            let (lead, figures, rest, forms) = call
                .blocking(move |_| {
                    let report = load(&report)?;
                    let rest = wording::rest(
                        &report,
                        order.asked,
                        &order.limits,
                        order.figures_checked,
                        &order.next,
                        order.next_said.as_deref(),
                    );
                    let forms = [
                        ("report.json", "application/json", report.to_json()),
                        ("report.md", "text/markdown; charset=utf-8", report.to_markdown()),
                        ("report.html", "text/html; charset=utf-8", report.to_html()),
                    ];
                    let figures = wording::figures(&report, order.asked);
                    Ok((wording::lead(&report), figures, rest, forms))
                })
                .await?;
            let mut artifacts = Vec::with_capacity(forms.len());
            for (name, media_type, content) in forms {
                artifacts.push(call.put_artifact(name, media_type, content).await?);
            }
            call.summarise("report.json, report.md and report.html are written");
            Ok(Written { lead, figures, rest, artifacts })
        },
    )
    .effect(Effect::Idempotent)
    // What it writes is a result of its run.
    .leaves(false)
}

/// A report that an earlier tool kept.
pub(super) fn load(json: &[u8]) -> Result<Report> {
    serde_json::from_slice(json).map_err(|error| {
        Error::internal("report.load", "a kept report cannot be read").with_source(error)
    })
}
