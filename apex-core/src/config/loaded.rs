use super::report::Fault;
use super::schema::Field;
use super::source::Origin;
use super::{DatabaseUrl, Environment};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;

/// A configuration that passed, with where each of its values came from.
#[derive(Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Where the process runs, as the key `environment` says.
    pub environment: Environment,
    /// Each field, in the order of the keys, with its source; secrets are hidden.
    pub listed: Vec<Listed>,
    /// What is allowed here and would not be elsewhere.
    pub warnings: Vec<Fault>,
}

impl<T> Loaded<T> {
    /// Where the value of a field came from, by its dotted key.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.listed.iter().find(|entry| entry.key == key).map(|entry| &entry.source)
    }
}

impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.listed).finish()
    }
}

/// The resolved values: a line a field, aligned.
impl<T> fmt::Display for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Listed) -> &str| {
            self.listed.iter().map(|e| text(e).chars().count()).max().unwrap_or(0)
        };
        let (key, value) = (width(|e| &e.key), width(|e| &e.value).min(40));
        for entry in &self.listed {
            writeln!(f, "{:key$}  {:value$}  {}", entry.key, entry.value, entry.source)?;
        }
        for warning in &self.warnings {
            writeln!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// One field of a resolved configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The dotted name.
    pub key: String,
    /// The value as it is written; `(hidden)` for a secret, `(not set)` for none, `(empty)` for an empty text.
    pub value: String,
    /// Where it came from.
    #[serde(serialize_with = "text")]
    pub source: Origin,
    /// The sources that said something else and were overruled, the strongest first.
    #[serde(serialize_with = "texts")]
    pub overrides: Vec<Origin>,
    /// Whether the value is a secret.
    pub secret: bool,
}

impl Listed {
    /// A value for the eyes of an operator.
    pub(super) fn show(field: &Field, value: &Value) -> String {
        match value {
            Value::Null => "(not set)".to_owned(),
            Value::String(url) if field.format.as_deref() == Some(DatabaseUrl::FORMAT) => url
                .parse::<DatabaseUrl>()
                .map_or_else(|_| "(hidden)".to_owned(), |url| url.to_string()),
            _ if field.secret => "(hidden)".to_owned(),
            Value::String(text) if text.is_empty() => "(empty)".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

fn text<S: Serializer>(origin: &Origin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(origin)
}

fn texts<S: Serializer>(origins: &[Origin], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(origins.iter().map(ToString::to_string))
}
