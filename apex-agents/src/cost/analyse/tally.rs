//! Sums over requests.

use super::row::Row;
use crate::cost::report::Totals;
use apex_core::money::Usd;

/// The sums of a set of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    requests: u64,
    input: u64,
    cached: u64,
    output: u64,
    recorded: Usd,
    with_recorded: u64,
    priced: Usd,
    with_price: u64,
}

impl Tally {
    /// Counts a request.
    #[inline]
    pub(super) fn add(&mut self, row: &Row, price: Option<Usd>) {
        self.requests += 1;
        self.input += row.tokens.input;
        self.cached += row.tokens.cached;
        self.output += row.tokens.output;
        if let Some(cost) = row.recorded {
            self.recorded += cost;
            self.with_recorded += 1;
        }
        if let Some(price) = price {
            self.priced += price;
            self.with_price += 1;
        }
    }

    /// Counts all that another tally has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
        self.recorded += other.recorded;
        self.with_recorded += other.with_recorded;
        self.priced += other.priced;
        self.with_price += other.with_price;
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// What the requests cost, by the prices where there are any, else by the records: for an order.
    pub(super) fn weight(&self) -> Usd {
        if self.with_price > 0 { self.priced } else { self.recorded }
    }

    /// The sums as a report has them.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            requests: self.requests,
            input_tokens: self.input,
            cached_tokens: self.cached,
            output_tokens: self.output,
            recorded_cost_usd: (self.with_recorded > 0).then_some(self.recorded),
            priced_cost_usd: (self.with_price > 0).then_some(self.priced),
            unpriced_requests: self.requests - self.with_price,
        }
    }
}
