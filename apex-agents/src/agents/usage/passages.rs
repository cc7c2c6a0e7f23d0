use super::recall::Recalled;
use crate::agents::PASS;
use crate::agents::citing::Passage;
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::error::{Error, Kind, Result};
use apex_core::file::Content;
use apex_core::id::FileId;
use apex_core::thread::{Role, SearchQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};

/// How much of a document is read, in bytes.
const MOST_READ: u64 = 16 << 20;
/// How long a passage is, in bytes, about.
const PASSAGE: usize = 700;
/// How many passages one question gets, of documents and of what was said.
const MOST: usize = 4;
/// The longest line that is taken as it is, in bytes.
const LONGEST_LINE: u64 = 8 << 10;

/// What was found on one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct Read {
    pub(in crate::agents) passages: Vec<Passage>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// The words that passages should hold.
    words: String,
    /// The documents to look through.
    files: Vec<FileId>,
}

/// Finds the passages of documents and of the user's own conversations that hold the most of some words.
pub(in crate::agents) fn find_passages() -> impl Tool {
    tool_fn(
        "find_passages",
        "Finds the passages of documents and of the user's own conversations that hold the most of some words.",
        |wanted: Wanted, call: ToolContext| async move {
            let terms = terms(&wanted.words);
            if terms.is_empty() {
                return Err(Error::new(
                    Kind::BadArguments,
                    "research.passages",
                    "there is no word to look for; give at least one",
                ));
            }
            let mut opened = Vec::with_capacity(wanted.files.len());
            for file in &wanted.files {
                opened.push((call.file(*file).await?.name, call.open(*file).await?));
            }
            let looked_for = terms.clone();
            let mut best = call
                .blocking(move |call| {
                    let mut best = Vec::new();
                    for (name, content) in opened {
                        document(&name, content, &looked_for, &mut best, call)?;
                    }
                    Ok(best)
                })
                .await?;
            best.sort_by_key(|(score, _): &(usize, Passage)| std::cmp::Reverse(*score));
            let mut passages: Vec<Passage> =
                best.into_iter().take(MOST).map(|(_, passage)| passage).collect();
            let query =
                SearchQuery { words: wanted.words, any: true, max: MOST + 1, ..SearchQuery::default() };
            let recalled = Recalled { found: call.search(&query).await?, any: true };
            // What was asked says nothing.
            let answers = recalled.found.into_iter().filter(|found| found.role == Role::Assistant);
            passages.extend(answers.take(MOST).map(|found| Passage {
                place: format!(
                    "an answer of {} in \u{201c}{}\u{201d} (thread {}, run {})",
                    found.at.to_string().chars().take(10).collect::<String>(),
                    found.title,
                    found.thread,
                    found.run
                ),
                text: found.snippet.text,
            }));
            call.summarise(format!("{} passages", passages.len()));
            Ok(Read { passages })
        },
    )
    .effect(Effect::Read)
    .untrusted()
    .timeout(PASS)
}

/// The different words that are looked for.
fn terms(words: &str) -> BTreeSet<String> {
    let parts = words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    parts.take(64).map(str::to_lowercase).collect()
}

/// Reads a document line by line, and keeps the passages that fit best. What is no text has none.
fn document(
    name: &str,
    content: Content,
    terms: &BTreeSet<String>,
    best: &mut Vec<(usize, Passage)>,
    call: &ToolContext,
) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(Kind::Storage, "research.passages", "a document could not be read to its end")
            .with_source(error)
    };
    let mut reader = BufReader::new(content.take(MOST_READ));
    let (mut text, mut first, mut line) = (String::new(), 1_u64, 0_u64);
    loop {
        let mut bytes = Vec::new();
        let read =
            reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(failed)?;
        line += 1;
        if bytes.contains(&0) {
            return Ok(());
        }
        let piece = String::from_utf8_lossy(&bytes);
        let blank = piece.trim().is_empty();
        if read == 0 || blank || text.len() + piece.len() > PASSAGE {
            keep(name, first, &text, terms, best);
            text.clear();
            first = line;
        }
        if read == 0 || call.is_cancelled() {
            return Ok(());
        }
        if !blank {
            text.push_str(&piece);
        }
    }
}

/// Keeps a passage where it is among the best.
fn keep(
    name: &str,
    line: u64,
    text: &str,
    terms: &BTreeSet<String>,
    best: &mut Vec<(usize, Passage)>,
) {
    let words: BTreeSet<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| terms.contains(word))
        .collect();
    let least = best.iter().map(|(score, _)| *score).min().unwrap_or(0);
    if words.is_empty() || (best.len() >= MOST && words.len() <= least) {
        return;
    }
    if best.len() >= MOST
        && let Some(worst) = best.iter().rposition(|(score, _)| *score == least)
    {
        best.remove(worst);
    }
    let place = format!("{name}, from line {line}");
    best.push((words.len(), Passage { place, text: text.trim().to_owned() }));
}
