use super::files::Opened;
use crate::agents::PASS;
use crate::agents::sources::guide;
use crate::cost::Catalogue;
use crate::cost::price::Retirements;
use crate::cost::pricing::{self, PriceQuestion, PriceTopic, Prices};
use crate::cost::query::{Answer, Counting, Query};
use crate::cost::report::words::count;
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::clock::Timestamp;
use apex_core::error::Result;
use apex_core::id::FileId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::Arc;

/// How the user's own runs are named among the sources of an answer.
const OWN_RUNS: &str = "your runs here";

/// How many attempts are read at a time.
const PAGE: usize = 1_000;

/// What a query came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct Looked {
    pub(in crate::agents) answer: Answer,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The files with usage records; none for what the user's own runs asked of models.
    files: Vec<FileId>,
    /// The query.
    query: Query,
}

/// Carries out one query over usage records.
pub(in crate::agents) fn query_usage(catalogue: Arc<Catalogue>) -> impl Tool {
    tool_fn(
        "query_usage",
        "Answers one typed query over usage records: which requests, grouped by what, which figure.",
        move |asked: Asked, call: ToolContext| {
            let catalogue = Arc::clone(&catalogue);
            async move {
                let answer = counted(catalogue, asked.query, &asked.files, &call).await?;
                call.summarise(format!(
                    "{} of {} rows counted, {} groups",
                    count(answer.evidence.counted),
                    count(answer.evidence.rows),
                    count(answer.groups)
                ));
                Ok(Looked { answer })
            }
        },
    )
    .effect(Effect::Read)
    .untrusted()
    .timeout(PASS)
}

async fn counted(
    catalogue: Arc<Catalogue>,
    query: Query,
    files: &[FileId],
    call: &ToolContext,
) -> Result<Answer> {
    let mut counting = Counting::new(catalogue, query)?;
    if files.is_empty() {
        counting.begin(OWN_RUNS);
        let mut cursor = None;
        loop {
            let page = call.attempts(cursor.as_deref(), PAGE).await?;
            for attempt in page.items {
                counting.record(&attempt.into_record(call.principal()));
            }
            cursor = page.next;
            if cursor.is_none() || call.is_cancelled() {
                return Ok(counting.finish());
            }
        }
    }
    let opened = Opened::all(files, call).await?;
    call.blocking(move |call| {
        opened.read(call, |name, content, observe| {
            counting.add(name, content, &mut |progress| observe(progress.bytes))
        })?;
        Ok(counting.finish())
    })
    .await
}

/// What to say where no usage record is there.
pub(in crate::agents) fn nothing_to_read(looked: &Looked) -> String {
    let evidence = &looked.answer.evidence;
    let mut text = String::from("## The data does not suffice\n\n");
    if evidence.rows == 0 {
        let _ = write!(text, "There are no usage records in {}.", evidence.sources.join(", "));
    } else {
        let _ = write!(
            text,
            "None of the {} rows of {} is a usage record.",
            count(evidence.rows),
            evidence.sources.join(", ")
        );
    }
    let guide = guide(&[]);
    let _ = write!(text, "\n\n### What a file needs\n\n{}\n\n### Where to get it\n", guide.needs);
    for source in &guide.sources {
        let _ = write!(text, "\n- **{}**: {}", source.name, source.how);
    }
    text
}

/// An answer about prices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct Priced {
    pub(in crate::agents) text: String,
    /// How many requests it rests on, where it rests on records.
    pub(in crate::agents) requests: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Order {
    /// The question.
    question: PriceQuestion,
    /// The files with usage records, where the question is about the user's own requests.
    files: Vec<FileId>,
    /// When it is asked.
    now: Timestamp,
}

/// Answers a question about prices, from the catalogue and the user's own records.
pub(in crate::agents) fn price_models(catalogue: Arc<Catalogue>) -> impl Tool {
    tool_fn(
        "price_models",
        "Answers one typed question about prices: what models cost, what is cheaper, what a change would cost, which \
         models end.",
        move |order: Order, call: ToolContext| {
            let catalogue = Arc::clone(&catalogue);
            async move {
                let question = order.question;
                if let Some(fault) = question.fault() {
                    return Err(apex_core::error::Error::new(
                        apex_core::error::Kind::BadArguments,
                        "pricing.answer",
                        format!("this cannot be asked of prices: {fault}"),
                    ));
                }
                let retirements = Retirements::embedded()?;
                let prices =
                    Prices { catalogue: &catalogue, retirements: &retirements, now: order.now };
                let over_records = question.asked == PriceTopic::Change
                    || (question.asked == PriceTopic::Ending && question.models.is_empty());
                let answer = if over_records {
                    let catalogue = Arc::clone(&catalogue);
                    Some(counted(catalogue, question.query(), &order.files, &call).await?)
                } else {
                    None
                };
                // Rows that are no records, or none at all: then list prices are what there is.
                let answer =
                    answer.filter(|answer| answer.evidence.rows > answer.evidence.rejected);
                let text = match (&answer, question.asked) {
                    (Some(answer), PriceTopic::Ending) => pricing::ending(&prices, answer),
                    (Some(answer), _) => pricing::moved(&prices, &question, answer),
                    (None, PriceTopic::Change) => format!(
                        "No usage records are there, so this is what list prices say.\n\n{}",
                        pricing::prices(&prices, &question)
                    ),
                    (None, _) => pricing::prices(&prices, &question),
                };
                let requests = answer.map(|answer| answer.evidence.counted);
                call.summarise(match requests {
                    Some(requests) => format!("priced over {} requests", count(requests)),
                    None => "answered from list prices and dates".to_owned(),
                });
                Ok(Priced { text, requests })
            }
        },
    )
    .effect(Effect::Read)
    .untrusted()
    .timeout(PASS)
}
