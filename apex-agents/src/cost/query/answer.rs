//! The answer to a query, and its words.

use super::{Dimension, Measure, Order, Query, calendar};
use crate::cost::report::CatalogueStamp;
use crate::cost::report::words::{count, dollars, markdown};
use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// What a query came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// What was asked.
    pub query: Query,
    /// The groups that are listed, in their order.
    pub rows: Vec<Row>,
    /// How many groups there are.
    pub groups: u64,
    /// The sums of the groups that are not listed, where there are any.
    pub rest: Option<Sums>,
    /// The sums of everything that counts.
    pub total: Sums,
    /// What the figures rest on.
    pub evidence: Evidence,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Its name in each of the query's dimensions.
    pub group: Vec<String>,
    /// Its sums.
    pub sums: Sums,
}

/// Sums over requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sums {
    /// How many requests.
    pub requests: u64,
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens received, reasoning included.
    pub output_tokens: u64,
    /// Tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// What the records say that they cost; `None` where none of them says.
    pub recorded_cost_usd: Option<Usd>,
    /// How many of them say.
    pub with_recorded_cost: u64,
    /// What those with a price cost at the prices of their days; `None` where none has one.
    pub priced_cost_usd: Option<Usd>,
    /// How many have no price.
    pub unpriced_requests: u64,
    /// The same requests on other models, in the order of the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_models: Vec<Repriced>,
}

/// The requests that have a price both as they were and on another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Repriced {
    /// How many they are.
    pub requests: u64,
    /// What they cost.
    pub was_usd: Usd,
    /// What they would have cost, with the same numbers of tokens, at the other model's prices of their days.
    pub would_be_usd: Usd,
}

/// What figures rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The files or stores that were read.
    pub sources: Vec<String>,
    /// Rows read.
    pub rows: u64,
    /// Rows that are no usage records, or copies of earlier ones.
    pub rejected: u64,
    /// Records that the filter leaves out.
    pub left_out: u64,
    /// Records that a filter by time leaves out because they have none.
    pub undated: u64,
    /// Records that count.
    pub counted: u64,
    /// Whether there were more groups than are told apart; those beyond the limit are in `(others)`.
    pub more_groups: bool,
    /// The prices.
    pub catalogue: CatalogueStamp,
}

impl Sums {
    pub(super) fn merge(&mut self, other: &Self) {
        let plus = |own: Option<Usd>, other: Option<Usd>| match (own, other) {
            (Some(own), Some(other)) => Some(own + other),
            (own, other) => own.or(other),
        };
        self.requests += other.requests;
        self.input_tokens += other.input_tokens;
        self.cached_tokens += other.cached_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.recorded_cost_usd = plus(self.recorded_cost_usd, other.recorded_cost_usd);
        self.with_recorded_cost += other.with_recorded_cost;
        self.priced_cost_usd = plus(self.priced_cost_usd, other.priced_cost_usd);
        self.unpriced_requests += other.unpriced_requests;
        self.on_models.resize(other.on_models.len().max(self.on_models.len()), Repriced::default());
        for (own, other) in self.on_models.iter_mut().zip(&other.on_models) {
            own.requests += other.requests;
            own.was_usd += other.was_usd;
            own.would_be_usd += other.would_be_usd;
        }
    }

    /// The figure, in units that can be ordered: of money its smallest unit. `None` where there is none.
    pub(super) fn figure(&self, query: &Query) -> Option<i128> {
        let (sum, of) = match query.measure {
            Measure::Cost => {
                (self.priced_cost_usd?.units(), self.requests - self.unpriced_requests)
            }
            Measure::RecordedCost => (self.recorded_cost_usd?.units(), self.with_recorded_cost),
            Measure::Requests => (i128::from(self.requests), 1),
            Measure::Tokens => {
                (i128::from(self.input_tokens) + i128::from(self.output_tokens), self.requests)
            }
            Measure::InputTokens => (i128::from(self.input_tokens), self.requests),
            Measure::CachedTokens => (i128::from(self.cached_tokens), self.requests),
            Measure::OutputTokens => (i128::from(self.output_tokens), self.requests),
            Measure::ReasoningTokens => (i128::from(self.reasoning_tokens), self.requests),
        };
        if query.mean { (of > 0).then(|| sum / i128::from(of.max(1))) } else { Some(sum) }
    }

