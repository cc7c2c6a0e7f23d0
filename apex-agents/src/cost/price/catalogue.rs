//! The catalogue's file format, checked when it is read.

use super::clause::Clause;
use super::rates::Rates;
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind, Result};
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The value of a catalogue's `format`.
const FORMAT: &str = "apex.prices/1";

#[derive(Debug, Clone, Deserialize)]
pub(super) struct File {
    format: String,
    pub(super) version: String,
    pub(super) date: String,
    pub(super) providers: Vec<Provider>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) id: String,
    /// Other names of the provider.
    pub(super) names: Option<Clause>,
    /// Models that are meant to be its own where no provider is named.
    #[serde(rename = "match")]
    pub(super) matches: Option<Clause>,
    /// The providers whose models it sells at their prices.
    #[serde(default)]
    pub(super) fallback: Vec<String>,
    pub(super) models: Vec<Model>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) id: String,
    #[serde(rename = "match")]
    pub(super) matches: Clause,
    /// The last one whose condition holds counts; where none holds, the first.
    pub(super) prices: Vec<Price>,
    /// Other prices for other service; of those whose condition holds the first counts, for each rate by itself.
    #[serde(default)]
    pub(super) variants: Vec<Variant>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    #[serde(default, deserialize_with = "day")]
    pub(super) from: Option<i64>,
    #[serde(default, deserialize_with = "hours")]
    pub(super) hours: Option<(i64, i64)>,
    pub(super) rates: Rates,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    #[serde(default)]
    pub(super) batch: bool,
    pub(super) tier: Option<String>,
    #[serde(default, deserialize_with = "day")]
    pub(super) from: Option<i64>,
    pub(super) rates: Rates,
}

impl File {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let refuse = |what: String| Error::new(Kind::BadData, "catalogue.read", what);
        let file: Self = serde_json::from_slice(bytes).map_err(|e| {
            refuse(
                "the price catalogue is not valid; make it with scripts/make-catalogue".to_owned(),
            )
            .with_source(e)
        })?;
        if file.format != FORMAT {
            return Err(refuse(format!(
                "the price catalogue has the format {:?} and not {FORMAT:?}; make it with scripts/make-catalogue",
                file.format
            )));
        }
        for provider in &file.providers {
            for model in &provider.models {
                if model.prices.is_empty() {
                    return Err(refuse(format!(
                        "the price catalogue gives {}/{} no price",
                        provider.id, model.id
                    )));
                }
            }
        }
        Ok(file)
    }
}

impl Price {
    /// Whether it counts at this moment (milliseconds since 1970).
    pub(super) fn holds(&self, at: i64) -> bool {
        const DAY: i64 = 86_400_000;
        let in_hours = self.hours.is_none_or(|(start, end)| {
            let time = at.rem_euclid(DAY);
            if end < start { time >= start || time < end } else { start <= time && time < end }
        });
        in_hours && self.from.is_none_or(|from| at >= from)
    }
}

/// A date such as `2026-01-31`, as the first millisecond of that day in UTC.
pub(super) fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| {
            format!("{text}T00:00:00Z").parse::<Timestamp>().map(Timestamp::as_millis).map_err(
                |_| de::Error::custom(format!("{text:?} is not a date such as 2026-01-31")),
            )
        })
        .transpose()
}

fn hours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(i64, i64)>, D::Error> {
    let millis = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
        (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60_000)
    };
    Option::<(String, String)>::deserialize(deserializer)?
        .map(|(start, end)| {
            millis(&start).zip(millis(&end)).ok_or_else(|| {
                de::Error::custom(format!("{start:?} to {end:?} are not hours such as 16:30"))
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_cross_midnight() {
        let price: Price =
            serde_json::from_str(r#"{"hours":["16:30","00:30"],"rates":{"in":"1"}}"#).unwrap();
        let at = |text: &str| price.holds(text.parse::<Timestamp>().unwrap().as_millis());
        assert!(
            at("2025-06-01T16:30:00Z") && at("2025-06-01T23:59:59Z") && at("2025-06-01T00:29:59Z")
        );
        assert!(!at("2025-06-01T00:30:00Z") && !at("2025-06-01T16:29:59Z"));
    }

    #[test]
    fn a_foreign_file_is_refused_with_what_to_do() {
        for bytes in
            [&b"{}"[..], b"[]", br#"{"format":"x","version":"1","date":"d","providers":[]}"#]
        {
            let error = File::parse(bytes).unwrap_err();
            assert_eq!(error.kind(), Kind::BadData);
            assert!(error.to_string().contains("make-catalogue"), "{error}");
        }
    }
}
