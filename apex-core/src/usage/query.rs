use super::Attempt;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::money::{Usage, Usd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which attempts are summed up, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageQuery {
    /// Those that began then or later.
    pub from: Option<Timestamp>,
    /// Those that began before.
    pub before: Option<Timestamp>,
    /// Those of one run.
    pub run: Option<RunId>,
    /// One sum for each of what.
    pub by: GroupBy,
}

/// What attempts are grouped by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// Nothing: one sum of all, whose group is empty.
    #[default]
    All,
    /// The provider and model, as `provider:model`.
    Model,
    /// How they ended, by [`super::AttemptOutcome::word`].
    Outcome,
    /// The run, by its id; empty for what no run asked. What each step of a run used is in its graph, too.
    Run,
    /// The step, as `<run>:s3`; empty for what no step asked.
    Step,
    /// The day in UTC, such as `2026-11-22`.
    Day,
}

/// A sum of attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Total {
    /// What they have in common.
    pub group: String,
    /// How many they are.
    pub attempts: u64,
    /// How many of them have no known cost.
    pub unpriced_attempts: u64,
    /// What they used; without a cost when one of them has none.
    pub usage: Usage,
    /// What those with a known cost cost.
    pub priced_cost_usd: Usd,
}

impl UsageQuery {
    /// Whether the attempt is one of those.
    pub(crate) fn takes(&self, attempt: &Attempt) -> bool {
        self.from.is_none_or(|from| attempt.at >= from)
            && self.before.is_none_or(|before| attempt.at < before)
            && self.run.is_none_or(|run| attempt.run == Some(run))
    }
}

impl GroupBy {
    fn of(self, attempt: &Attempt) -> String {
        match self {
            Self::All => String::new(),
            Self::Model => format!("{}:{}", attempt.provider, attempt.model),
            Self::Outcome => attempt.outcome.word().to_owned(),
            Self::Run => attempt.run.map(|run| run.to_string()).unwrap_or_default(),
            Self::Step => {
                let step = attempt.run.zip(attempt.step);
                step.map(|(run, step)| format!("{run}:{step}")).unwrap_or_default()
            }
            Self::Day => attempt.at.to_string().chars().take(10).collect(),
        }
    }
}

/// Adds attempts up one by one.
#[derive(Debug)]
pub(crate) struct Summing {
    by: GroupBy,
    totals: BTreeMap<String, Total>,
}

impl Summing {
    pub(crate) fn by(by: GroupBy) -> Self {
        Self { by, totals: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, attempt: &Attempt) {
        let group = self.by.of(attempt);
        let total = self.totals.entry(group.clone()).or_insert_with(|| Total {
            group,
            attempts: 0,
            unpriced_attempts: 0,
            usage: Usage::NONE,
            priced_cost_usd: Usd::ZERO,
        });
        total.attempts += 1;
        total.usage = total.usage.plus(attempt.usage);
        match attempt.usage.cost_usd {
            Some(cost) => total.priced_cost_usd += cost,
            None => total.unpriced_attempts += 1,
        }
    }

    pub(crate) fn totals(self) -> Vec<Total> {
        self.totals.into_values().collect()
    }
}
