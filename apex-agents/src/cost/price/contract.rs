//! A customer's own prices, laid over the catalogue. The format is described in `docs/guide/prices.md`.

use super::catalogue::day;
use super::clause::like;
use super::rates::Rates;
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usd;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    price: Vec<Term>,
}

/// One line of a contract.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Term {
    /// The provider's id; any where absent.
    provider: Option<String>,
    /// The model as the records or the catalogue name it; `*` at the end is anything.
    model: String,
    #[serde(default, deserialize_with = "day")]
    pub(super) from: Option<i64>,
    /// The first day on which it no longer counts.
    #[serde(default, deserialize_with = "day")]
    pub(super) until: Option<i64>,
    #[serde(default)]
    batch: bool,
    tier: Option<String>,
    /// A part of the list price, such as `0.15`.
    discount: Option<Usd>,
    #[serde(default)]
    rates: Rates,
}

/// Reads a contract, in TOML or JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Term>> {
    let refuse = |what: String| {
        Error::new(
            Kind::BadData,
            "contract.read",
            format!(
                "the contract prices are not valid: {what}; see docs/guide/prices.md for the format"
            ),
        )
    };
    let text =
        std::str::from_utf8(bytes).map_err(|_| refuse("the file is not UTF-8 text".to_owned()))?;
    let file: File = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?
    } else {
        toml::from_str(text).map_err(|e| refuse(e.to_string()))?
    };
    let mut terms = file.price;
    for (position, term) in terms.iter_mut().enumerate() {
        let fault = if term.rates.is_empty() == term.discount.is_none() {
            Some("needs either rates or a discount")
        } else if term
            .discount
            .is_some_and(|d| d < Usd::ZERO || d > Usd::from_units(10_i128.pow(24)))
        {
            Some("has a discount that is not between 0 and 1")
        } else if term.from.zip(term.until).is_some_and(|(from, until)| from >= until) {
            Some("ends before it starts")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(refuse(format!("price {} (model {:?}) {fault}", position + 1, term.model)));
        }
        term.model.make_ascii_lowercase();
    }
    Ok(terms)
}

impl Term {
    /// Whether it is about these requests, at any time.
    pub(super) fn covers(
        &self,
        provider: Option<&str>,
        names: [&str; 2],
        tier: Option<&str>,
        batch: bool,
    ) -> bool {
        self.batch == batch
            && self.tier.as_deref() == tier
            && self.provider.as_deref().is_none_or(|own| Some(own) == provider)
            && names.iter().any(|name| like(&self.model, name))
    }

    /// Whether it counts at this moment (milliseconds since 1970).
    pub(super) fn holds(&self, at: i64) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    /// The rates under this term, over those before it.
    pub(super) fn apply(&self, rates: &Rates) -> Rates {
        let millionths = self
            .discount
            .and_then(|d| u64::try_from(d.units() / 10_i128.pow(18)).ok())
            .unwrap_or(0);
        rates.discounted(millionths).overlaid(&self.rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = parse(b"[[price]]\nmodel = \"GPT-4o*\"\nfrom = \"2026-01-01\"\nrates = { in = \"2\", out = \"8\" }\n").unwrap();
        let json = parse(
            br#"{"price":[{"model":"gpt-4o*","from":"2026-01-01","rates":{"in":"2","out":"8"}}]}"#,
        )
        .unwrap();
        assert_eq!(format!("{toml:?}"), format!("{json:?}"));
    }

    #[test]
    fn faults_name_the_price_and_the_way_out() {
        for (text, expected) in [
            ("[[price]]\nmodel = \"a\"", "price 1 (model \"a\") needs either rates or a discount"),
            ("[[price]]\nmodel = \"a\"\ndiscount = \"1.5\"", "not between 0 and 1"),
            (
                "[[price]]\nmodel = \"a\"\ndiscount = \"0.1\"\nfrom = \"2026-02-01\"\nuntil = \"2026-01-01\"",
                "ends before",
            ),
            ("[[price]]\nmodell = \"a\"", "modell"),
            ("\u{0}", "not valid"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("docs/guide/prices.md"));
        }
    }
}
