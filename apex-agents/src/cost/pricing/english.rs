//! Questions about prices in plain English, read by rules.

use super::{Mix, PriceQuestion, PriceTopic};
use crate::cost::query::MOST_NAMES;
use crate::cost::query::english::{filter, is_model, words};
use apex_core::clock::Timestamp;

/// The longest text that is read, in bytes.
const LONGEST: usize = 2_000;

/// How words begin that ask for the end of a model.
const ENDING: &[&str] =
    &["deprecat", "retir", "sunset", "discontinu", "decommission", "phased", "obsolete"];

/// Words of a change.
const CHANGE: &[&str] = &[
    "would",
    "switch",
    "switched",
    "move",
    "moved",
    "moving",
    "migrate",
    "migrating",
    "replace",
    "replacing",
    "replaced",
    "instead",
];

/// Words that say that what is asked is in the past, so it is about records.
const PAST: &[&str] = &["did", "was", "were", "spent", "spend", "paid", "used"];

/// The providers that a question can name, beside the ways in which it does.
const PROVIDERS: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("azure", "azure"),
    ("anthropic", "anthropic"),
    ("google", "google"),
    ("vertex", "google"),
    ("bedrock", "aws"),
    ("aws", "aws"),
    ("openrouter", "openrouter"),
    ("groq", "groq"),
    ("mistral", "mistral"),
    ("deepseek", "deepseek"),
    ("together", "together"),
    ("fireworks", "fireworks"),
    ("xai", "x-ai"),
    ("cerebras", "cerebras"),
    ("databricks", "databricks"),
];

/// The question about prices that a text comes to, asked at this time; `None` where it is about something else.
#[must_use]
pub fn read(text: &str, now: Timestamp) -> Option<PriceQuestion> {
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_lowercase();
    let words = words(&lower);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
    let says = |phrase: &str| lower.contains(phrase);
    let models = models(&words);
    let ending = words.iter().any(|word| ENDING.iter().any(|start| word.starts_with(start)))
        || says("shut down")
        || says("end of life")
        || says("end-of-life");
    let mut question = PriceQuestion {
        provider: provider(&words),
        filter: filter(text, now),
        ..PriceQuestion::default()
    };
    let forecasts =
        says("next month") || says("next year") || says("next quarter") || has(&["forecast"]);
    if ending {
        question.asked = PriceTopic::Ending;
        question.models = models;
    } else if models.is_empty() || forecasts {
        return None;
    } else if has(&["cheaper", "alternative", "alternatives", "equivalent", "equivalents"])
        && models.len() == 1
    {
        question.asked = PriceTopic::Cheaper;
        question.models = models;
    } else if let Some(mix) = mix(&words) {
        question.mix = Some(mix);
        question.models = models;
    } else if has(CHANGE) && !says("would you") {
        question.asked = PriceTopic::Change;
        (question.filter.models, question.models) = direction(&words, models);
    } else {
        let asks = has(&[
            "price", "prices", "pricing", "rate", "rates", "cheaper", "list", "cost", "costs",
        ]) || says("how much is")
            || says("how much are")
            || says("how much does");
        let records = has(PAST)
            || question.filter != crate::cost::query::Filter::default()
            || has(&["by", "per", "top", "trend", "we", "us", "our", "average"])
                && !says("per million")
                && !says("per token");
        // A family, such as `claude`, has no price; comparing it with a model is a question about records.
        let family = words.iter().any(|word| is_model(word) && !models.iter().any(|m| m == word));
        if !asks || records || family {
            return None;
        }
        question.models = models;
    }
    question.fault().is_none().then_some(question)
}

/// The names of models, also of those that nobody knows.
fn models(words: &[&str]) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| words.get(at)).copied().unwrap_or("");
        let named =
            ["of", "on", "to", "with", "than", "for", "does", "is", "by", "from"].contains(&before);
        let dashed = word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.contains('-')
            && word.contains(|c: char| c.is_ascii_digit());
        // A family by itself, such as `claude`, has no price.
        let is_one = is_model(word) && word.contains(|c: char| c.is_ascii_digit());
        if (is_one || (dashed && named))
            && !models.iter().any(|known| known == word)
            && models.len() < MOST_NAMES
        {
            models.push((*word).to_owned());
        }
    }
    models
}

/// From which models to which.
fn direction(words: &[&str], models: Vec<String>) -> (Vec<String>, Vec<String>) {
    let place = |model: &String| words.iter().position(|word| word == model);
    let before = |model: &String| {
        let at = place(model)?;
        words.get(at.checked_sub(1)?).copied()
    };
    let [first, second] = models.as_slice() else {
        return (Vec::new(), models);
    };
    match (before(first), before(second)) {
        // `gpt-4o-mini instead of gpt-4o`
        (_, Some("of")) if words.contains(&"instead") => {
            (vec![second.clone()], vec![first.clone()])
        }
        (_, Some("to" | "with" | "by" | "on")) => (vec![first.clone()], vec![second.clone()]),
        _ => (Vec::new(), models),
    }
}

