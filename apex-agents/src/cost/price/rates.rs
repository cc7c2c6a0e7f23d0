//! Prices a token, and what a request costs at them.

use super::Unpriced;
use apex_core::money::Usd;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

/// The tokens that are billed separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// All tokens sent, the next two included.
    pub input: u64,
    /// Read from the provider's cache.
    pub cached: u64,
    /// Written to the provider's cache.
    pub cache_write: u64,
    /// All tokens received, reasoning included.
    pub output: u64,
    /// Spent on reasoning.
    pub reasoning: u64,
}

/// The price of one token of a kind: a base, and other prices for *all* tokens of a request whose input is longer
/// than a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rate {
    base: Usd,
    pub(super) steps: Vec<(u64, Usd)>,
}

/// What a request is billed at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    #[serde(rename = "in")]
    pub(super) input: Option<Rate>,
    pub(super) read: Option<Rate>,
    pub(super) write: Option<Rate>,
    #[serde(rename = "out")]
    pub(super) output: Option<Rate>,
    #[serde(rename = "reason")]
    pub(super) reasoning: Option<Rate>,
    #[serde(default, deserialize_with = "per_thousand")]
    pub(super) request: Option<Usd>,
}

impl Rate {
    pub(super) fn at(&self, input: u64) -> Usd {
        // A request is in the last step that its whole input exceeds.
        self.steps
            .iter()
            .rev()
            .find(|(start, _)| input > *start)
            .map_or(self.base, |(_, price)| *price)
    }

    fn map(&self, change: impl Fn(u64, Usd) -> Usd) -> Self {
        Self {
            base: change(0, self.base),
            steps: self
                .steps
                .iter()
                .map(|(start, price)| (*start, change(start.saturating_add(1), *price)))
                .collect(),
        }
    }
}

impl Rates {
    /// What a request costs, exactly.
    ///
    /// Cached and cache-writing tokens without a rate of their own are billed as plain input, reasoning as output.
    ///
    /// # Errors
    /// A kind of token was used that has no rate.
    pub fn cost(&self, tokens: &Tokens) -> Result<Usd, Unpriced> {
        self.cost_in_requests_of(tokens.input, tokens)
    }

    /// What these tokens cost in requests that each send `input` tokens, without a price by the request.
    ///
    /// # Errors
    /// As [`Rates::cost`].
    pub fn cost_in_parts(&self, input: u64, tokens: &Tokens) -> Result<Usd, Unpriced> {
        Self { request: None, ..self.clone() }.cost_in_requests_of(input, tokens)
    }

    fn cost_in_requests_of(&self, input: u64, tokens: &Tokens) -> Result<Usd, Unpriced> {
        let cached = if self.read.is_some() { tokens.cached } else { 0 };
        let written = if self.write.is_some() { tokens.cache_write } else { 0 };
        let reasoning = if self.reasoning.is_some() { tokens.reasoning } else { 0 };
        let plain = tokens.input.saturating_sub(cached).saturating_sub(written);
        let visible = tokens.output.saturating_sub(reasoning);
        let mut cost = self.request.unwrap_or(Usd::ZERO);
        for (rate, count) in [
            (&self.input, plain),
            (&self.read, cached),
            (&self.write, written),
            (&self.output, visible),
            (&self.reasoning, reasoning),
        ] {
            if count > 0 {
                let price = rate.as_ref().ok_or(Unpriced::NoRate)?.at(input);
                cost = price
                    .checked_mul(count)
                    .and_then(|part| cost.checked_add(part))
                    .ok_or(Unpriced::TooLarge)?;
            }
        }
        Ok(cost)
    }

    /// Whether answers have a price: those of embedding models do not, and an empty one is no failure.
    #[must_use]
    pub fn bills_output(&self) -> bool {
        self.output.is_some()
    }

    /// These rates with those of `over` in the place of the same kinds.
    pub(super) fn overlaid(&self, over: &Self) -> Self {
        let pick = |o: &Option<Rate>, s: &Option<Rate>| o.clone().or_else(|| s.clone());
        Self {
            input: pick(&over.input, &self.input),
            read: pick(&over.read, &self.read),
            write: pick(&over.write, &self.write),
            output: pick(&over.output, &self.output),
            reasoning: pick(&over.reasoning, &self.reasoning),
            request: over.request.or(self.request),
        }
    }

    /// These rates less a discount in millionths.
    pub(super) fn discounted(&self, millionths: u64) -> Self {
        let keep = 1_000_000_u64.saturating_sub(millionths);
        let cut = |rate: &Option<Rate>| {
            rate.as_ref().map(|r| r.map(|_, price| price.ratio(keep, 1_000_000)))
        };
        Self {
            input: cut(&self.input),
            read: cut(&self.read),
            write: cut(&self.write),
            output: cut(&self.output),
            reasoning: cut(&self.reasoning),
            request: self.request.map(|price| price.ratio(keep, 1_000_000)),
        }
    }

