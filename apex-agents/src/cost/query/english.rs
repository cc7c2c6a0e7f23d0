//! Questions in plain English, read by rules.
//!
//! What is read is a [`Query`], and nothing else can come of a text. A question whose words name no figure, or nothing
//! to group, filter or order by, is not read; rules guess nothing.

use super::period;
use super::{Dimension, MOST_NAMES, Measure, Order, Query, calendar};
use apex_core::clock::Timestamp;
use apex_core::usage::UsageStatus;

/// The longest text that is read, in bytes: a question, not a document.
const LONGEST: usize = 2_000;

/// How many groups are listed where a question says `top` and no number.
const TOP: u16 = 10;

/// How the names of models begin that are called by a word of their own.
const FAMILIES: &[&str] = &[
    "gpt",
    "claude",
    "gemini",
    "llama",
    "mistral",
    "mixtral",
    "codestral",
    "ministral",
    "magistral",
    "devstral",
    "deepseek",
    "qwen",
    "grok",
    "kimi",
    "glm",
    "phi",
    "nova",
    "gemma",
    "sonnet",
    "opus",
    "haiku",
    "command-r",
    "text-embedding",
    "chatgpt",
    "minimax",
];

/// The words of a dimension.
const DIMENSIONS: &[(Dimension, &[&str])] = &[
    (Dimension::Model, &["model", "models"]),
    (Dimension::Provider, &["provider", "providers", "vendor", "vendors"]),
    (
        Dimension::User,
        &[
            "user",
            "users",
            "person",
            "people",
            "developer",
            "developers",
            "customer",
            "customers",
            "who",
        ],
    ),
    (
        Dimension::Session,
        &["session", "sessions", "conversation", "conversations", "trace", "traces"],
    ),
    (Dimension::Day, &["day", "days", "daily", "date", "dates"]),
    (Dimension::Week, &["week", "weeks", "weekly"]),
    (Dimension::Month, &["month", "months", "monthly"]),
    (Dimension::Hour, &["hour", "hours", "hourly"]),
    (Dimension::Weekday, &["weekday", "weekdays"]),
    (Dimension::Status, &["status", "outcome", "statuses"]),
    (Dimension::Tier, &["tier", "tiers"]),
];

/// Words that make what follows them a dimension.
const BEFORE_DIMENSION: &[&str] =
    &["by", "per", "each", "every", "which", "what", "across", "over", "top", "group", "grouped"];

const LARGEST: &[&str] = &[
    "top",
    "most",
    "highest",
    "largest",
    "biggest",
    "dearest",
    "priciest",
    "heaviest",
    "expensive",
    "costliest",
];
const SMALLEST: &[&str] = &["least", "lowest", "smallest", "cheapest", "fewest", "bottom"];

const NUMBERS: &[(&str, u16)] = &[
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("twenty", 20),
];

/// Words after `user` and `session` that are no name.
const NO_NAME: &[&str] = &[
    "and",
    "or",
    "in",
    "on",
    "for",
    "from",
    "of",
    "by",
    "per",
    "the",
    "a",
    "an",
    "is",
    "are",
    "was",
    "were",
    "did",
    "do",
    "does",
    "has",
    "have",
    "had",
    "with",
    "at",
    "to",
    "spend",
    "spends",
    "spent",
    "spending",
    "cost",
    "costs",
    "use",
    "uses",
    "used",
    "send",
    "sent",
    "make",
    "makes",
    "made",
    "pay",
    "paid",
    "call",
    "calls",
    "called",
    "request",
    "requests",
    "token",
    "tokens",
    "model",
    "models",
    "day",
    "days",
    "month",
    "months",
    "week",
    "weeks",
    "hour",
    "hours",
    "last",
    "this",
    "since",
    "between",
    "before",
    "after",
    "until",
    "during",
    "today",
    "yesterday",
    "most",
    "least",
    "more",
    "less",
    "who",
    "which",
    "what",
    "how",
    "much",
    "many",
    "failed",
    "fail",
    "trend",
    "usage",
    "data",
    "we",
    "us",
    "our",
    "it",
    "instead",
    "would",
    "could",
    "should",
    "receive",
    "received",
    "get",
    "got",
    "ran",
    "run",
];

