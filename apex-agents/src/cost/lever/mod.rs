//! Levers: ways to pay less for the same work, and what each would have saved.
//!
//! The levers are applied to every priced request in one order, each to what those before it left, so that nothing
//! is saved twice. Each does so under three readings of the records: `low` is what they prove, `expected` what a
//! stated rule makes likely, `high` what is possible at most. A lever without evidence that the answers would be as
//! good comes last and stays outside the headline, so that nothing inside it rests on it.
//!
//! A new lever is a file in this folder with a [`Lever`] and a line in [`ALL`]; the verification computes it a second
//! way in `verify/levers.rs`.

pub(in crate::cost) mod batch;
pub(in crate::cost) mod cheaper;
pub(in crate::cost) mod failed;
pub(in crate::cost) mod repeats;

use super::analyse::{RouteName, Row};
use super::price::{Catalogue, Rates};
use super::report::{Action, Recommendation, Saving};
use apex_core::money::Usd;
use std::fmt;
use std::sync::Arc;

/// All levers, in the order of their application.
pub(in crate::cost) const ALL: &[Lever] =
    &[failed::LEVER, repeats::LEVER, batch::LEVER, cheaper::LEVER];

/// A lever.
#[derive(Debug, Clone, Copy)]
pub(in crate::cost) struct Lever {
    /// Its stable name.
    pub(in crate::cost) name: &'static str,
    /// Whether its savings may count in the headline: only with evidence that the work stays as good.
    pub(in crate::cost) in_headline: bool,
    /// Makes its rule for one analysis.
    pub(in crate::cost) rule: fn(&Arc<Catalogue>) -> Box<dyn Rule>,
    /// What it advises, given what it would have saved.
    pub(in crate::cost) recommend: fn(&Effect) -> Recommendation,
    /// The step of the action plan that carries it out.
    pub(in crate::cost) act: fn(&Effect) -> Action,
}

/// Decides, request by request, what a lever saves.
pub(in crate::cost) trait Rule: fmt::Debug + Send {
    /// Lowers what is left of a request's cost. What it saves under a reading it saves under the wider ones too; only
    /// the last lever may save under the highest alone, or the readings of those behind it would cross.
    fn apply(&mut self, call: &Call<'_>, left: &mut Readings);

    /// Looks at the memory that [`Rule::apply`] will need for a row, for many rows at once; a rule with a large table
    /// waits less so. The value only keeps the look from being left out.
    fn warm(&self, _row: &Row) -> u64 {
        0
    }
}

/// A request with a price.
#[derive(Debug)]
pub(in crate::cost) struct Call<'a> {
    pub(in crate::cost) row: &'a Row,
    /// The route's number in this analysis, and its names.
    pub(in crate::cost) route: (u32, &'a RouteName),
    /// The rates that it was billed at.
    pub(in crate::cost) rates: &'a Rates,
    /// The rates that it would have had in a batch.
    pub(in crate::cost) batch: Option<&'a Rates>,
}

/// What is left of a request's cost under the three readings.
#[derive(Debug, Clone, Copy)]
pub(in crate::cost) struct Readings {
    pub(in crate::cost) low: Left,
    pub(in crate::cost) expected: Left,
    pub(in crate::cost) high: Left,
}

/// What is left of a request's cost.
#[derive(Debug, Clone, Copy)]
pub(in crate::cost) struct Left {
    pub(in crate::cost) cost: Usd,
    /// Whether a lever has moved it into a batch.
    pub(in crate::cost) batched: bool,
}

impl Left {
    /// The request is not made at all.
    pub(in crate::cost) fn spare(&mut self) {
        self.cost = Usd::ZERO;
    }
}

impl Readings {
    /// All of a request's cost.
    pub(in crate::cost) fn all(cost: Usd) -> Self {
        let left = Left { cost, batched: false };
        Self { low: left, expected: left, high: left }
    }
}

/// What a lever would have saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cost) struct Effect {
    pub(in crate::cost) saving: Saving,
    /// How many requests, by reading.
    pub(in crate::cost) low_requests: u64,
    pub(in crate::cost) expected_requests: u64,
    pub(in crate::cost) high_requests: u64,
}

impl Effect {
    /// Counts what changed from `before` to `after`. What is certain is part of what is likely: a saving that an
    /// earlier lever already counts as likely is not certain for a later one.
    pub(in crate::cost) fn count(&mut self, before: &Readings, after: &Readings) {
        let saved = |before: Left, after: Left| (before.cost - after.cost).max(Usd::ZERO);
        let expected = saved(before.expected, after.expected);
        let low = saved(before.low, after.low).min(expected);
        let high = saved(before.high, after.high);
        self.saving.low += low;
        self.saving.expected += expected;
        self.saving.high += high;
        self.low_requests += u64::from(low > Usd::ZERO);
        self.expected_requests += u64::from(expected > Usd::ZERO);
        self.high_requests += u64::from(high > Usd::ZERO);
    }

    /// The requests behind the expected saving, or behind the highest where nothing is expected.
    pub(in crate::cost) fn requests(&self) -> u64 {
        if self.expected_requests > 0 { self.expected_requests } else { self.high_requests }
    }
}
