//! The figures of a report, before they are put into words. The analysis and the verification each compute them in
//! their own way; everything behind them, from the order of lists to the sentences, is shared.

use super::{CatalogueStamp, DayRow, Example, ModelRow, Period, Source, Totals, UserRow};
use crate::cost::lever::Effect;
use crate::cost::price::Unpriced;
use apex_core::money::Usd;
use std::collections::BTreeMap;

/// The name under which models beyond the limit stand.
pub(in crate::cost) const OTHER_MODELS: &str = "(other models)";
/// The name under which users beyond the limit stand.
pub(in crate::cost) const OTHER_USERS: &str = "(other users)";
/// The name of requests without a model.
pub(in crate::cost) const NO_MODEL: &str = "(no model)";
/// The name of requests without a user.
pub(in crate::cost) const NO_USER: &str = "(no user)";
/// The name of requests without a time.
pub(in crate::cost) const NO_DAY: &str = "unknown";

/// How many examples a finding keeps.
pub(in crate::cost) const EXAMPLES: usize = 10;

/// A recorded cost this many times the expected one, and this much above it, is an outlier.
pub(in crate::cost) const OUTLIER_RATIO: u64 = 10;
/// Ten cents, in units of 10^-24 dollars.
pub(in crate::cost) const OUTLIER_EXCESS: Usd = Usd::from_units(10_i128.pow(23));

/// All figures.
#[derive(Debug, Clone)]
pub(in crate::cost) struct Facts {
    pub(in crate::cost) sources: Vec<Source>,
    pub(in crate::cost) period: Period,
    pub(in crate::cost) totals: Totals,
    pub(in crate::cost) by_model: Vec<ModelRow>,
    pub(in crate::cost) by_user: Vec<UserRow>,
    pub(in crate::cost) by_day: Vec<DayRow>,
    pub(in crate::cost) notes: Notes,
    /// By lever, in their order.
    pub(in crate::cost) effects: Vec<Effect>,
    pub(in crate::cost) catalogue: CatalogueStamp,
}

/// The figures behind the findings.
#[derive(Debug, Clone, Default)]
pub(in crate::cost) struct Notes {
    /// Records whose cost is far beyond their price.
    pub(in crate::cost) outliers: u64,
    pub(in crate::cost) outlier_recorded: Usd,
    pub(in crate::cost) outlier_priced: Usd,
    /// The worst of them first.
    pub(in crate::cost) outlier_rows: Vec<Outlier>,
    /// Records that say that they cost nothing; those of them that have a price, and its sum.
    pub(in crate::cost) free: u64,
    pub(in crate::cost) free_priced: u64,
    pub(in crate::cost) free_worth: Usd,
    /// Records with a cost above zero and a price, outliers left out.
    pub(in crate::cost) compared: u64,
    pub(in crate::cost) compared_recorded: Usd,
    pub(in crate::cost) compared_priced: Usd,
    /// Requests and tokens without a price, by the reason.
    pub(in crate::cost) unpriced: BTreeMap<Unpriced, (u64, u64)>,
    /// Rows that were rejected as copies of others.
    pub(in crate::cost) copies: u64,
    pub(in crate::cost) copy_rows: Vec<Example>,
    /// Rows without an id that equal an earlier one; they count.
    pub(in crate::cost) twins: u64,
    pub(in crate::cost) twin_rows: Vec<Example>,
    /// Requests without a time.
    pub(in crate::cost) undated: u64,
    /// Whether copies far apart may have passed.
    pub(in crate::cost) forgot: bool,
}

/// A record whose cost is far beyond its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cost) struct Outlier {
    pub(in crate::cost) file: String,
    pub(in crate::cost) line: u64,
    pub(in crate::cost) model: String,
    pub(in crate::cost) tokens: u64,
    pub(in crate::cost) recorded: Usd,
    pub(in crate::cost) priced: Usd,
}

impl Outlier {
    /// Whether a record with this cost and price is one.
    pub(in crate::cost) fn is_one(recorded: Usd, priced: Usd) -> bool {
        recorded - priced >= OUTLIER_EXCESS
            && priced.checked_mul(OUTLIER_RATIO).is_some_and(|limit| recorded >= limit)
    }
}
