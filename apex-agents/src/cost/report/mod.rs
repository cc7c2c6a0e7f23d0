//! The report: what a computed analysis says, as one serialisable value, and its forms for people.
//!
//! Money is an exact decimal string, tokens and requests are integers. A sum of prices that no request has is
//! `null`, never zero: unpriced is a state.

mod assemble;
mod chart;
pub(in crate::cost) mod facts;
mod findings;
mod html;
mod markdown;
pub(crate) mod words;

pub(in crate::cost) use findings::COPY;

use apex_core::clock::Timestamp;
use apex_core::money::Usd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "apex.report/1";

/// A whole report. `report.json` is its serialisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The files that were read, in the order in which they were given.
    pub sources: Vec<Source>,
    /// The first and last moment of the requests that have a time.
    pub period: Period,
    /// All imported requests together.
    pub totals: Totals,
    /// What could be saved together, of the requests that have a price.
    pub headline: Headline,
    /// By model as the source names it, dearest first.
    pub by_model: Vec<ModelRow>,
    /// By user, dearest first; empty where no source names users.
    pub by_user: Vec<UserRow>,
    /// By day (UTC), in order; requests without a time come last, as `unknown`.
    pub by_day: Vec<DayRow>,
    /// What the reader must know, the gravest first.
    pub findings: Vec<Finding>,
    /// What to do, and what not to, in the order of the waterfall.
    pub recommendations: Vec<Recommendation>,
    /// How the savings follow from each other: each lever is applied to what the levers before it left.
    pub waterfall: Waterfall,
    /// The recommendations as an ordered plan.
    pub actions: Vec<Action>,
    /// The price catalogue that was used.
    pub catalogue: CatalogueStamp,
}

impl Report {
    /// The report as JSON, for machines: `report.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in it can fail: maps have string keys and money is text.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// A file that was read. `rows = imported + rejected_rows`, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Its name, as given.
    pub file: String,
    /// What it was taken for, such as `csv` or `jsonl+gzip`; `unknown` where it was refused unread.
    pub format: String,
    /// Its size as it is stored, before decompression; 0 where it was refused.
    pub bytes: u64,
    /// The records seen: CSV records after the header, or JSON lines that are not blank.
    pub rows: u64,
    /// The records that count in this report.
    pub imported: u64,
    /// The records that do not.
    pub rejected_rows: u64,
    /// Why, for the first thousand of them.
    pub rejected: Vec<Rejection>,
    /// Why the file as a whole was refused or left before its end.
    pub refused: Option<Rejection>,
    /// Which column gave what, as `field=column`.
    pub columns: Vec<String>,
}

/// A place in a file and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    /// The line (the first is 1) at which the record starts.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// The time that the requests span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Period {
    /// The earliest request.
    pub from: Option<Timestamp>,
    /// The latest request.
    pub to: Option<Timestamp>,
}

/// What a set of requests used and cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// How many requests.
    pub requests: u64,
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens received, reasoning included.
    pub output_tokens: u64,
    /// What the sources say that it cost; `null` where no record has a cost.
    pub recorded_cost_usd: Option<Usd>,
    /// What the catalogue says that the priced requests cost; `null` where none could be priced.
    pub priced_cost_usd: Option<Usd>,
    /// The requests without a price.
    pub unpriced_requests: u64,
}

/// A model's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRow {
    /// The model as the source names it.
    pub model: String,
    /// Its figures.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A user's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRow {
    /// The user as the source names them.
    pub user: String,
    /// Their figures.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A day's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DayRow {
    /// The day in UTC, as `2026-07-31`, or `unknown`.
    pub day: String,
    /// Its figures.
    #[serde(flatten)]
    pub totals: Totals,
}

/// How grave a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The figures cannot be read without it.
    Critical,
    /// It changes a decision.
    Warning,
    /// Good to know.
    Info,
}

/// Something that the reader must know about the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// A stable name, such as `cost_outlier` or `unpriced`.
    pub kind: String,
    /// How grave it is.
    pub severity: Severity,
    /// It in a sentence.
    pub title: String,
    /// The figures behind it, in words.
    pub evidence: String,
    /// How many requests it is about.
    pub requests: u64,
    /// How much money it is about, where that is known.
    pub amount_usd: Option<Usd>,
    /// Some of the records, so that they can be looked at.
    pub examples: Vec<Example>,
}

/// A record that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The file.
    pub file: String,
    /// The line at which the record starts.
    pub line: u64,
    /// What is remarkable there.
    pub note: String,
}

/// What stands behind a saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceLevel {
    /// The records themselves show it.
    Measured,
    /// It follows from the records and a stated rule.
    Estimated,
    /// Nothing shows that the quality would hold: an upper limit, outside the headline.
    Ceiling,
}

/// What a recommendation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Do it.
    Do,
    /// Try it on a part first; the saving is not shown yet.
    Try,
    /// Leave it: the records speak against it.
    DoNot,
}

/// A saving in dollars over the report's period, under three readings of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Saving {
    /// What is certain.
    pub low: Usd,
    /// What is likely.
    pub expected: Usd,
    /// What is possible at most.
    pub high: Usd,
}

/// A lever and what it would save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// The lever's stable name, such as `batch`.
    pub lever: String,
    /// What to do, or not, in a sentence.
    pub title: String,
    /// Whether to.
    pub advice: Advice,
    /// Which requests it is about.
    pub scope: String,
    /// How many requests: those behind the expected saving, or behind the highest where nothing is expected.
    pub requests: u64,
    /// What it saves of what the levers before it left.
    pub saving_usd: Saving,
    /// What stands behind the figures.
    pub evidence_level: EvidenceLevel,
    /// The figures behind it, in words.
    pub evidence: String,
    /// What can go wrong.
    pub risk: String,
    /// How to see that it worked.
    pub verify: String,
}

/// The savings together: the sum over the waterfall's steps inside the headline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Headline {
    /// The saving; recommendations without quality evidence and advice against are left out.
    pub saving_usd: Saving,
    /// The priced cost that it is a part of; `null` where nothing is priced.
    pub of_priced_cost_usd: Option<Usd>,
}

/// How the savings follow from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waterfall {
    /// The priced cost before any lever.
    pub start_usd: Usd,
    /// The levers in the order of their application.
    pub steps: Vec<Step>,
    /// What is left after the expected savings inside the headline.
    pub end_usd: Usd,
}

/// A step of the waterfall.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The lever.
    pub lever: String,
    /// Whether it counts in the headline.
    pub in_headline: bool,
    /// What it saves of what the steps before left.
    pub saving_usd: Saving,
    /// What is left of the expected cost after it; unchanged by a step outside the headline.
    pub left_usd: Usd,
}

/// A step of the action plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// Its place in the plan, from 1.
    pub order: u64,
    /// What to do.
    pub what: String,
    /// Where.
    pub place: String,
    /// How much work it is.
    pub effort: Effort,
    /// What can go wrong.
    pub risk: String,
    /// How to undo it.
    pub roll_back: String,
    /// How to see that it worked.
    pub verify: String,
    /// The expected saving; `null` where the step is there for certainty, not for money.
    pub saving_usd: Option<Usd>,
}

/// How much work an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Minutes to hours.
    Small,
    /// Days.
    Medium,
    /// Weeks.
    Large,
}

/// Which prices were used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogueStamp {
    /// The catalogue's version.
    pub version: String,
    /// SHA-256 of the catalogue's bytes, of contract overrides too, in hexadecimal.
    pub sha256: String,
}