/// The query that a question comes to, asked at this time; `None` where rules do not know.
#[must_use]
pub fn read(text: &str, now: Timestamp) -> Option<Query> {
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_lowercase();
    let words = words(&lower);
    let (period, timed) = period::read(&words, calendar::day_of(now));
    let mut query = Query::default();
    if let Some(period) = period {
        (query.filter.from, query.filter.before) = period.moments();
    }
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let measure = measure(&words);
    query.filter.models = models(&words);
    query.filter.users = names(&words, &timed, "user");
    query.filter.sessions = names(&words, &timed, "session");
    if has(&["failed", "fail", "failing", "failures", "failure", "errors", "errored", "error"]) {
        query.filter.statuses = vec![UsageStatus::Error];
    } else if has(&["successful", "succeeded", "answered"]) {
        query.filter.statuses = vec![UsageStatus::Ok];
    }
    query.by = dimensions(&words, &timed);
    let compares = query.filter.models.len() > 1
        || has(&["compare", "compared", "comparison", "versus", "vs"]);
    if compares && query.filter.models.len() > 1 && !query.by.contains(&Dimension::Model) {
        // By time first: then the models of a time stand beside each other.
        query.by.truncate(1);
        query.by.push(Dimension::FilteredModel);
    }
    let trends = has(&["trend", "trends", "development", "evolve", "evolved", "timeline"])
        || lower.contains("over time");
    if trends && !query.by.iter().any(|dimension| dimension.is_time()) {
        query.by.insert(0, Dimension::Day);
        query.by.truncate(super::MOST_DIMENSIONS);
    }
    let (order, top) = ranked(&words, &query.by);
    (query.order, query.top) = (order, top);
    let failures = !query.filter.statuses.is_empty();
    query.measure = match measure {
        Some(measure) => measure,
        None if failures => Measure::Requests,
        // `Which model is the most expensive?`: what is dear is so by what it costs.
        None if has(&["expensive", "cheapest", "dearest", "priciest", "costliest"]) => {
            Measure::Cost
        }
        None if compares && query.filter.models.len() > 1 => Measure::Cost,
        None if has(&["used", "popular", "active", "busiest"]) => Measure::Requests,
        None => return None,
    };
    query.mean = query.measure != Measure::Requests
        && (has(&["average", "mean", "avg"])
            || ["per request", "per call", "a request", "each request"]
                .iter()
                .any(|p| lower.contains(p)));
    let narrows = query.filter != super::Filter::default();
    let counts = lower.contains("how many");
    if query.by.is_empty() && !narrows && top.is_none() && !counts && !query.mean {
        return None;
    }
    // A question with more dimensions than a query has is one for a report.
    let named = named_dimensions(&words, &timed);
    (named <= super::MOST_DIMENSIONS && query.fault().is_none()).then_some(query)
}

/// Which records a question is about, apart from their models.
#[must_use]
pub fn filter(text: &str, now: Timestamp) -> super::Filter {
    if text.len() > LONGEST {
        return super::Filter::default();
    }
    let lower = text.to_lowercase();
    let words = words(&lower);
    let (period, timed) = period::read(&words, calendar::day_of(now));
    let (from, before) = period.unwrap_or_default().moments();
    super::Filter {
        users: names(&words, &timed, "user"),
        sessions: names(&words, &timed, "session"),
        from,
        before,
        ..super::Filter::default()
    }
}

/// The words of a text, in lower case, without those that name a time.
pub(crate) fn words_beside_times(text: &str, now: Timestamp) -> Vec<String> {
    if text.len() > LONGEST {
        return Vec::new();
    }
    let lower = text.to_lowercase();
    let words = words(&lower);
    let (_, timed) = period::read(&words, calendar::day_of(now));
    let beside = words.iter().zip(timed).filter(|(_, timed)| !timed);
    beside.map(|(word, _)| (*word).to_owned()).collect()
}

