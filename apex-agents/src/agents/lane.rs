//! Which agent is to answer a question, by rules.

use super::question::{Topic, topic};
use super::recall;
use crate::cost::{pricing, query};
use apex_core::clock::Timestamp;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The reporter, with a whole report.
    Report,
    /// Pricing, from list prices and dates.
    Pricing,
    /// Analysis, with one query over the records.
    Analysis,
    /// Search, from what was said before.
    Search,
    /// Research, from documents and from what was said before, with citations.
    Research,
}

impl Lane {
    /// The agent's name.
    pub(crate) const fn agent(self) -> &'static str {
        match self {
            Self::Report => "reporter",
            Self::Pricing => "pricing",
            Self::Analysis => "analysis",
            Self::Search => "search",
            Self::Research => "research",
        }
    }
}

/// Who answers this, asked at this time: what asks for what was said before is a search, what can be read as a question about prices or as one query is one; what
/// asks for savings, a forecast or everything is for the whole report.
pub(crate) fn of(text: &str, now: Timestamp) -> Lane {
    if recall::is_research(text) {
        return Lane::Research;
    }
    if recall::is_meant(text) {
        return Lane::Search;
    }
    if pricing::english::read(text, now).is_some() {
        return Lane::Pricing;
    }
    let Some(query) = query::english::read(text, now) else {
        return if recall::may_be_meant(text) { Lane::Search } else { Lane::Report };
    };
    match topic(text) {
        Topic::Savings | Topic::Forecast => Lane::Report,
        Topic::Anomalies if query.filter.statuses.is_empty() => Lane::Report,
        _ => Lane::Analysis,
    }
}
