//! Questions about what was said before, read by rules.

use crate::cost::query::english;
use apex_core::clock::Timestamp;
use apex_core::thread::SearchQuery;

/// How much is found for one question.
pub(super) const FOUND: usize = 10;

/// What says that something said before is looked for, whatever else a question holds.
const BEFORE: &[&str] = &[
    "my conversations",
    "our conversations",
    "earlier conversations",
    "previous conversations",
    "past conversations",
    "my threads",
    "my messages",
    "my chats",
    "my history",
    "did i ask",
    "did we ask",
    "did i ever",
    "did i say",
    "did i mention",
    "have i asked",
    "we discuss",
    "we talk",
    "we said",
    "i said",
    "was said",
    "you said",
    "you tell",
    "you told",
    "told me",
    "conversations mention",
];

/// Words that say that something is looked for, and nothing of what.
const STOP: &[&str] = &[
    "search",
    "find",
    "look",
    "lookup",
    "up",
    "for",
    "my",
    "our",
    "your",
    "conversation",
    "conversations",
    "thread",
    "threads",
    "message",
    "messages",
    "chat",
    "chats",
    "history",
    "earlier",
    "previous",
    "past",
    "what",
    "was",
    "were",
    "is",
    "are",
    "said",
    "say",
    "says",
    "about",
    "the",
    "in",
    "on",
    "a",
    "an",
    "did",
    "do",
    "does",
    "i",
    "we",
    "you",
    "it",
    "that",
    "this",
    "ask",
    "asked",
    "when",
    "ever",
    "discuss",
    "discussed",
    "talk",
    "talked",
    "have",
    "had",
    "before",
    "which",
    "mention",
    "mentioned",
    "where",
    "tell",
    "told",
    "me",
    "us",
    "to",
    "of",
    "and",
    "or",
    "word",
    "words",
    "answer",
    "answers",
    "with",
    "all",
    "any",
    "please",
    "report",
    "reports",
    "since",
];

/// Whether a question asks for what was said, and for nothing else that it holds.
pub(super) fn is_meant(text: &str) -> bool {
    let lower = text.to_lowercase();
    first(&lower) == Some("search") || BEFORE.iter().any(|phrase| lower.contains(phrase))
}

/// Whether a question asks for an answer from documents, with its sources.
pub(super) fn is_research(text: &str) -> bool {
    let lower = text.to_lowercase();
    matches!(first(&lower), Some("research" | "investigate"))
        || [
            "the document",
            "these documents",
            "my documents",
            "our documents",
            "with citations",
            "with sources",
            "cite ",
        ]
        .iter()
        .any(|phrase| lower.contains(phrase))
}

/// The words of a question that say what it is about, each once.
pub(super) fn content_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let says = !STOP.contains(&word) && !ASKING.contains(&word);
        if says && !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Words of asking for research that say nothing of what.
const ASKING: &[&str] = &[
    "research",
    "investigate",
    "document",
    "documents",
    "citations",
    "sources",
    "cite",
    "according",
    "how",
    "why",
    "who",
    "long",
    "much",
    "many",
    "can",
    "could",
    "should",
    "would",
    "will",
    "from",
    "by",
    "as",
    "at",
    "be",
    "been",
    "not",
    "no",
    "so",
    "if",
    "than",
    "there",
    "they",
    "their",
    "its",
    "file",
    "files",
    "read",
    "attached",
];

/// Whether a question may ask for what was said, if it asks for nothing else.
pub(super) fn may_be_meant(text: &str) -> bool {
    let lower = text.to_lowercase();
    first(&lower) == Some("find") || lower.starts_with("look up ") || lower.starts_with("look for ")
}

fn first(lower: &str) -> Option<&str> {
    english::words(lower).first().copied()
}

/// The search that a question comes to, asked at this time.
pub(super) fn read(text: &str, now: Timestamp) -> SearchQuery {
    let lower = text.to_lowercase();
    // `search for 2026-11-30` looks for the date and not in it.
    let dated = english::words(&lower).windows(2).any(|pair| match pair {
        [before, date] => {
            matches!(*before, "for" | "about" | "of")
                && date.starts_with(|c: char| c.is_ascii_digit())
        }
        _ => false,
    });
    let filter = if dated { Default::default() } else { english::filter(text, now) };
    let words = if dated {
        english::words(&lower).into_iter().map(str::to_owned).collect()
    } else {
        english::words_beside_times(text, now)
    };
    let words: Vec<String> =
        words.into_iter().filter(|word| !STOP.contains(&word.as_str())).collect();
    SearchQuery {
        words: words.join(" "),
        any: false,
        from: filter.from,
        before: filter.before,
        max: FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_read() {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        for (text, words, from, before) in [
            ("Search my conversations for otters", "otters", "", ""),
            ("What did I ask about gpt-4o last month?", "gpt-4o", "2026-10-01", "2026-11-01"),
            ("search for 2026-11-30", "2026-11-30", "", ""),
            ("Find otters before 2026-11-01", "otters", "", "2026-11-01"),
            ("search for", "", "", ""),
        ] {
            let query = read(text, now);
            let day = |at: Option<Timestamp>| {
                at.map_or(String::new(), |at| at.to_string()[..10].to_owned())
            };
            assert_eq!(
                (query.words.as_str(), day(query.from).as_str(), day(query.before).as_str()),
                (words, from, before),
                "{text}"
            );
        }
        assert!(is_meant("Did we discuss caching?") && !is_meant("Where can we save?"));
    }
}