/// The words of a lower-case text. Points, dashes and slashes are parts of names.
pub(crate) fn words(lower: &str) -> Vec<&str> {
    lower
        .split(|c: char| !(c.is_alphanumeric() || "-._/:@*".contains(c)))
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '*'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether the word is the name of a model, or of a family of them.
pub(crate) fn is_model(word: &str) -> bool {
    let name = word.rsplit_once('/').map_or(word, |(_, last)| last);
    let bytes = name.as_bytes();
    let of_o_series = matches!(bytes, [b'o', b'1'..=b'9'] | [b'o', b'1'..=b'9', b'-', ..]);
    of_o_series
        || FAMILIES.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with(|c: char| "-.*".contains(c) || c.is_ascii_digit())
            })
        })
}

fn models(words: &[&str]) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for word in words.iter().filter(|word| is_model(word)) {
        if !models.iter().any(|known| known == word) && models.len() < MOST_NAMES {
            models.push((*word).to_owned());
        }
    }
    models
}

/// The names after a word such as `user`.
fn names(words: &[&str], timed: &[bool], what: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, pair) in words.windows(2).enumerate() {
        let [word, name] = pair else { continue };
        let free = timed.get(at + 1).is_some_and(|timed| !timed);
        if *word == what
            && free
            && !NO_NAME.contains(name)
            && !is_model(name)
            && names.len() < MOST_NAMES
        {
            names.push((*name).to_owned());
        }
    }
    names
}

fn measure(words: &[&str]) -> Option<Measure> {
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let tokens = has(&["token", "tokens"]);
    if has(&["cached"]) || (tokens && has(&["cache"])) {
        return Some(Measure::CachedTokens);
    }
    if tokens {
        let input = has(&["input", "prompt", "send", "sent", "in"]) && !has(&["total", "all"]);
        let output = has(&["output", "completion", "receive", "received", "generated", "out"]);
        // `in` is also a word before a time or a place.
        let input = input
            && (has(&["input", "prompt", "send", "sent"])
                || words.windows(2).any(|w| w == ["tokens", "in"] && words.last() == Some(&"in")));
        return Some(match (input, output) {
            _ if has(&["reasoning", "thinking"]) => Measure::ReasoningTokens,
            (true, false) => Measure::InputTokens,
            (false, true) => Measure::OutputTokens,
            _ => Measure::Tokens,
        });
    }
    let money = [
        "cost", "costs", "spend", "spends", "spent", "spending", "expense", "expenses", "pay",
        "paid", "money", "dollars", "usd", "bill", "billed", "charged", "costing",
    ];
    if has(&money) {
        let recorded = has(&["recorded", "billed", "charged"]);
        return Some(if recorded { Measure::RecordedCost } else { Measure::Cost });
    }
    has(&["request", "requests", "call", "calls", "queries", "messages"])
        .then_some(Measure::Requests)
}

/// Where dimensions are named, by place.
fn found_dimensions(words: &[&str], timed: &[bool]) -> Vec<Dimension> {
    let of = |word: &str| {
        DIMENSIONS.iter().find(|(_, names)| names.contains(&word)).map(|(dimension, _)| *dimension)
    };
    let mut found: Vec<Dimension> = Vec::new();
    let mut listing = false;
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| words.get(before)).copied().unwrap_or("");
        if timed.get(at).copied().unwrap_or(false) {
            listing = false;
            continue;
        }
        let Some(dimension) = of(word) else {
            // `by model and day`, `by model, user and day`, `the 3 most expensive sessions`
            listing = BEFORE_DIMENSION.contains(word)
                || (listing && (*word == "and" || *word == "the"))
                || LARGEST.contains(word)
                || SMALLEST.contains(word)
                || (listing
                    && (word.parse::<u16>().is_ok() || NUMBERS.iter().any(|(n, _)| n == word)));
            continue;
        };
        let adverb = word.ends_with("ly") || *word == "who";
        // `hour of the day`, `day of the week`
        let part = words.get(at + 1..).unwrap_or_default();
        let (dimension, part_of) = match (dimension, part) {
            (Dimension::Day, ["of", "week", ..] | ["of", "the", "week", ..]) => {
                (Dimension::Weekday, true)
            }
            (Dimension::Hour, ["of", "day", ..] | ["of", "the", "day", ..]) => {
                (Dimension::Hour, true)
            }
            _ => (dimension, false),
        };
        let is_part =
            before == "of" || (before == "the" && at >= 2 && words.get(at - 2) == Some(&"of"));
        let named = matches!(*word, "user" | "session")
            && part.first().is_some_and(|next| !NO_NAME.contains(next) && !is_model(next));
        if (listing || adverb || part_of) && !is_part && !named && !found.contains(&dimension) {
            found.push(dimension);
        }
        listing = true;
    }
    found
}

