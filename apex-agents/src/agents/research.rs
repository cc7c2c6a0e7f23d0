//! Research: a question in several steps, answered from found passages alone, each claim with where it stands.

use super::asking::{self, Terms, Turns};
use super::citing::{self, Passage};
use super::usage::{EarlierFiles, Read};
use super::{PASS, recall};
use crate::agent::{Agent, Request, agent_fn};
use crate::context::Context;
use crate::cost::report::words::markdown;
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use serde_json::json;
use std::fmt::Write as _;

/// How many parts a question has at most.
const MOST_PARTS: usize = 4;
/// How many sentences are quoted for a part of a question.
const QUOTED: usize = 3;

pub(super) fn agent() -> impl Agent {
    agent_fn(
        "research",
        "Answers from documents and earlier conversations in several steps, with citations that are checked.",
        run,
    )
    .deadline(PASS)
}

/// A part of the question, and the numbers of the passages found for it.
struct Part {
    asked: String,
    found: Vec<usize>,
}

async fn run(request: Request, run: Context) -> Result<RunResult> {
    let files = match request.files.is_empty() {
        false => request.files,
        true => run.call::<EarlierFiles>("earlier_files", json!({})).await?.files,
    };
    let asked = parts(&request.text);
    run.think(format!(
        "I look in {} documents and in what was answered before, for each part by itself:\n- {}",
        files.len(),
        asked.join("\n- ")
    ))
    .await?;
    let (mut passages, mut parts): (Vec<Passage>, Vec<Part>) = (Vec::new(), Vec::new());
    for asked in asked {
        let words = recall::content_words(&asked);
        let mut part = Part { asked, found: Vec::new() };
        if !words.is_empty() {
            let arguments = json!({ "words": words.join(" "), "files": files });
            let read: Read = run.call("find_passages", arguments).await?;
            for passage in read.passages {
                let known = passages.iter().position(|known| *known == passage);
                let number = known.unwrap_or(passages.len());
                if known.is_none() {
                    passages.push(passage);
                }
                part.found.push(number);
            }
        }
        parts.push(part);
    }
    if passages.is_empty() {
        return Ok(RunResult {
            status: RunStatus::InsufficientData,
            text: "Nothing was found on this in your documents and conversations, so I say nothing about it. Attach \
                   the documents as text (Markdown, plain text, CSV) and ask again."
                .to_owned(),
            artifacts: Vec::new(),
        });
    }
    let body = match word(&request.text, &passages, &run).await? {
        Some(worded) => format!("{worded}\n\n"),
        None => extracted(&parts, &passages),
    };
    Ok(RunResult {
        status: RunStatus::Answered,
        text: body + &sources(&passages),
        artifacts: Vec::new(),
    })
}

/// The parts of a question: what is between question marks, semicolons and `and` before a word of asking.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for piece in text.split(['?', ';', '\n']) {
        let mut rest = piece;
        for ask in ["what", "how", "why", "when", "who", "which", "where"] {
            if let Some((before, _)) = rest.split_once(&format!(" and {ask} ")) {
                parts.push(before.to_owned());
                rest = rest.get(before.len() + " and ".len()..).unwrap_or_default();
            }
        }
        parts.push(rest.to_owned());
    }
    let mut parts: Vec<String> = parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| part.chars().any(char::is_alphanumeric))
        .collect();
    parts.truncate(MOST_PARTS);
    parts
}

/// An answer in a model's words that keeps to the passages; `None` where there is none.
async fn word(question: &str, passages: &[Passage], run: &Context) -> Result<Option<String>> {
    let numbered: Vec<_> = (1..)
        .zip(passages)
        .map(|(number, passage)| json!({ "number": number, "text": passage.text }))
        .collect();
    let data = json!({ "question": question, "passages": numbered });
    let request = asking::request(prompt::RESEARCH, &data);
    let terms = Terms {
        accept: |text: &str| {
            let faults = citing::faults(text, passages);
            if faults.is_empty() { Ok(unlinked(text.trim())) } else { Err(faults) }
        },
        thought: |faults: &[String]| {
            Some(format!(
                "I do not take the model's answer: it does not keep to the passages ({} faults).",
                faults.len()
            ))
        },
        again: "Answer again.",
    };
    let checked = asking::checked(run, request, Turns::default(), terms).await?;
    asking::or_rules(run, checked, |times, faults| {
        format!(
            "The answer is made of quotations: a model's answer was refused {times} times, with {} faults at last.",
            faults.len()
        )
    })
    .await
}

/// A model's text in which nothing is markup but emphasis and lists: a link in it would lead out.
fn unlinked(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '<' => '\u{2039}',
            '>' => '\u{203a}',
            '`' => '\'',
            c => c,
        })
        .collect::<String>()
        .replace("](", "] (")
        .replace("://", ": //")
        .replace("![", "[")
}

/// An answer of quotations alone: for each part the sentences that hold the most of its words.
fn extracted(parts: &[Part], passages: &[Passage]) -> String {
    let mut text = String::new();
    for part in parts {
        let _ = writeln!(text, "**{}**\n", markdown(&part.asked));
        let words = recall::content_words(&part.asked);
        let mut found: Vec<(usize, usize, &str)> = Vec::new();
        for number in &part.found {
            let Some(passage) = passages.get(*number) else { continue };
            for sentence in sentences(&passage.text) {
                let lower = sentence.to_lowercase();
                let held = words.iter().filter(|word| holds(&lower, word)).count();
                if held > 0 && !found.iter().any(|(_, _, known)| *known == sentence) {
                    found.push((held, *number, sentence));
                }
            }
        }
        found.sort_by_key(|(held, number, _)| (std::cmp::Reverse(*held), *number));
        if found.is_empty() {
            let _ = writeln!(text, "Nothing was found on this.\n");
        }
        for (_, number, sentence) in found.into_iter().take(QUOTED) {
            let line = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "> {} [{}]\n", markdown(&line), number + 1);
        }
    }
    text
}

fn holds(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['\n', '!', '?'])
        .flat_map(|line| line.split_inclusive(". "))
        .map(str::trim)
        .filter(|sentence| sentence.chars().any(char::is_alphabetic))
}

fn sources(passages: &[Passage]) -> String {
    let mut text = String::from("**Sources**\n\n");
    for (number, passage) in (1..).zip(passages) {
        let _ = writeln!(text, "[{number}] {}\n", markdown(&passage.place));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_falls_into_its_parts() {
        assert_eq!(
            parts("Research what caching saves and how long batches take? What is flex"),
            ["Research what caching saves", "how long batches take", "What is flex"]
        );
        assert_eq!(parts("?;?").len(), 0);
        assert_eq!(parts(&"a? ".repeat(50)).len(), MOST_PARTS);
    }

    #[test]
    fn a_models_links_lead_nowhere() {
        assert_eq!(unlinked("![x](https://evil) <b>"), "[x] (https: //evil) \u{2039}b\u{203a}");
    }
}