fn provider(words: &[&str]) -> Option<String> {
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let before = at.checked_sub(1).and_then(|at| words.get(at)).copied().unwrap_or("");
        let known = PROVIDERS.iter().find(|(name, _)| name == word)?;
        (["at", "on", "from", "by", "which", "via", "through", "any"].contains(&before))
            .then_some(known.1)
    });
    found.map(str::to_owned)
}

/// Stated numbers of tokens: `1M input and 200k output tokens`, `10,000 requests with 2k input … each`.
fn mix(words: &[&str]) -> Option<Mix> {
    let mut found: [Option<u64>; 4] = [None; 4];
    let [requests, input, cached, output] = &mut found;
    let mut at = 0;
    while at < words.len() {
        // `10,000` comes as two words.
        let (number, used) = number(words.get(at..).unwrap_or_default());
        at += used;
        let Some(number) = number else { continue };
        let kind = words.iter().skip(at).take(5).find_map(|word| match *word {
            "request" | "requests" | "calls" => Some(0),
            "input" | "prompt" | "in" | "sent" => Some(1),
            "cached" => Some(2),
            "output" | "completion" | "out" | "received" => Some(3),
            _ => None,
        });
        let slot = match kind {
            Some(0) => &mut *requests,
            Some(1) => &mut *input,
            Some(2) => &mut *cached,
            Some(3) => &mut *output,
            _ => continue,
        };
        slot.get_or_insert(number);
    }
    let each = words.contains(&"each");
    let times = match (each, *requests) {
        (true, Some(requests)) => requests,
        _ => 1,
    };
    if input.is_none() && output.is_none() {
        return None;
    }
    let count = |slot: Option<u64>| slot.unwrap_or(0).checked_mul(times);
    Some(Mix {
        requests: requests.unwrap_or(0),
        input_tokens: count(*input)?,
        cached_tokens: count(*cached)?,
        output_tokens: count(*output)?,
    })
}

/// The number at the beginning of the words, and how many of them it takes.
fn number(words: &[&str]) -> (Option<u64>, usize) {
    let Some(first) = words.first() else { return (None, 1) };
    let (digits, unit) = match first.find(|c: char| !c.is_ascii_digit() && c != '.') {
        Some(end) => first.split_at(end),
        None => (*first, ""),
    };
    if digits.is_empty() || digits.matches('.').count() > 1 {
        return (None, 1);
    }
    let (mut digits, mut used) = (digits.to_owned(), 1);
    while unit.is_empty()
        && let Some(group) = words.get(used)
        && group.len() == 3
        && group.bytes().all(|b| b.is_ascii_digit())
        && !digits.contains('.')
    {
        digits.push_str(group);
        used += 1;
    }
    let (unit, after) = match unit {
        "" => (words.get(used).copied().unwrap_or(""), 1),
        unit => (unit, 0),
    };
    let factor: u64 = match unit {
        "k" | "thousand" => 1_000,
        "m" | "mio" | "million" => 1_000_000,
        "b" | "bn" | "billion" => 1_000_000_000,
        _ if after == 1 => 1,
        _ => return (None, 1),
    };
    let used = used + if factor > 1 { after } else { 0 };
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    let scaled = || {
        let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
        if part.is_empty() {
            return Some(whole);
        }
        let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        part.parse::<u64>().ok()?.checked_mul(factor)?.checked_div(scale)?.checked_add(whole)
    };
    (scaled(), used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn questions_about_prices_are_read_and_others_are_not() {
        for (text, json) in [
            ("What does gpt-4o cost?", r#"{"models":["gpt-4o"]}"#),
            ("What is cheaper than gpt-4o?", r#"{"asked":"cheaper","models":["gpt-4o"]}"#),
            (
                "What would last month have cost on o3?",
                r#"{"asked":"change","models":["o3"],
              "filter":{"from":"2026-10-01T00:00:00Z","before":"2026-11-01T00:00:00Z"}}"#,
            ),
            (
                "move gpt-4o to gpt-4.1-mini",
                r#"{"asked":"change","models":["gpt-4.1-mini"],"filter":{"models":["gpt-4o"]}}"#,
            ),
            (
                "gpt-4.1-mini instead of gpt-4o",
                r#"{"asked":"change","models":["gpt-4.1-mini"],"filter":{"models":["gpt-4o"]}}"#,
            ),
            ("Which models are deprecated at azure?", r#"{"asked":"ending","provider":"azure"}"#),
            (
                "1.5M input and 2,000 output tokens on gpt-4o",
                r#"{"models":["gpt-4o"],"mix":{"input_tokens":1500000,"output_tokens":2000}}"#,
            ),
            ("What did gpt-4o cost in March?", "null"),
            ("cost of gpt-4o by month", "null"),
            ("Where can we save?", "null"),
            ("What will we spend next month on gpt-4o?", "null"),
            ("What does claude cost us?", "null"),
        ] {
            let expected: Option<PriceQuestion> = serde_json::from_str(json).unwrap();
            assert_eq!(read(text, at()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_a_sound_question_comes_of_a_text(
            text in "(\\PC|gpt-4o |price |would |999999999999m |input |[0-9.,]){0,30}"
        ) {
            if let Some(question) = read(&text, at()) {
                prop_assert_eq!(question.fault(), None);
            }
        }
    }
}