    fn told(&self, query: &Query) -> String {
        match (self.figure(query), query.measure) {
            (Some(units), Measure::Cost | Measure::RecordedCost) => dollars(Usd::from_units(units)),
            (Some(number), _) => count(u64::try_from(number).unwrap_or(u64::MAX)),
            (None, Measure::RecordedCost) => "not recorded".to_owned(),
            (None, _) if self.requests == 0 => "$0.00".to_owned(),
            (None, _) => "unpriced".to_owned(),
        }
    }
}

impl Answer {
    /// The answer in words: what was asked, the figures as a small table, and what they rest on.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let query = &self.query;
        let mut text = format!("{}.\n\n", self.asked());
        if self.evidence.counted == 0 {
            text.push_str("No request is of this kind.\n\n");
        }
        if query.by.is_empty() || self.evidence.counted == 0 {
            self.one(&mut text);
        } else {
            self.table(&mut text);
            self.trend(&mut text);
        }
        self.rests_on(&mut text);
        text
    }

    /// What was asked, as it was understood.
    #[must_use]
    pub fn asked(&self) -> String {
        let query = &self.query;
        let mut text = query.measure.named().to_owned();
        if query.mean {
            text.push_str(" of a request on average");
        }
        let by: Vec<String> =
            query.by.iter().map(|dimension| dimension.named().to_lowercase()).collect();
        if !by.is_empty() {
            let _ = write!(text, " by {}", by.join(" and "));
        }
        if let Some(top) = query.top {
            let end = if query.ordered() == Order::Smallest { "smallest" } else { "largest" };
            let _ = write!(text, ", the {top} {end}");
        }
        let filter = &query.filter;
        for (what, names) in [
            ("models", &filter.models),
            ("providers", &filter.providers),
            ("users", &filter.users),
            ("sessions", &filter.sessions),
        ] {
            if !names.is_empty() {
                let _ = write!(text, "; {what}: {}", markdown(&names.join(", ")));
            }
        }
        if !filter.statuses.is_empty() {
            let statuses: Vec<&str> = filter.statuses.iter().map(|s| super::status(*s)).collect();
            let _ = write!(text, "; {} requests", statuses.join(" or "));
        }
        if let Some(from) = filter.from {
            let _ = write!(text, "; from {}", moment(from));
        }
        if let Some(before) = filter.before {
            let _ = write!(text, "; before {}", moment(before));
        }
        text
    }

    fn one(&self, text: &mut String) {
        let (query, total) = (&self.query, &self.total);
        let _ = write!(text, "**{}: {}**", query.measure.named(), total.told(query));
        let requests = requests(total.requests);
        let _ = match (query.measure, total.unpriced_requests) {
            (Measure::Requests, _) => writeln!(text, ".\n"),
            (Measure::Cost, unpriced @ 1..) => {
                writeln!(text, " for {requests}, {} of them without a price.\n", count(unpriced))
            }
            _ => writeln!(text, " for {requests}.\n"),
        };
    }

    fn table(&self, text: &mut String) {
        let query = &self.query;
        let heads = query.by.iter().map(|dimension| dimension.named());
        let (mut head, mut line) = (String::from("|"), String::from("|"));
        for name in heads {
            let _ = write!(head, " {name} |");
            line.push_str("---|");
        }
        let _ = write!(head, " {} |", query.measure.named());
        line.push_str("--:|");
        if query.measure != Measure::Requests {
            head.push_str(" Requests |");
            line.push_str("--:|");
        }
        if query.measure == Measure::Cost {
            head.push_str(" Unpriced |");
            line.push_str("--:|");
        }
        let _ = writeln!(text, "{head}\n{line}");
        for row in &self.rows {
            let group = row.group.iter().map(|name| markdown(name)).collect::<Vec<_>>();
            self.line(&group.join(" | "), &row.sums, text);
        }
        if let Some(rest) = &self.rest {
            let more = self.groups.saturating_sub(self.rows.len() as u64);
            let mut group = format!("{} more", count(more));
            group.push_str(&" | ".repeat(query.by.len().saturating_sub(1)));
            self.line(&group, rest, text);
        }
        text.push('\n');
    }

    fn line(&self, group: &str, sums: &Sums, text: &mut String) {
        let query = &self.query;
        let _ = write!(text, "| {group} | {} |", sums.told(query));
        if query.measure != Measure::Requests {
            let _ = write!(text, " {} |", count(sums.requests));
        }
        if query.measure == Measure::Cost {
            let _ = write!(text, " {} |", count(sums.unpriced_requests));
        }
        text.push('\n');
    }

    /// How the figure went from the first listed time to the last.
    fn trend(&self, text: &mut String) {
        let query = &self.query;
        let times = [Dimension::Day, Dimension::Week, Dimension::Month];
        let ([dimension], Order::Group) = (query.by.as_slice(), query.ordered()) else {
            return;
        };
        let (Some(first), Some(last), true) =
            (self.rows.first(), self.rows.last(), times.contains(dimension) && self.rows.len() > 1)
        else {
            return;
        };
        let (Some(from), Some(to)) = (first.sums.figure(query), last.sums.figure(query)) else {
            return;
        };
        let _ = write!(
            text,
            "From {} to {}: {} to {}",
            first.group.concat(),
            last.group.concat(),
            first.sums.told(query),
            last.sums.told(query)
        );
        if let Some(change) = change(from, to) {
            let _ = write!(text, ", {change}");
        }
        let peak = self.rows.iter().max_by_key(|row| row.sums.figure(query));
        if let Some(peak) = peak {
            let _ =
                write!(text, ". Highest: {} with {}", peak.group.concat(), peak.sums.told(query));
        }
        let _ = write!(text, " ({} to {}).\n\n", first.group.concat(), last.group.concat());
    }

    fn rests_on(&self, text: &mut String) {
        let evidence = &self.evidence;
        let _ = write!(
            text,
            "Counted: {} of {} rows of {}",
            count(evidence.counted),
            count(evidence.rows),
            markdown(&evidence.sources.join(", "))
        );
        for (number, what) in [
            (evidence.left_out, "left out by the filter"),
            (evidence.undated, "left out because they have no time"),
            (evidence.rejected, "no usage records, or copies"),
        ] {
            if number > 0 {
                let _ = write!(text, "; {} {what}", count(number));
            }
        }
        if self.query.measure == Measure::Cost {
            let version = markdown(&evidence.catalogue.version);
            let _ = write!(
                text,
                "; {} unpriced, which are in no sum. Prices: {version}",
                count(self.total.unpriced_requests)
            );
        }
        text.push('.');
        if evidence.more_groups {
            text.push_str(" There were more groups than are told apart; the rest is in (others).");
        }
    }
}

/// By how much a figure changed, in percent with one decimal.
fn change(from: i128, to: i128) -> Option<String> {
    let thousandths = to.checked_sub(from)?.checked_mul(1_000)?.checked_div(from)?;
    let sign = if thousandths < 0 { '-' } else { '+' };
    let size = thousandths.unsigned_abs();
    Some(format!("{sign}{}.{}%", size / 10, size % 10))
}

/// A moment as its date, where it is the first of a day.
fn moment(at: Timestamp) -> String {
    let day = calendar::day_of(at);
    if calendar::midnight(day) == at { calendar::date(day) } else { at.to_string() }
}

pub(crate) fn requests(number: u64) -> String {
    format!("{} request{}", count(number), if number == 1 { "" } else { "s" })
}
