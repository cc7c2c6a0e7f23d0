//! Questions over usage records, as typed values: which records, grouped by what, which figure, in which order.
//!
//! A [`Query`] is all that can be asked; there is no language below it that text could reach. It is made by hand, by
//! rules from plain English ([`english::read`]) or by a model that fills in its JSON form, and is checked whole
//! ([`Query::fault`]) before it is carried out: one streamed pass over each file ([`Counting`]), with a bound on the
//! groups that are told apart. The [`Answer`] carries its evidence: the rows read, counted and left out, and how many
//! requests have no price.
//!
//! ```
//! use apex_agents::cost::query::{Counting, Dimension, Measure, Query};
//! use apex_agents::cost::{Catalogue, sample};
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! let query = Query { measure: Measure::Cost, by: vec![Dimension::User], top: Some(2), ..Query::default() };
//! let mut counting = Counting::new(Arc::new(Catalogue::embedded()?), query)?;
//! counting.add("usage.csv", sample::csv().as_slice(), &mut |_| ControlFlow::Continue(()))?;
//! let answer = counting.finish();
//! assert_eq!(answer.rows.len(), 2);
//! assert_eq!(answer.rows[0].group, ["ben"]);
//! # Ok::<(), apex_core::error::Error>(())
//! ```

mod answer;
pub(crate) mod calendar;
mod counting;
pub mod english;
mod group;
mod name;
mod period;

pub(crate) use answer::requests;
pub use answer::{Answer, Evidence, Repriced, Row, Sums};
pub use counting::Counting;

use apex_core::clock::Timestamp;
use apex_core::usage::UsageStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most dimensions that a query groups by.
pub const MOST_DIMENSIONS: usize = 2;
/// The most names in one list of a filter, and the most models that the same requests are priced on.
pub const MOST_NAMES: usize = 8;
/// The most rows that an answer lists; the rest is summed up in one.
pub const MOST_LISTED: u16 = 100;
/// How many rows an answer lists where the query does not say.
const LISTED: u16 = 20;
/// The longest name in a filter, in bytes.
const LONGEST_NAME: usize = 200;

/// A question over usage records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// The figure that is asked for.
    pub measure: Measure,
    /// Whether the figure is that of a request on average and not the sum.
    pub mean: bool,
    /// What records are grouped by, at most two; none for one figure over all.
    #[schemars(length(max = 2))]
    pub by: Vec<Dimension>,
    /// Which records count.
    pub filter: Filter,
    /// How the groups are ordered; absent, by time where the first dimension is one of time, else the largest first.
    pub order: Option<Order>,
    /// How many groups are listed, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub top: Option<u16>,
    /// Models on which the same requests are priced as well, at most eight.
    #[schemars(length(max = 8))]
    pub on_models: Vec<String>,
}

/// The figure that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// What the requests cost at the prices of their days.
    #[default]
    Cost,
    /// What the records say that they cost.
    RecordedCost,
    /// How many requests there are.
    Requests,
    /// Tokens sent and received.
    Tokens,
    /// Tokens sent, cached ones included.
    InputTokens,
    /// Tokens that were read from the provider's cache.
    CachedTokens,
    /// Tokens received, reasoning included.
    OutputTokens,
    /// Tokens spent on reasoning.
    ReasoningTokens,
}

/// What records are grouped by. Times are in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The model, as the records name it.
    Model,
    /// Which of the filter's models it is, where several are compared.
    FilteredModel,
    /// The provider.
    Provider,
    /// Who made the request.
    User,
    /// The session, conversation or trace.
    Session,
    /// The day, such as `2026-01-31`.
    Day,
    /// The Monday of the week.
    Week,
    /// The month, such as `2026-01`.
    Month,
    /// The hour of the day, such as `09:00`.
    Hour,
    /// The day of the week.
    Weekday,
    /// How the request ended.
    Status,
    /// The service tier.
    Tier,
}

/// Which records count: those that fit in every respect. An empty list fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Models. A name with a digit means that model and its dated versions; one without, such as `claude`, every
    /// model whose name holds it; `*` at the end is anything.
    #[schemars(length(max = 8))]
    pub models: Vec<String>,
    /// Providers, by their names in the records.
    #[schemars(length(max = 8))]
    pub providers: Vec<String>,
    /// Users, by their names in the records.
    #[schemars(length(max = 8))]
    pub users: Vec<String>,
    /// Sessions, by their ids in the records.
    #[schemars(length(max = 8))]
    pub sessions: Vec<String>,
    /// How the requests ended.
    pub statuses: Vec<UsageStatus>,
    /// Requests from this moment on.
    pub from: Option<Timestamp>,
    /// Requests before this moment.
    pub before: Option<Timestamp>,
}

/// How groups are ordered. Those without the figure come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The largest figure first.
    Largest,
    /// The smallest figure first.
    Smallest,
    /// By the groups themselves.
    Group,
}

