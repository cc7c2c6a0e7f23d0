//! When providers end models: dates with their sources, built in; no analysis ever fetches any.

use crate::cost::query::calendar;
use apex_core::error::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of the list's `format`.
const FORMAT: &str = "apex.retirements/1";

/// The dates on which providers end models.
#[derive(Debug, Clone)]
pub struct Retirements {
    version: String,
    dates: Vec<Retirement>,
}

/// The end of a model at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retirement {
    /// The provider's id in the catalogue.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The day on which it ends, such as `2026-12-11`.
    pub day: String,
    /// The page that says so, where the source of the list names one.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct File {
    format: String,
    version: String,
    /// Provider, model, day, source.
    retirements: Vec<(String, String, String, String)>,
}

impl Retirements {
    /// The list that this version of the library was built with.
    ///
    /// # Errors
    /// None that a release can have: it is read like any other.
    pub fn embedded() -> Result<Self> {
        Self::from_json(include_bytes!("retirements.json"))
    }

    /// A list in our format, `apex.retirements/1`.
    ///
    /// # Errors
    /// `bad_data` with what is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let refuse = |what: String| {
            let told =
                format!("the list of retirements {what}; make it with scripts/make-retirements");
            Error::new(Kind::BadData, "retirements.read", told)
        };
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| refuse("is not valid".to_owned()).with_source(error))?;
        if file.format != FORMAT {
            return Err(refuse(format!("has the format {:?} and not {FORMAT:?}", file.format)));
        }
        let mut dates = Vec::with_capacity(file.retirements.len());
        for (provider, model, day, source) in file.retirements {
            if calendar::parse_day(&day).is_none() {
                return Err(refuse(format!(
                    "ends {provider}/{model} on {day:?}, which is no date"
                )));
            }
            let source = (!source.is_empty()).then_some(source);
            dates.push(Retirement { provider, model, day, source });
        }
        Ok(Self { version: file.version, dates })
    }

    /// Its version, such as `litellm-1.109.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// When a provider ends the model of this name.
    #[must_use]
    pub fn of(&self, provider: &str, model: &str) -> Option<&Retirement> {
        let name = plain(model);
        self.dates.iter().find(|date| date.provider == provider && plain(&date.model) == name)
    }

    /// When a provider ends the dated versions of a model.
    pub fn versions<'a>(
        &'a self,
        provider: &'a str,
        model: &str,
    ) -> impl Iterator<Item = &'a Retirement> + use<'a> {
        let name = plain(model);
        self.dates.iter().filter(move |date| {
            let dated = plain(&date.model);
            let version = dated.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-'));
            date.provider == provider
                && version.is_some_and(|rest| {
                    rest.len() >= 4 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-')
                })
        })
    }

    /// What ends from one day to before another, the first first.
    #[must_use]
    pub fn between(&self, from: &str, before: &str) -> Vec<&Retirement> {
        let mut found: Vec<&Retirement> = self
            .dates
            .iter()
            .filter(|date| from <= date.day.as_str() && date.day.as_str() < before)
            .collect();
        found.sort_by(|a, b| (&a.day, &a.provider, &a.model).cmp(&(&b.day, &b.provider, &b.model)));
        found
    }
}

/// A name without the folders before it, in lower case, with points as dashes.
fn plain(name: &str) -> String {
    let name = name.rsplit_once('/').map_or(name, |(_, last)| last);
    name.trim().to_ascii_lowercase().replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_end_is_that_at_its_provider() {
        let list = Retirements::embedded().unwrap();
        assert!(list.version().starts_with("litellm-"));
        let found = list.of("openai", "o3").unwrap();
        assert_eq!((found.day.as_str(), found.source.is_some()), ("2026-12-11", true));
        assert_ne!(list.of("azure", "o3").map(|found| &found.day), Some(&found.day));
        assert_eq!(list.of("openai", "gpt-4o"), None, "only its versions have a date");
        let versions: Vec<&str> =
            list.versions("openai", "gpt-4o").map(|found| found.model.as_str()).collect();
        assert!(versions.contains(&"gpt-4o-2024-08-06"), "{versions:?}");
        assert!(versions.iter().all(|name| !name.contains("mini")), "{versions:?}");
        let soon = list.between("2026-11-24", "2026-12-12");
        assert!(soon.windows(2).all(|pair| pair[0].day <= pair[1].day) && !soon.is_empty());
    }

    #[test]
    fn a_foreign_or_broken_list_is_refused_with_what_to_do() {
        for bytes in [
            &b"{}"[..],
            br#"{"format":"x","version":"1","retirements":[]}"#,
            br#"{"format":"apex.retirements/1","version":"1","retirements":[["a","b","2026-02-30",""]]}"#,
        ] {
            let error = Retirements::from_json(bytes).unwrap_err();
            assert_eq!(error.kind(), Kind::BadData);
            assert!(error.to_string().contains("make-retirements"), "{error}");
        }
    }
}