fn dimensions(words: &[&str], timed: &[bool]) -> Vec<Dimension> {
    let mut found = found_dimensions(words, timed);
    found.truncate(super::MOST_DIMENSIONS);
    found
}

fn named_dimensions(words: &[&str], timed: &[bool]) -> usize {
    found_dimensions(words, timed).len()
}

/// The order that superlatives ask for, and how many.
fn ranked(words: &[&str], by: &[Dimension]) -> (Option<Order>, Option<u16>) {
    let at = |list: &[&str]| words.iter().position(|word| list.contains(word));
    let (order, place) = match (at(LARGEST), at(SMALLEST)) {
        (Some(place), None) => (Order::Largest, place),
        (_, Some(place)) => (Order::Smallest, place),
        (None, None) => return (None, None),
    };
    if by.is_empty() {
        return (None, None);
    }
    let number = |word: &&str| {
        let spelled = NUMBERS.iter().find(|(name, _)| name == word).map(|(_, number)| *number);
        spelled
            .or_else(|| word.parse::<u16>().ok())
            .filter(|n| (1..=super::MOST_LISTED).contains(n))
    };
    // `top 3 users`, `the 3 most expensive sessions`, `cheapest 2 users`
    let near = place.saturating_sub(1)..(place + 3).min(words.len());
    let top = words.get(near).unwrap_or_default().iter().find_map(number);
    let which = words.iter().any(|word| ["which", "who", "what"].contains(word));
    (Some(order), Some(top.unwrap_or(if which { 5 } else { TOP })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn questions_are_read() {
        for (text, json) in [
            (
                "top 5 users by cost in March",
                r#"{"by":["user"],"order":"largest","top":5,
               "filter":{"from":"2026-03-01T00:00:00Z","before":"2026-04-01T00:00:00Z"}}"#,
            ),
            (
                "compare gpt-4o with claude by day",
                r#"{"by":["day","filtered_model"],"filter":{"models":["gpt-4o","claude"]}}"#,
            ),
            (
                "How much did gpt-4o and claude cost by day?",
                r#"{"by":["day","filtered_model"],"filter":{"models":["gpt-4o","claude"]}}"#,
            ),
            (
                "how many requests failed per model",
                r#"{"measure":"requests","by":["model"],"filter":{"statuses":["error"]}}"#,
            ),
            ("Tokens by user and month", r#"{"measure":"tokens","by":["user","month"]}"#),
            ("average cost per request by model", r#"{"mean":true,"by":["model"]}"#),
            ("cost for user ana", r#"{"filter":{"users":["ana"]}}"#),
            ("requests by hour of day", r#"{"measure":"requests","by":["hour"]}"#),
            ("What did we spend, by model, user and day?", "null"),
            ("What did we spend, and on what?", "null"),
            ("Where can we save?", "null"),
            ("Compare the models", "null"),
            ("Is anything odd in the records?", "null"),
            ("'; DROP TABLE usage; --", "null"),
            ("", "null"),
        ] {
            let expected: Option<Query> = serde_json::from_str(json).unwrap();
            let found = read(text, at());
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        /// Whatever is written, what is read is a query that can be carried out.
        #[test]
        fn nothing_but_a_sound_query_comes_of_a_text(text in "(\\PC|top|by|user|[0-9 ]){0,40}") {
            if let Some(query) = read(&text, at()) {
                prop_assert_eq!(query.fault(), None);
            }
        }
    }
}
