//! The agents of Apex, each in a file of its own, and the tools that they call.
//!
//! Figures come from [`crate::cost`] alone: an agent decides what is computed, in which order it is told and in
//! which words. Triage, the supervisor and the reporter ask a model where there is one; without, or where its answer
//! is of no use, they go by rules and say so.

mod actions;
pub(crate) mod asking;
mod data_helper;
mod optimizer;
mod question;
mod reporter;
mod sources;
mod triage;
mod usage;
mod validation;
mod wording;

use crate::cost::{AnalysisOptions, Catalogue};
use crate::registry::Registry;
use crate::supervisor;
use std::sync::Arc;
use std::time::Duration;

/// How long a pass over the files of a request may take: 2 GiB at a few MB a second.
const PASS: Duration = Duration::from_secs(30 * 60);

/// The supervisor, its agents and their tools, with the prices that they compute with. Runs begin with the
/// supervisor; a host adds agents and tools of its own.
#[must_use]
pub fn team(catalogue: Arc<Catalogue>, options: AnalysisOptions) -> Registry {
    Registry::default()
        .agent(supervisor::agent())
        .agent(triage::agent())
        .agent(data_helper::agent())
        .agent(optimizer::agent())
        .agent(validation::agent())
        .agent(actions::agent())
        .agent(reporter::agent())
        .tool(usage::earlier_files())
        .tool(usage::inspect_usage())
        .tool(usage::export_guide())
        .tool(usage::analyse_usage(Arc::clone(&catalogue), options))
        .tool(usage::recompute_figures(catalogue, options))
        .tool(usage::plan_actions())
        .tool(usage::write_report())
}
