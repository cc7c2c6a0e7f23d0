//! Questions about prices: what models cost, what would be cheaper, what a change would cost, and which models end.
//!
//! As with [`super::query`], all that can be asked is a typed value ([`PriceQuestion`]), read by rules
//! ([`english::read`]) or filled in by a model, and checked before anything is computed. Every figure of an answer is
//! a list price of the catalogue, a sum over the user's own records, or exact arithmetic on those; a model without a
//! price is said to have none.

pub mod english;
mod list;
mod moving;

pub use list::{Prices, prices};
pub use moving::{ending, moved};

use super::query::{Filter, MOST_NAMES, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question about prices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceQuestion {
    /// What is asked.
    pub asked: PriceTopic,
    /// The models that it is about, at most eight: those whose price is asked, for which something cheaper is looked
    /// for, whose end is asked, or to which requests would be moved.
    #[schemars(length(max = 8))]
    pub models: Vec<String>,
    /// At which provider, where the question says so.
    pub provider: Option<String>,
    /// The tokens to be priced, where the question says how many.
    pub mix: Option<Mix>,
    /// Which of the user's own requests would be moved; of `filter.models` those from which they would be moved away.
    pub filter: Filter,
}

/// What is asked about prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceTopic {
    /// What models cost.
    #[default]
    Price,
    /// What would be cheaper than a model.
    Cheaper,
    /// What the user's own requests would have cost on other models.
    Change,
    /// When models end.
    Ending,
}

/// Tokens to be priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// In how many requests; 0 where nothing is said, which prices them as short requests.
    #[serde(default)]
    pub requests: u64,
    /// Sent in all, cached ones included.
    pub input_tokens: u64,
    /// Of them read from the provider's cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Received in all.
    pub output_tokens: u64,
}

impl Mix {
    /// What is priced where a question does not say how many tokens.
    pub const EXAMPLE: Self =
        Self { requests: 0, input_tokens: 1_000_000, cached_tokens: 0, output_tokens: 200_000 };

    /// More tokens than anyone sends: what is beyond is a slip.
    const MOST: u64 = 1_000_000_000_000_000;
}

impl PriceQuestion {
    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let query = Query {
            filter: self.filter.clone(),
            on_models: self.models.clone(),
            ..Query::default()
        };
        if let Some(fault) = query.fault() {
            return Some(fault);
        }
        if self.provider.as_ref().is_some_and(|name| name.trim().is_empty() || name.len() > 64) {
            return Some("its provider is empty or longer than 64 bytes".to_owned());
        }
        if let Some(mix) = &self.mix {
            let counts = [mix.requests, mix.input_tokens, mix.output_tokens];
            if mix.cached_tokens > mix.input_tokens {
                return Some("more tokens are cached than sent".to_owned());
            }
            if counts.iter().any(|count| *count > Mix::MOST) {
                return Some("it has more tokens than anyone sends".to_owned());
            }
        }
        let needs =
            matches!(self.asked, PriceTopic::Price | PriceTopic::Cheaper | PriceTopic::Change);
        if needs && self.models.is_empty() {
            return Some(format!("it names no model of at most {MOST_NAMES}"));
        }
        None
    }
}
