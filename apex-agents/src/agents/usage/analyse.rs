use super::files::Opened;
use crate::agents::PASS;
use crate::cost::report::Saving;
use crate::cost::report::words::count;
use crate::cost::{Analysis, AnalysisOptions, Catalogue, Report};
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::error::Result;
use apex_core::event::Payload;
use apex_core::id::FileId;
use apex_core::money::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A computed report, with the figures that the agents talk about.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(in crate::agents) struct Analysed {
    /// Where the whole report is.
    pub(in crate::agents) report: Payload,
    pub(in crate::agents) rows: u64,
    pub(in crate::agents) requests: u64,
    pub(in crate::agents) unpriced_requests: u64,
    pub(in crate::agents) recorded_cost_usd: Option<Usd>,
    pub(in crate::agents) priced_cost_usd: Option<Usd>,
    pub(in crate::agents) saving_usd: Saving,
    pub(in crate::agents) first_finding: Option<String>,
    pub(in crate::agents) first_rejection: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Files {
    /// The files with usage records.
    files: Vec<FileId>,
}

/// Reads every record once and computes the report.
pub(in crate::agents) fn analyse_usage(
    catalogue: Arc<Catalogue>,
    options: AnalysisOptions,
) -> impl Tool {
    tool_fn(
        "analyse_usage",
        "Computes what the requests in usage files cost, what is remarkable and what could be saved.",
        move |files: Files, call: ToolContext| {
            let catalogue = Arc::clone(&catalogue);
            async move {
                let opened = Opened::all(&files.files, &call).await?;
                let (report, json) = call
                    .blocking(move |call| {
                        let report = analyse(opened, catalogue, options, call)?;
                        let json = report.to_json();
                        Ok((report, json))
                    })
                    .await?;
                let payload = call
                    .put_artifact("analysis.json", "application/json", json)
                    .await?;
                let analysed = Analysed::of(&report, payload);
                call.summarise(format!(
                    "{} of {} rows imported, {} findings, {} levers",
                    count(analysed.requests),
                    count(analysed.rows),
                    report.findings.len(),
                    report.recommendations.len()
                ));
                Ok(analysed)
            }
        },
    )
    .effect(Effect::Idempotent)
    // What it writes is a result of its run.
    .leaves(false)
    .untrusted()
    .timeout(PASS)
}

fn analyse(
    opened: Opened,
    catalogue: Arc<Catalogue>,
    options: AnalysisOptions,
    call: &ToolContext,
) -> Result<Report> {
    let mut analysis = Analysis::new(catalogue, options);
    opened.read(call, |name, content, observe| {
        analysis.add(name, content, &mut |progress| observe(progress.bytes))
    })?;
    Ok(analysis.finish())
}

impl Analysed {
    fn of(report: &Report, payload: Payload) -> Self {
        let rejection = report
            .sources
            .iter()
            .find_map(|source| source.refused.as_ref().or(source.rejected.first()));
        Self {
            report: payload,
            rows: report.sources.iter().map(|source| source.rows).sum(),
            requests: report.totals.requests,
            unpriced_requests: report.totals.unpriced_requests,
            recorded_cost_usd: report.totals.recorded_cost_usd,
            priced_cost_usd: report.totals.priced_cost_usd,
            saving_usd: report.headline.saving_usd,
            first_finding: report.findings.first().map(|finding| finding.title.clone()),
            first_rejection: rejection.map(|r| format!("line {}: {}", r.line, r.reason)),
        }
    }
}
