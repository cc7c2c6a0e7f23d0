//! The catalogue's way to recognise a name.

use serde::Deserialize;

/// A condition on a lower-case name.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Clause {
    /// The name itself.
    Is(String),
    /// The name starts so.
    Starts(String),
    /// The name ends so.
    Ends(String),
    /// It is somewhere in the name.
    Has(String),
    /// The name has this shape: `#` is a digit, `*` at the end is anything.
    Like(String),
    /// One of them holds.
    Any(Vec<Clause>),
    /// All of them hold.
    All(Vec<Clause>),
    /// It does not hold.
    Not(Box<Clause>),
}

impl Clause {
    /// Whether the lower-case `name` is meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Is(text) => name == text,
            Self::Starts(text) => name.starts_with(text.as_str()),
            Self::Ends(text) => name.ends_with(text.as_str()),
            Self::Has(text) => name.contains(text.as_str()),
            Self::Like(shape) => like(shape, name),
            Self::Any(clauses) => clauses.iter().any(|c| c.matches(name)),
            Self::All(clauses) => clauses.iter().all(|c| c.matches(name)),
            Self::Not(clause) => !clause.matches(name),
        }
    }
}

/// Whether `name` has the `shape`: `#` is a digit, `*` at the end is anything.
pub(super) fn like(shape: &str, name: &str) -> bool {
    let (shape, open) = shape.strip_suffix('*').map_or((shape, false), |s| (s, true));
    let mut rest = name.bytes();
    let fits = shape.bytes().all(|expected| {
        rest.next().is_some_and(|found| match expected {
            b'#' => found.is_ascii_digit(),
            other => found == other,
        })
    });
    fits && (open || rest.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_know_digits_and_an_open_end() {
        assert!(like("gpt-5.4-####-##-##", "gpt-5.4-2026-01-31"));
        assert!(!like("gpt-5.4-####-##-##", "gpt-5.4-2026-01-3x"));
        assert!(!like("gpt-5.4-##", "gpt-5.4-123"));
        assert!(like("gemini-3.5-flash-#*", "gemini-3.5-flash-2-preview"));
        assert!(!like("gemini-3.5-flash-#*", "gemini-3.5-flash-"));
        assert!(like("*", "") && like("grok-4.5[fast=true]", "grok-4.5[fast=true]"));
    }

    #[test]
    fn clauses_compose() {
        let clause: Clause = serde_json::from_str(
            r#"{"all":[{"starts":"gpt-"},{"not":{"any":[{"ends":"-tts"},{"has":"audio"}]}}]}"#,
        )
        .unwrap();
        assert!(clause.matches("gpt-4o"));
        assert!(
            !clause.matches("gpt-4o-tts")
                && !clause.matches("gpt-audio-1")
                && !clause.matches("o3")
        );
    }
}
