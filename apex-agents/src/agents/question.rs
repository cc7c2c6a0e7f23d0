//! What a question is about, read by rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Topic {
    /// What could be saved, and how.
    Savings,
    /// What was spent, on what, by whom.
    Overview,
    /// What is remarkable or wrong in the records.
    Anomalies,
    /// How models, users or days compare.
    Comparison,
    /// What will be spent.
    Forecast,
    /// Something that this team does not do.
    Other,
}

/// How the words begin that tell a topic (a blank at the end: the whole word); the first topic with a match is the
/// one.
const TELLING: &[(Topic, &[&str])] = &[
    (
        Topic::Forecast,
        &[
            "forecast",
            "predict",
            "projection",
            "next month",
            "next quarter",
            "next year",
            "will we spend",
            "will it cost",
        ],
    ),
    (
        Topic::Savings,
        &[
            "save",
            "saving",
            "reduc",
            "cut ",
            "cheaper",
            "optimi",
            "lower",
            "wast",
            "too expensive",
            "spend less",
            "pay less",
        ],
    ),
    (
        Topic::Anomalies,
        &[
            "anomal",
            "outlier",
            "spike",
            "unusual",
            "strange",
            "wrong",
            "odd ",
            "unexpected",
            "error",
            "fail",
            "suspicious",
        ],
    ),
    (
        Topic::Comparison,
        &[
            "compar",
            "versus",
            "vs ",
            "which model",
            "which user",
            "difference",
            "cheapest",
            "most expensive",
            "rank",
        ],
    ),
    (
        Topic::Overview,
        &[
            "cost", "spen", "expens", "price", "pricing", "bill", "invoice", "budget", "usage",
            "token", "how much", "overview", "report", "analy", "summar", "llm", "dollar", "usd",
            "money", "model", "data", "file", "csv",
        ],
    ),
];

/// What the words ask for.
pub(super) fn topic(text: &str) -> Topic {
    let words: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' })
        .collect();
    let words = format!(" {} ", words.split_whitespace().collect::<Vec<_>>().join(" "));
    TELLING
        .iter()
        .find(|(_, telling)| telling.iter().any(|t| words.contains(&format!(" {t}"))))
        .map_or(Topic::Other, |(topic, _)| *topic)
}

impl Topic {
    /// The topic that a model named, if it named just one.
    pub(super) fn named_in(answer: &str) -> Option<Self> {
        let word = answer.trim().trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
        serde_json::from_value(word.into()).ok()
    }

    /// As a part of a sentence.
    pub(super) fn named(self) -> &'static str {
        match self {
            Self::Savings => "what could be saved",
            Self::Overview => "what was spent",
            Self::Anomalies => "what is remarkable in the records",
            Self::Comparison => "how models and users compare",
            Self::Forecast => "what will be spent",
            Self::Other => "something else",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart() {
        for (text, asked) in [
            ("Where can we save money?", Topic::Savings),
            ("How do I cut my LLM bill in half?", Topic::Savings),
            ("What did we spend on models in March?", Topic::Overview),
            ("Analyse this file.", Topic::Overview),
            ("Is anything odd in here?", Topic::Anomalies),
            ("gpt-4o vs claude: who costs more?", Topic::Comparison),
            ("Forecast our costs for Q3", Topic::Forecast),
            ("How much will we spend next month?", Topic::Forecast),
            ("Tell me a joke about otters.", Topic::Other),
            ("Hello!", Topic::Other),
            ("", Topic::Other),
            ("What is the weather in Savannah?", Topic::Other),
        ] {
            assert_eq!(topic(text), asked, "{text}");
        }
    }
}
