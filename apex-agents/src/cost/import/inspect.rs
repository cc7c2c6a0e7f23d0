//! A cheap look at the first part of a file: enough to say whether a question can be answered from it.

use super::field::Field;
use super::{Import, REJECTIONS_KEPT};
use crate::cost::report::Rejection;
use apex_core::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// How many rows are looked at.
const ROWS: usize = 200;

/// What a file is and what it can be used for, judged by its first rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// The file's name, as given.
    pub file: String,
    /// What it was taken for, such as `csv`; `unknown` where it was refused.
    pub format: String,
    /// The fields that it has, and under which name.
    pub columns: Vec<Column>,
    /// Its columns that mean nothing here.
    pub unknown_columns: Vec<String>,
    /// The fields that it lacks, and what cannot be answered without them.
    pub missing: Vec<MissingColumn>,
    /// The rows that were looked at.
    pub rows: u64,
    /// How many of them are usage records.
    pub usable: u64,
    /// Why the others are not.
    pub rejected: Vec<Rejection>,
    /// Why the file as a whole cannot be read.
    pub refused: Option<Rejection>,
    /// Models that its first rows name.
    pub models: Vec<String>,
}

/// A field that a file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Column {
    /// The field's name in our own format.
    pub field: String,
    /// The column's name in the file.
    pub name: String,
}

/// A field that a file lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingColumn {
    /// The field's name in our own format.
    pub field: String,
    /// What it is needed for.
    pub needed_for: String,
    /// Whether nothing can be computed without it.
    pub required: bool,
}

impl Inspection {
    /// Whether anything can be computed from the file.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.refused.is_none() && self.usable > 0
    }

    /// Whether it can be computed what the requests cost.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let lacks = |field: Field| self.missing.iter().any(|m| m.field == field.name());
        self.is_sufficient()
            && ![Field::Model, Field::Time, Field::Input, Field::Output].into_iter().any(lacks)
    }
}

/// Looks at the first rows of a file; reads a few hundred KiB of it at most.
///
/// # Errors
/// The reader failed.
pub fn inspect(file: &str, reader: impl Read + Send) -> Result<Inspection> {
    let mut import = Import::open(reader)?;
    let (mut usable, mut rejected, mut models) = (0, Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let Some(row) = import.next()? else { break };
        match row.record {
            Ok(record) => {
                usable += 1;
                if !models.iter().any(|known| known == record.model) {
                    models.push(record.model.to_owned());
                }
            }
            Err(reason) => rejected.push(Rejection { line: row.line, reason }),
        }
    }
    rejected.truncate(REJECTIONS_KEPT);
    let columns = import.records.as_ref().map(|r| r.columns()).unwrap_or_default();
    let has = |field| columns.iter().any(|(found, _)| *found == field);
    let missing = Field::ALL
        .into_iter()
        .filter(|field| !has(*field))
        .filter_map(|field| {
            let (needed_for, required) = need(field)?;
            Some(MissingColumn {
                field: field.name().to_owned(),
                needed_for: needed_for.to_owned(),
                required,
            })
        })
        .collect();
    Ok(Inspection {
        file: file.to_owned(),
        format: import.format(),
        missing,
        unknown_columns: import.records.as_ref().map(|r| r.unknown()).unwrap_or_default(),
        columns: columns
            .into_iter()
            .map(|(field, name)| Column { field: field.name().to_owned(), name })
            .collect(),
        rows: import.rows,
        usable,
        rejected,
        refused: import.refused,
        models,
    })
}

fn need(field: Field) -> Option<(&'static str, bool)> {
    Some(match field {
        Field::Time => ("prices of the day, spend by day, repeats and bursts", false),
        Field::Request => ("telling a row that was exported twice from two equal requests", false),
        Field::User => ("spend by user", false),
        Field::Session => {
            ("telling conversations, which cannot wait for a batch, from jobs, which can", false)
        }
        Field::Model => ("any price: without it every request is unpriced", false),
        Field::Status => ("calls that failed and were billed", false),
        Field::Input => ("the price of what was sent", true),
        Field::Output => ("the price of what was received", true),
        Field::Cached => (
            "the lower price of cached input; without it the price is too high where a cache was used",
            false,
        ),
        Field::Cost => ("comparing what was recorded or billed with the list price", false),
        Field::Content => ("proving that a request was repeated, rather than supposing it", false),
        Field::Provider
        | Field::Fault
        | Field::Batch
        | Field::Tier
        | Field::CacheWrite
        | Field::Reasoning
        | Field::Requests => return None,
    })
}
