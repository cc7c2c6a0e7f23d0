//! Answers in words: every figure in them is taken from a computed report. They are worded by rules; their beginning
//! may be worded by a model, which gets placeholders for the figures and whose text is [checked](check).

mod check;
mod figure;
mod model;

pub(super) use figure::{About, Figure, Figures};
pub(super) use model::by_model;

use check::worded;

use super::question::Topic;
use crate::cost::Report;
use crate::cost::report::words::{count, dollars, dollars_or, markdown};
use crate::cost::report::{Advice, EvidenceLevel, Saving, Severity, Totals};
use std::fmt::Write as _;
use std::iter::{once, repeat};

/// How many lines a list in an answer has at most; the report has all.
const LINES: usize = 5;

/// What to say to a question that is about something else.
pub(super) fn what_we_do() -> &'static str {
    "That is not something that I can help with. What I can do: tell what your requests to language models cost, \
     and why.\n\n\
     Attach an export of your usage as CSV or JSON lines (from LiteLLM, Langfuse, or your own log of provider \
     responses) and ask, for example:\n\n\
     - Where can we save?\n\
     - What did we spend, by model, user and day?\n\
     - Is anything remarkable or wrong in these records?\n\
     - How do the models compare?\n\n\
     Every figure is computed from your records and checked a second time; nothing is guessed."
}

/// The beginning of the answer to a question: what must be said first, and what was spent.
pub(super) fn lead(report: &Report) -> String {
    let mut text = String::new();
    let critical = report.findings.iter().filter(|finding| finding.severity == Severity::Critical);
    for (finding, lead) in critical.zip(once("First of all").chain(repeat("And"))) {
        let (title, evidence) = (markdown(&finding.title), markdown(&finding.evidence));
        let _ = write!(text, "**{lead}: {title}.** {evidence}\n\n");
    }
    let _ = write!(text, "{}\n\n", spent(report));
    text
}

/// The figures that the beginning of an answer can hold.
pub(super) fn figures(report: &Report, asked: Topic) -> Vec<Figure> {
    figure::of(report, asked)
}

/// The rest of the answer.
pub(super) fn rest(
    report: &Report,
    asked: Topic,
    limits: &[String],
    figures_checked: u64,
    next: &[String],
    next_said: Option<&str>,
) -> String {
    let mut text = String::new();
    match asked {
        Topic::Savings | Topic::Other => savings(report, &mut text),
        Topic::Overview => overview(report, &mut text),
        Topic::Anomalies => anomalies(report, &mut text),
        Topic::Comparison => comparison(report, &mut text),
        Topic::Forecast => by_day(report, &mut text),
    }
    if let Some(said) = next_said {
        let _ = write!(text, "{said}\n\n");
    }
    list(&mut text, "Next", next.iter().cloned());
    list(&mut text, "Limits", limits.iter().cloned());
    let _ = write!(
        text,
        "{} figures were computed a second time and came out the same. The whole report: `report.html`, \
         `report.md`, `report.json`.",
        count(figures_checked)
    );
    text
}

fn spent(report: &Report) -> String {
    let totals = &report.totals;
    let mut text = format!("**{}**", requests(totals.requests));
    if let (Some(from), Some(to)) = (report.period.from, report.period.to) {
        let _ = write!(text, " from {} to {}", day(from), day(to));
    }
    let _ = write!(
        text,
        " sent {} and received {} tokens.",
        count(totals.input_tokens),
        count(totals.output_tokens)
    );
    match totals.recorded_cost_usd {
        Some(recorded) => {
            let _ = write!(text, " Recorded cost: **{}**.", dollars(recorded));
        }
        None => text.push_str(" The records say nothing of what they cost."),
    }
    match totals.priced_cost_usd {
        Some(priced) => {
            let _ = write!(text, " At the prices of their days: **{}**", dollars(priced));
        }
        None => text.push_str(" None of them could be priced"),
    }
    if totals.unpriced_requests > 0 && totals.priced_cost_usd.is_some() {
        let _ = write!(text, ", without {} that have no price", requests(totals.unpriced_requests));
    }
    text.push('.');
    text
}

