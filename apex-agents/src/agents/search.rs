//! Search: what was said in the user's conversations, with where it was said.

use super::asking;
use super::recall;
use super::usage::Recalled;
use crate::agent::{Agent, Request, agent_fn};
use crate::context::Context;
use crate::cost::query::calendar;
use crate::cost::report::words::markdown;
use crate::prompt;
use apex_core::error::Result;
use apex_core::event::{RunResult, RunStatus};
use apex_core::thread::{Found, MOST_FOUND, Role, SearchQuery, Snippet};
use serde_json::json;
use std::fmt::Write as _;

pub(super) fn agent() -> impl Agent {
    agent_fn("search", "Finds what was said in the user's conversations, and where.", run)
}

async fn run(request: Request, run: Context) -> Result<RunResult> {
    let answered = |text| RunResult { status: RunStatus::Answered, text, artifacts: Vec::new() };
    let query = read(&request, &run).await?;
    if !query.words.contains(char::is_alphanumeric) {
        return Ok(answered(
            "I need at least one word to search for. I look through what was asked and answered in your own \
             conversations, for example: search my conversations for caching."
                .to_owned(),
        ));
    }
    run.think(format!("I look for this in what was said: {}", json!(query))).await?;
    let recalled: Recalled = run.call("search_threads", json!({ "query": query })).await?;
    if recalled.found.is_empty() {
        return Ok(answered(format!(
            "Nothing was said in your conversations that holds {}.",
            markdown(&query.words)
        )));
    }
    Ok(answered(told(&query, &recalled)))
}

/// The search: filled in by a model and checked, or read by rules.
async fn read(request: &Request, run: &Context) -> Result<SearchQuery> {
    let now = run.now().await?;
    let data = json!({
        "question": request.text,
        "today": calendar::date(calendar::day_of(now)),
        "schema": schemars::schema_for!(SearchQuery),
    });
    let filled: Option<SearchQuery> = asking::fill(run, prompt::SEARCH, &data, fault).await?;
    Ok(match filled {
        Some(query) => {
            SearchQuery { max: if query.max == 0 { recall::FOUND } else { query.max }, ..query }
        }
        None => recall::read(&request.text, now),
    })
}

fn fault(query: &SearchQuery) -> Option<String> {
    if !query.words.contains(char::is_alphanumeric) {
        return Some("it has no word to look for".to_owned());
    }
    if query.words.len() > 1_000 || query.max > MOST_FOUND {
        return Some(format!("it is longer than 1,000 bytes or asks for more than {MOST_FOUND}"));
    }
    let (from, before) = (query.from?, query.before?);
    (from >= before).then(|| "its time ends before it begins".to_owned())
}

fn told(query: &SearchQuery, recalled: &Recalled) -> String {
    let found = &recalled.found;
    let how = if recalled.any { "some of the words" } else { "all of the words" };
    let mut text = format!(
        "Found {} with {how}: {}. The best first.\n\n",
        if found.len() == 1 {
            "one message".to_owned()
        } else {
            format!("{} messages", found.len())
        },
        markdown(&query.words)
    );
    for (number, one) in (1..).zip(found) {
        let _ = writeln!(text, "[{number}] {}\n\n> {}\n", place(one), marked(&one.snippet));
    }
    text
}

/// Where something was said.
fn place(found: &Found) -> String {
    let day = calendar::date(calendar::day_of(found.at));
    let who = match found.role {
        Role::User => "asked",
        Role::Assistant => "answered",
    };
    format!(
        "{day}, {who} in \u{201c}{}\u{201d} (thread {}, run {})",
        markdown(&found.title),
        found.thread,
        found.run
    )
}

/// A snippet with its words in bold, on one line, in which nothing is markup but that.
pub(super) fn marked(snippet: &Snippet) -> String {
    let line = |part: &str| {
        let mut line = String::new();
        for c in part.chars() {
            if !c.is_whitespace() {
                line.push(c);
            } else if !line.ends_with(' ') {
                line.push(' ');
            }
        }
        markdown(&line)
    };
    let mut text = String::from(if snippet.more_before { "… " } else { "" });
    let mut at = 0;
    for (from, to) in &snippet.marks {
        text.push_str(&line(snippet.text.get(at..*from).unwrap_or_default()));
        let _ = write!(text, "**{}**", line(snippet.text.get(*from..*to).unwrap_or_default()));
        at = *to;
    }
    text.push_str(&line(snippet.text.get(at..).unwrap_or_default()));
    text.push_str(if snippet.more_after { " …" } else { "" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_markup_in_a_snippet_is_text() {
        let snippet = Snippet {
            text: "see [this](http://evil) for\n<b>cost</b>".into(),
            marks: vec![(31, 35)],
            more_before: true,
            more_after: false,
        };
        assert_eq!(marked(&snippet), "… see \\[this\\](http://evil) for \\<b\\>**cost**\\</b\\>");
    }
}