impl Query {
    /// What is wrong with it, if anything is: it must be small, and ask for something that there is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let filter = &self.filter;
        let names = [
            ("models", &filter.models),
            ("providers", &filter.providers),
            ("users", &filter.users),
            ("sessions", &filter.sessions),
            ("on_models", &self.on_models),
        ];
        for (what, list) in names {
            if list.len() > MOST_NAMES {
                return Some(format!("{what} has more than {MOST_NAMES} names"));
            }
            if list.iter().any(|name| name.trim().is_empty() || name.len() > LONGEST_NAME) {
                return Some(format!("{what} has an empty name or one over {LONGEST_NAME} bytes"));
            }
        }
        if self.by.len() > MOST_DIMENSIONS {
            return Some(format!("it groups by more than {MOST_DIMENSIONS} dimensions"));
        }
        if let [first, second] = self.by.as_slice()
            && first == second
        {
            return Some("it groups by the same dimension twice".to_owned());
        }
        if self.by.contains(&Dimension::FilteredModel) && filter.models.len() < 2 {
            return Some("it compares models without naming two".to_owned());
        }
        if filter.statuses.len() > 3 {
            return Some("it names more ends of a request than there are".to_owned());
        }
        if let (Some(from), Some(before)) = (filter.from, filter.before)
            && from >= before
        {
            return Some(format!("its time ends at {before}, before it begins at {from}"));
        }
        if self.top.is_some_and(|top| top == 0 || top > MOST_LISTED) {
            return Some(format!("it asks for other than 1 to {MOST_LISTED} groups"));
        }
        if self.mean && self.measure == Measure::Requests {
            return Some("requests have no average by request".to_owned());
        }
        None
    }

    /// How its groups are ordered.
    #[must_use]
    pub fn ordered(&self) -> Order {
        self.order.unwrap_or(match self.by.first() {
            Some(first) if first.is_time() && self.top.is_none() => Order::Group,
            _ => Order::Largest,
        })
    }

    /// How many groups it lists.
    pub(crate) fn listed(&self) -> usize {
        usize::from(self.top.unwrap_or(match self.ordered() {
            Order::Group => 2 * LISTED,
            _ => LISTED,
        }))
    }
}

impl Measure {
    /// As the head of a column.
    #[must_use]
    pub const fn named(self) -> &'static str {
        match self {
            Self::Cost => "Cost",
            Self::RecordedCost => "Recorded cost",
            Self::Requests => "Requests",
            Self::Tokens => "Tokens",
            Self::InputTokens => "Tokens sent",
            Self::CachedTokens => "Cached tokens",
            Self::OutputTokens => "Tokens received",
            Self::ReasoningTokens => "Reasoning tokens",
        }
    }
}

impl Dimension {
    /// Whether its groups follow each other in time.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Week | Self::Month | Self::Hour | Self::Weekday)
    }

    /// As the head of a column.
    #[must_use]
    pub const fn named(self) -> &'static str {
        match self {
            Self::Model | Self::FilteredModel => "Model",
            Self::Provider => "Provider",
            Self::User => "User",
            Self::Session => "Session",
            Self::Day => "Day",
            Self::Week => "Week of",
            Self::Month => "Month",
            Self::Hour => "Hour",
            Self::Weekday => "Weekday",
            Self::Status => "Status",
            Self::Tier => "Tier",
        }
    }
}

/// How requests that ended so are called.
pub(crate) const fn status(status: UsageStatus) -> &'static str {
    match status {
        UsageStatus::Ok => "successful",
        UsageStatus::Error => "failed",
        UsageStatus::Unknown => "unfinished",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_small_and_makes_sense() {
        let fault = |json: &str| serde_json::from_str::<Query>(json).unwrap().fault();
        assert_eq!(fault("{}"), None);
        assert_eq!(fault(r#"{"by":["model","day"],"top":100}"#), None);
        for wrong in [
            r#"{"by":["model","day","user"]}"#,
            r#"{"by":["day","day"]}"#,
            r#"{"by":["filtered_model"]}"#,
            r#"{"top":0}"#,
            r#"{"top":101}"#,
            r#"{"mean":true,"measure":"requests"}"#,
            r#"{"filter":{"users":[""]}}"#,
            r#"{"filter":{"models":["a","b","c","d","e","f","g","h","i"]}}"#,
            r#"{"filter":{"from":"2026-02-01T00:00:00Z","before":"2026-01-01T00:00:00Z"}}"#,
        ] {
            assert!(fault(wrong).is_some(), "{wrong}");
        }
        for unreadable in [
            r#"{"sql":"select 1"}"#,
            r#"{"by":["password"]}"#,
            r#"{"top":-1}"#,
            r#"{"filter":{"where":"1=1"}}"#,
        ] {
            assert!(serde_json::from_str::<Query>(unreadable).is_err(), "{unreadable}");
        }
    }
}
