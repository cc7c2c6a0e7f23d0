use super::{day, range, requests};
use crate::agents::question::Topic;
use crate::cost::Report;
use crate::cost::report::Severity;
use crate::cost::report::words::{count, dollars, markdown};
use serde::{Deserialize, Serialize};

/// How many findings, models and users have a figure.
const MOST: usize = 3;

/// A computed figure with the words that say what it is, behind a name that a model can write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agents) struct Figure {
    /// The name, of `a-z` and `_`.
    pub(in crate::agents) name: String,
    /// What it stands for, without the figure.
    pub(in crate::agents) means: String,
    /// What stands in its place: it says itself what it is, wherever it is put.
    pub(in crate::agents) text: String,
    /// What it is about.
    pub(in crate::agents) about: About,
    /// Whether the answer must say it.
    pub(in crate::agents) required: bool,
}

impl Figure {
    /// What a model writes where the figure is to stand.
    pub(in crate::agents) fn placeholder(&self) -> String {
        format!("{{{{{}}}}}", self.name)
    }
}

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::agents) enum About {
    /// What was spent.
    Cost,
    /// What could be saved.
    Saving,
    /// What was used, when, and by what.
    Use,
    /// What is remarkable.
    Finding,
}

/// The figures of a report that the beginning of an answer can hold.
pub(super) fn of(report: &Report, asked: Topic) -> Vec<Figure> {
    let mut figures = Figures::default();
    let critical = report.findings.iter().filter(|found| found.severity == Severity::Critical);
    for (letter, found) in ('a'..).zip(critical.take(MOST)) {
        let text = format!("{}. {}", markdown(&found.title), markdown(&found.evidence));
        // Who words it sets the full stop.
        let text = text.trim_end_matches('.').to_owned();
        let means = "a whole sentence on something that is wrong in the records";
        figures.add(format!("finding_{letter}"), means, text, About::Finding, true);
    }
    let totals = &report.totals;
    figures.add(
        "requests",
        "how many requests there are",
        requests(totals.requests),
        About::Use,
        false,
    );
    if let (Some(from), Some(to)) = (report.period.from, report.period.to) {
        let text = format!("{} to {}", day(from), day(to));
        figures.add(
            "period",
            "the days from the first request to the last",
            text,
            About::Use,
            false,
        );
    }
    let sent = format!("{} tokens sent", count(totals.input_tokens));
    figures.add("tokens_sent", "the tokens sent", sent, About::Use, false);
    let received = format!("{} tokens received", count(totals.output_tokens));
    figures.add("tokens_received", "the tokens received", received, About::Use, false);
    if let Some(recorded) = totals.recorded_cost_usd {
        let text = format!("a recorded cost of {}", dollars(recorded));
        figures.add("recorded_cost", "what the records say that it cost", text, About::Cost, true);
    }
    if let Some(priced) = totals.priced_cost_usd {
        let text = format!("a cost of {} at the prices of their days", dollars(priced));
        figures.add("priced_cost", "what it cost at list prices", text, About::Cost, true);
    }
    if totals.unpriced_requests > 0 {
        let text = format!("{} without a price", requests(totals.unpriced_requests));
        figures.add("unpriced", "the requests that have no price", text, About::Use, true);
    }
    if report.headline.of_priced_cost_usd.is_some() {
        let text = format!("a possible saving of {}", range(&report.headline.saving_usd));
        let required = matches!(asked, Topic::Savings | Topic::Other);
        figures.add("saving", "what could be saved", text, About::Saving, required);
    }
    for (letter, row) in ('a'..).zip(report.by_model.iter().take(MOST)) {
        let name = markdown(&row.model);
        let means = "the name of one of the models that cost most, the dearest first";
        figures.add(format!("model_{letter}"), means, name.clone(), About::Use, false);
        if let Some(cost) = row.totals.priced_cost_usd {
            let text = format!("a cost of {} for {name}", dollars(cost));
            let means = "what this model cost at list prices";
            figures.add(format!("model_{letter}_cost"), means, text, About::Cost, false);
        }
    }
    figures.0
}

/// Figures as they gather.
#[derive(Debug, Default)]
pub(in crate::agents) struct Figures(pub(in crate::agents) Vec<Figure>);

impl Figures {
    /// Adds a figure.
    pub(in crate::agents) fn add(
        &mut self,
        name: impl Into<String>,
        means: &str,
        text: String,
        about: About,
        required: bool,
    ) {
        let (name, means) = (name.into(), means.to_owned());
        self.0.push(Figure { name, means, text, about, required });
    }
}