    /// These rates, changed as `to` is to `from`: a discount that is known for one date, carried to another.
    pub(super) fn scaled(&self, from: &Self, to: &Self) -> Self {
        let carry = |own: &Option<Rate>, from: &Option<Rate>, to: &Option<Rate>| {
            own.as_ref().map(|rate| match (from, to) {
                (Some(from), Some(to)) => {
                    rate.map(|input, price| price.share(to.at(input), from.at(input)))
                }
                _ => rate.clone(),
            })
        };
        Self {
            input: carry(&self.input, &from.input, &to.input),
            read: carry(&self.read, &from.read, &to.read),
            write: carry(&self.write, &from.write, &to.write),
            output: carry(&self.output, &from.output, &to.output),
            reasoning: carry(&self.reasoning, &from.reasoning, &to.reasoning),
            request: self.request,
        }
    }

    /// Whether nothing has a price.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Plain(String),
            Tiered(Vec<Part>),
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Part {
            Base(String),
            Step(u64, String),
        }
        let per_million = |text: &str| {
            text.parse::<Usd>()
                .ok()
                .filter(|price| *price >= Usd::ZERO && price.units() % 1_000_000 == 0)
                .map(|price| price.ratio(1, 1_000_000))
                .ok_or_else(|| {
                    de::Error::custom(format!("{text:?} is not a price per million tokens"))
                })
        };
        let parts = match Shape::deserialize(deserializer)? {
            Shape::Plain(text) => vec![Part::Base(text)],
            Shape::Tiered(parts) => parts,
        };
        let mut parts = parts.into_iter();
        let Some(Part::Base(base)) = parts.next() else {
            return Err(de::Error::custom("a tiered price starts with its base"));
        };
        let mut rate = Self { base: per_million(&base)?, steps: Vec::new() };
        for part in parts {
            let Part::Step(start, price) = part else {
                return Err(de::Error::custom(
                    "after its base a tiered price has [threshold, price] pairs",
                ));
            };
            if rate.steps.last().is_some_and(|(last, _)| start <= *last) {
                return Err(de::Error::custom("the thresholds of a tiered price must rise"));
            }
            rate.steps.push((start, per_million(&price)?));
        }
        Ok(rate)
    }
}

fn per_thousand<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usd>, D::Error> {
    let price = Option::<Usd>::deserialize(deserializer)?;
    Ok(price.map(|price| price.ratio(1, 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(json: &str) -> Rates {
        serde_json::from_str(json).unwrap()
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_of_token_has_its_rate() {
        let rates = rates(r#"{"in":"2.5","read":"1.25","out":"10"}"#);
        let tokens =
            Tokens { input: 1_000, cached: 400, cache_write: 100, output: 10, reasoning: 5 };
        // Writing and reasoning have no rate of their own here.
        assert_eq!(rates.cost(&tokens), Ok(usd("0.0021")));
        let without_cache_rate =
            serde_json::from_str::<Rates>(r#"{"in":"2.5","out":"10"}"#).unwrap();
        assert_eq!(without_cache_rate.cost(&tokens), Ok(usd("0.0026")));
    }

    #[test]
    fn a_longer_context_reprices_the_whole_request() {
        let rates = rates(r#"{"in":["1.25",[200000,"2.5"]],"out":["10",[200000,"15"]]}"#);
        let at = |input| rates.cost(&Tokens { input, output: 1, ..Tokens::default() }).unwrap();
        assert_eq!(at(200_000), usd("0.25001"));
        assert_eq!(at(200_001), usd("0.5000175"));
    }

    #[test]
    fn what_has_no_rate_is_unpriced_never_free() {
        let embedding = rates(r#"{"in":"0.02"}"#);
        assert_eq!(embedding.cost(&Tokens { input: 50, ..Tokens::default() }), Ok(usd("0.000001")));
        assert_eq!(
            embedding.cost(&Tokens { input: 50, output: 1, ..Tokens::default() }),
            Err(Unpriced::NoRate)
        );
        assert!(!embedding.bills_output());
    }

    #[test]
    fn a_discount_known_for_one_date_is_carried_to_another() {
        let then = rates(r#"{"in":"10","out":"40"}"#);
        let now = rates(r#"{"in":"2","out":"8"}"#);
        let batch = rates(r#"{"in":"1","out":"4"}"#);
        assert_eq!(then.scaled(&now, &batch), rates(r#"{"in":"5","out":"20"}"#));
        assert_eq!(then.discounted(250_000), rates(r#"{"in":"7.5","out":"30"}"#));
    }

    #[test]
    fn nonsense_prices_are_refused() {
        for text in [
            r#"{"in":"-1"}"#,
            r#"{"in":2.5}"#,
            r#"{"in":[[200000,"1"]]}"#,
            r#"{"in":["1",[5,"2"],[5,"3"]]}"#,
            r#"{"input":"1"}"#,
        ] {
            assert!(serde_json::from_str::<Rates>(text).is_err(), "{text}");
        }
    }
}
