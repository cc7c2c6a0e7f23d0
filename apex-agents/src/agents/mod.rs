//! The agents of Apex, each in a file of its own, and the tools that they call.
//!
//! Figures come from [`crate::cost`] alone: an agent decides what is computed, in which order it is told and in
//! which words. Where there is a model, the supervisor plans by it, triage, analysis and pricing have it read the question,
//! and those who tell something have it word that around the figures; without, or where its answer is of no use, they go
//! by rules and say so.

mod actions;
mod analysis;
pub(crate) mod asking;
mod citing;
mod data_helper;
pub(crate) mod lane;
mod optimizer;
mod pricing;
mod question;
mod recall;
mod reporter;
mod research;
mod search;
mod sources;
mod triage;
mod usage;
mod validation;
mod wording;

use crate::cost::{AnalysisOptions, Catalogue};
use crate::registry::Registry;
use crate::supervisor;
use crate::tools;
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
        .agent(analysis::agent())
        .agent(pricing::agent())
        .agent(search::agent())
        .agent(research::agent())
        .tool(usage::earlier_files())
        .tool(usage::inspect_usage())
        .tool(usage::export_guide())
        .tool(usage::analyse_usage(Arc::clone(&catalogue), options))
        .tool(usage::recompute_figures(Arc::clone(&catalogue), options))
        .tool(usage::query_usage(Arc::clone(&catalogue)))
        .tool(usage::price_models(catalogue))
        .tool(usage::search_threads())
        .tool(usage::find_passages())
        .tool(usage::plan_actions())
        .tool(usage::write_report())
        .tool(tools::read_conversation())
        .tool(tools::earlier_questions())
        .tool(tools::remember())
        .tool(tools::recall())
        .tool(tools::forget())
}
