//! What models are told before they are asked, as files.

mod data;
mod links;

pub(crate) use data::marked;
pub(crate) use links::Links;

/// For triage: what a question is about.
pub(crate) const TRIAGE: &str = include_str!("triage.md");
/// For the supervisor: who works on a question.
pub(crate) const SUPERVISOR: &str = include_str!("supervisor.md");
/// For the supervisor: what a question means that leans on those before it.
pub(crate) const FOLLOW_UP: &str = include_str!("follow_up.md");
/// For the reporter: how an answer is worded.
pub(crate) const REPORTER: &str = include_str!("reporter.md");
/// For analysis: the query that a question comes to.
pub(crate) const ANALYSIS: &str = include_str!("analysis.md");
/// For search: what is looked for in earlier conversations.
pub(crate) const SEARCH: &str = include_str!("search.md");
/// For research: how passages are answered from.
pub(crate) const RESEARCH: &str = include_str!("research.md");
/// For the data helper: how it is said what to do where the data does not suffice.
pub(crate) const DATA_HELPER: &str = include_str!("data_helper.md");
/// For the optimizer: how what was found is summed up.
pub(crate) const OPTIMIZER: &str = include_str!("optimizer.md");
/// For actions: how a plan is introduced.
pub(crate) const ACTIONS: &str = include_str!("actions.md");
/// For validation: how it is said that a report is refused.
pub(crate) const VALIDATION: &str = include_str!("validation.md");
/// For every declared agent, after its own instructions: what is data.
pub(crate) const DECLARED: &str = include_str!("declared.md");
/// For pricing: the typed question about prices that a question comes to.
pub(crate) const PRICING: &str = include_str!("pricing.md");
