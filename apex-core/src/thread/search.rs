//! Full text over conversations: what was said in them, found again by its words.

use super::Role;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{RunId, ThreadId};
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

/// The most different words of a query that are looked for; what follows them is passed over.
pub const MOST_TERMS: usize = 16;
/// The most that one search finds.
pub const MOST_FOUND: usize = 50;
/// How much of a query is read, in bytes.
const QUERY: usize = 4 * 1024;
/// How much of a message is looked through for the place that is shown, in bytes.
const LOOKED_AT: usize = 256 * 1024;
/// How long a snippet is, in bytes, about.
const SNIPPET: usize = 280;
/// How many messages a backend hands over to be ranked.
#[cfg_attr(not(any(feature = "sqlite", feature = "postgres")), expect(dead_code))]
pub(crate) const CANDIDATES: i64 = 200;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchQuery {
    /// The words, in any order. Signs between them mean nothing: there is no query language.
    pub words: String,
    /// Whether one of the words is enough; else all of them have to be there.
    pub any: bool,
    /// What was said from this moment on.
    pub from: Option<Timestamp>,
    /// What was said before this moment.
    pub before: Option<Timestamp>,
    /// How much is found at most, up to [`MOST_FOUND`].
    pub max: usize,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Found {
    /// The conversation.
    pub thread: ThreadId,
    /// Its title.
    pub title: String,
    /// The run that it belongs to.
    pub run: RunId,
    /// Who said it.
    pub role: Role,
    /// When.
    pub at: Timestamp,
    /// The part of it that holds the words.
    pub snippet: Snippet,
}

/// A part of a text, as it stands there, with the words that were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Snippet {
    /// The part.
    pub text: String,
    /// Where the words stand in it: from and to, in bytes.
    pub marks: Vec<(usize, usize)>,
    /// Whether the text goes on before it.
    pub more_before: bool,
    /// Whether the text goes on after it.
    pub more_after: bool,
}

/// Finds what was said in a user's own conversations. What is added, deleted or erased in the [`super::ThreadStore`]
/// of the same database is found, or found no more, from that same moment. Needs the scope `read`; without it,
/// `forbidden`.
#[async_trait]
pub trait SearchIndex: fmt::Debug + Send + Sync {
    /// The best matches: those with the most of the words, of these the ones in which they stand closest together,
    /// of these the latest first. A query without a word finds nothing.
    ///
    /// # Errors
    /// What the store says.
    async fn search(&self, principal: &Principal, query: &SearchQuery) -> Result<Vec<Found>>;
}

/// The words of a query or of a text: what is between signs and blanks, in lower case.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// The different words of a query.
pub(crate) fn terms(query: &SearchQuery) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    for (_, word) in words(clip(&query.words, QUERY)) {
        let word = word.to_lowercase();
        if !terms.contains(&word) {
            terms.push(word);
        }
        if terms.len() == MOST_TERMS {
            break;
        }
    }
    terms
}

/// Something that may have been looked for, with its whole text.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) thread: ThreadId,
    pub(crate) title: String,
    pub(crate) run: RunId,
    pub(crate) role: Role,
    pub(crate) at: Timestamp,
    pub(crate) text: String,
}

/// The best of what a backend has found, the same on every backend.
pub(crate) fn ranked(
    candidates: impl IntoIterator<Item = Candidate>,
    terms: &[String],
    query: &SearchQuery,
) -> Vec<Found> {
    let mut found: Vec<((usize, usize), Found)> = candidates
        .into_iter()
        .map(|candidate| {
            let (score, snippet) = shown(&candidate.text, terms);
            let Candidate { thread, title, run, role, at, .. } = candidate;
            (score, Found { thread, title, run, role, at, snippet })
        })
        .collect();
    found.sort_by_key(|(score, found)| (Reverse(*score), Reverse(found.at), Reverse(found.run)));
    let max = query.max.min(MOST_FOUND);
    found.into_iter().take(max).map(|(_, found)| found).collect()
}