fn savings(report: &Report, text: &mut String) {
    let headline = &report.headline;
    match headline.of_priced_cost_usd {
        Some(priced) => {
            let _ = write!(
                text,
                "**Could be saved: {}** of {}.\n\n",
                range(&headline.saving_usd),
                dollars(priced)
            );
        }
        None => text.push_str("Without prices no saving can be computed.\n\n"),
    }
    let levers = report.recommendations.iter().map(|lever| {
        let saving = range(&lever.saving_usd);
        match (lever.advice, lever.evidence_level) {
            (Advice::DoNot, _) => format!("{}: better not. {}", markdown(&lever.title), markdown(&lever.evidence)),
            (_, EvidenceLevel::Ceiling) => {
                let high = dollars(lever.saving_usd.high);
                format!("{}: at most {high}, not counted above until a test shows that the quality holds", markdown(&lever.title))
            }
            _ => format!("{}: {saving}. Risk: {}", markdown(&lever.title), markdown(&lever.risk)),
        }
    });
    list(text, "What would save", levers);
}

fn overview(report: &Report, text: &mut String) {
    list(text, "By model", report.by_model.iter().map(|row| share(&row.model, &row.totals)));
    list(text, "By user", report.by_user.iter().map(|row| share(&row.user, &row.totals)));
    let headline = &report.headline;
    if headline.of_priced_cost_usd.is_some() {
        let _ = write!(text, "Could be saved: {}.\n\n", range(&headline.saving_usd));
    }
}

fn anomalies(report: &Report, text: &mut String) {
    if report.findings.is_empty() {
        text.push_str("Nothing remarkable was found in the records.\n\n");
    }
    let findings = report.findings.iter().map(|finding| {
        let example = finding.examples.first();
        let place = example.map(|e| format!(" (such as line {} of {})", e.line, markdown(&e.file)));
        format!("{}{}", markdown(&finding.title), place.unwrap_or_default())
    });
    list(text, "Findings", findings);
}

fn comparison(report: &Report, text: &mut String) {
    text.push_str("| Model | Requests | Tokens in | Tokens out | Recorded | Priced |\n|---|--:|--:|--:|--:|--:|\n");
    for row in report.by_model.iter().take(2 * LINES) {
        let totals = &row.totals;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            markdown(&row.model),
            count(totals.requests),
            count(totals.input_tokens),
            count(totals.output_tokens),
            dollars_or(totals.recorded_cost_usd, "not recorded"),
            dollars_or(totals.priced_cost_usd, "unpriced")
        );
    }
    if report.by_model.len() > 2 * LINES {
        let _ = writeln!(
            text,
            "\nand {} more models in the report.",
            report.by_model.len() - 2 * LINES
        );
    }
    text.push('\n');
}

fn by_day(report: &Report, text: &mut String) {
    text.push_str("What will be spent is not computed here; this is what was.\n\n");
    list(text, "The last days", report.by_day.iter().rev().map(|row| share(&row.day, &row.totals)));
}

/// So many requests, in words.
pub(super) fn requests(number: u64) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} request{plural}", count(number))
}

fn share(name: &str, totals: &Totals) -> String {
    let cost = match (totals.priced_cost_usd, totals.recorded_cost_usd) {
        (Some(priced), Some(recorded)) => {
            format!("{}, recorded {}", dollars(priced), dollars(recorded))
        }
        (Some(priced), None) => dollars(priced),
        (None, Some(recorded)) => format!("unpriced, recorded {}", dollars(recorded)),
        (None, None) => "unpriced".to_owned(),
    };
    format!("{}: {cost} for {}", markdown(name), requests(totals.requests))
}

fn list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = write!(text, "**{title}**\n\n");
    for item in items.by_ref().take(LINES) {
        let _ = writeln!(text, "- {item}");
    }
    match items.count() {
        0 => {}
        more => {
            let _ = writeln!(text, "- and {more} more in the report");
        }
    }
    text.push('\n');
}

fn day(at: apex_core::clock::Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// A saving as its expected value with its bounds.
pub(super) fn range(saving: &Saving) -> String {
    if saving.low == saving.high {
        return dollars(saving.expected);
    }
    format!("{} ({} to {})", dollars(saving.expected), dollars(saving.low), dollars(saving.high))
}
