//! What is wrong with a configuration: all of it, at once, for people and for machines.

use crate::error::{Error, Kind};
use serde::Serialize;
use std::fmt;

/// What kind of fault; the `code` of a row, stable.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, schemars::JsonSchema,
)]
pub enum FaultCode {
    /// A source (file, folder, secret source) cannot be read.
    #[serde(rename = "config_unreadable")]
    Unreadable,
    /// The file is not TOML.
    #[serde(rename = "config_syntax")]
    Syntax,
    /// No field has this name.
    #[serde(rename = "config_unknown_key")]
    UnknownKey,
    /// A needed value is nowhere.
    #[serde(rename = "config_missing")]
    Missing,
    /// The value is of another type.
    #[serde(rename = "config_type")]
    Type,
    /// The value is outside its range or set.
    #[serde(rename = "config_range")]
    Range,
    /// The value has the right type and the wrong form.
    #[serde(rename = "config_format")]
    Format,
    /// Two values, or two sources, contradict each other.
    #[serde(rename = "config_conflict")]
    Conflict,
    /// Allowed on a developer's machine only.
    #[serde(rename = "config_insecure")]
    Insecure,
    /// A key or password is too easy to guess.
    #[serde(rename = "config_weak_secret")]
    WeakSecret,
    /// A secret's file can be read or written by others.
    #[serde(rename = "config_secret_mode")]
    SecretMode,
}

impl FaultCode {
    /// Every code, for documentation.
    pub const ALL: [Self; 11] = [
        Self::Unreadable,
        Self::Syntax,
        Self::UnknownKey,
        Self::Missing,
        Self::Type,
        Self::Range,
        Self::Format,
        Self::Conflict,
        Self::Insecure,
        Self::WeakSecret,
        Self::SecretMode,
    ];

    /// The code as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "config_unreadable",
            Self::Syntax => "config_syntax",
            Self::UnknownKey => "config_unknown_key",
            Self::Missing => "config_missing",
            Self::Type => "config_type",
            Self::Range => "config_range",
            Self::Format => "config_format",
            Self::Conflict => "config_conflict",
            Self::Insecure => "config_insecure",
            Self::WeakSecret => "config_weak_secret",
            Self::SecretMode => "config_secret_mode",
        }
    }
}

/// One row of a [`Report`]. It never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
pub struct Fault {
    /// The dotted name of the field, `store.path`; the name of a file or variable where no field is meant.
    pub key: String,
    /// Where the value came from: `apex.toml:12`, `APEX_STORE_PATH`, `default`.
    pub source: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
    /// What kind of fault.
    pub code: FaultCode,
}

/// Everything that is wrong with a configuration. As JSON: `{"faults": [{"key", "source", "problem", "advice",
/// "code"}]}`; as text: a paragraph a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
pub struct Report {
    /// The rows, ordered by key.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "the configuration has {count} fault{plural}")?;
        for fault in &self.faults {
            write!(f, "\n\n  {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})\n    {} [{}]\n    {}",
            self.key,
            self.source,
            self.problem,
            self.code.as_str(),
            self.advice
        )
    }
}

impl std::error::Error for Report {}

impl From<Report> for Error {
    fn from(report: Report) -> Self {
        Self::new(Kind::Config, "config.load", report.to_string())
    }
}

/// The candidate that is most like `word`, if one is like enough to be meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 6);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The characters to insert, remove, replace or swap with their neighbour to make `a` into `b`, without regard to
/// case.
fn distance(a: &str, b: &str) -> usize {
    // Longer names are of no field, and the cost is the product of both lengths.
    let letters = |text: &str| -> Vec<char> { text.to_lowercase().chars().take(128).collect() };
    let (a, b) = (letters(a), letters(b));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in b.iter().enumerate() {
            let at =
                |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, column) + usize::from(from != to))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && a.get(row - 1) == Some(to)
                && b.get(column - 1) == Some(from);
            if swapped {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_it_is_serialised() {
        for code in FaultCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["max_frame_bytes", "heartbeat", "origins"];
        assert_eq!(nearest("heartbaet", known), Some("heartbeat"));
        assert_eq!(nearest("MAX_FRAME_BYTE", known), Some("max_frame_bytes"));
        assert_eq!(nearest("database", known), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