/// How well a text fits, and the part of it that fits best: the one with the most different words.
fn shown(text: &str, terms: &[String]) -> ((usize, usize), Snippet) {
    let looked_at = clip(text, LOOKED_AT);
    let hits: Vec<(usize, usize, usize)> = words(looked_at)
        .filter_map(|(at, word)| {
            let lower = word.to_lowercase();
            let term = terms.iter().position(|term| *term == lower)?;
            Some((at, at + word.len(), term))
        })
        .collect();
    let all: BTreeSet<usize> = hits.iter().map(|(_, _, term)| *term).collect();
    let (mut best, mut first) = (0, 0);
    for (place, (at, ..)) in hits.iter().enumerate() {
        let near = hits.iter().skip(place).take(4 * MOST_TERMS);
        let near = near.take_while(|(_, end, _)| end - at <= SNIPPET);
        let different: BTreeSet<usize> = near.map(|(_, _, term)| *term).collect();
        if different.len() > best {
            (best, first) = (different.len(), *at);
        }
    }
    // A little of what stands before it makes it readable.
    let start = floor(text, first.saturating_sub(SNIPPET / 4));
    let start = if start == 0 { 0 } else { next_word(text, start) };
    let end = floor(text, (start + SNIPPET).min(text.len()));
    let marks = hits
        .iter()
        .filter(|(at, to, _)| *at >= start && *to <= end)
        .map(|(at, to, _)| (at - start, to - start))
        .collect();
    let snippet = Snippet {
        text: text.get(start..end).unwrap_or_default().to_owned(),
        marks,
        more_before: start > 0,
        more_after: end < text.len(),
    };
    ((all.len(), best), snippet)
}

fn clip(text: &str, most: usize) -> &str {
    text.get(..floor(text, most.min(text.len()))).unwrap_or(text)
}

/// The last place at or before this one at which a character begins.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where the next word after this place begins, if it does soon.
fn next_word(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let blank = rest.char_indices().take(40).find(|(_, c)| c.is_whitespace());
    blank.map_or(from, |(at, c)| from + at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(words: &str) -> SearchQuery {
        SearchQuery { words: words.into(), max: 10, ..SearchQuery::default() }
    }

    #[test]
    fn signs_mean_nothing_and_words_count_once() {
        assert_eq!(
            terms(&query("GPT-4o \"OR\" gpt* (NEAR) -x:y\0")),
            ["gpt", "4o", "or", "near", "x", "y"]
        );
        assert_eq!(terms(&query("")).len(), 0);
        assert_eq!(terms(&query(&"\u{1f4b8} '; -- ".repeat(50))).len(), 0);
        let many: String = (0..1_000).map(|n| format!("w{n} ")).collect();
        assert_eq!(terms(&query(&many)).len(), MOST_TERMS);
    }

    #[test]
    fn a_snippet_holds_the_words_and_marks_them() {
        let text = format!(
            "{}the Cache was cold, the cache{}",
            "far away ".repeat(100),
            " after".repeat(100)
        );
        let (score, snippet) = shown(&text, &["cache".into(), "cold".into()]);
        assert_eq!(score, (2, 2));
        let marked: Vec<&str> = snippet.marks.iter().map(|(a, b)| &snippet.text[*a..*b]).collect();
        assert_eq!(marked, ["Cache", "cold", "cache"]);
        assert!(snippet.more_before && snippet.more_after && snippet.text.len() <= SNIPPET);
    }

    proptest! {
        #[test]
        fn marks_are_places_of_the_text(text in "(\\PC|ä |cost |\\x00){0,300}", words in "(\\PC|ä |cost ){0,8}") {
            let terms = terms(&query(&words));
            let (_, snippet) = shown(&text, &terms);
            prop_assert!(text.contains(&snippet.text));
            for (from, to) in snippet.marks {
                let marked = snippet.text.get(from..to).unwrap().to_lowercase();
                prop_assert!(terms.contains(&marked));
            }
        }
    }
}
