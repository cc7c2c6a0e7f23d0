use super::files::Opened;
use super::report::load;
use crate::agents::PASS;
use crate::cost::report::words::count;
use crate::cost::{AnalysisOptions, Catalogue, Verification};
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::event::Payload;
use apex_core::id::{ArtifactId, FileId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How much of a report was computed a second time and came out the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(in crate::agents) struct Recomputed {
    pub(in crate::agents) figures: u64,
    pub(in crate::agents) rows: u64,
    /// The report that came out the same, where it is another than the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::agents) report: Option<Payload>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Arguments {
    /// The report.
    report: ArtifactId,
    /// The files that it was computed from.
    files: Vec<FileId>,
}

/// Computes a report's figures a second way; it fails with `bad_figures` where one differs.
pub(in crate::agents) fn recompute_figures(
    catalogue: Arc<Catalogue>,
    options: AnalysisOptions,
) -> impl Tool {
    tool_fn(
        "recompute_figures",
        "Computes every figure of a report a second way and refuses it where one differs.",
        move |arguments: Arguments, call: ToolContext| {
            let catalogue = Arc::clone(&catalogue);
            async move {
                let report = call.artifact(arguments.report).await?;
                let opened = Opened::all(&arguments.files, &call).await?;
                let verified = call
                    .blocking(move |call| {
                        let report = load(&report)?;
                        let mut again = Verification::with_options(&report, catalogue, options);
                        opened.read(call, |name, content, observe| {
                            again.add(name, content, &mut |progress| observe(progress.bytes))
                        })?;
                        again.finish()
                    })
                    .await?;
                let (figures, rows) = (verified.figures, verified.rows);
                call.summarise(format!(
                    "{} figures over {} rows come out the same",
                    count(figures),
                    count(rows)
                ));
                Ok(Recomputed { figures, rows, report: None })
            }
        },
    )
    .effect(Effect::Read)
    .timeout(PASS)
}
