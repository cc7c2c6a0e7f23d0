//! One pass over the records: sums, findings and savings, with bounded memory and two threads.
//!
//! One thread reads and decodes, the other prices and adds up, in the order of the records, so that the result is the
//! same whatever the threads do. Names are told apart up to a limit; beyond it they share one entry that says so.

mod ledger;
mod pipeline;
mod row;
mod tally;

pub(in crate::cost) use row::{RouteName, Row};

use super::import::{Import, Progress};
use super::price::Catalogue;
use super::report::{Report, Source};
use apex_core::error::Result;
use ledger::Ledger;
use row::Interner;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The bounds of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnalysisOptions {
    /// How many users are told apart.
    pub most_users: usize,
    /// How many models are told apart and priced, each with its provider and tier.
    pub most_models: usize,
    /// How many users and models the report lists; the rest are summed up in one line.
    pub most_listed: usize,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        Self { most_users: 65_536, most_models: 4_096, most_listed: 1_000 }
    }
}

/// An analysis of one or more files.
#[derive(Debug)]
pub struct Analysis {
    options: AnalysisOptions,
    interner: Interner,
    ledger: Ledger,
}

impl Analysis {
    /// An analysis without any file yet.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, options: AnalysisOptions) -> Self {
        Self {
            options,
            interner: Interner::new(options.most_users, options.most_models),
            ledger: Ledger::new(catalogue),
        }
    }

    /// Reads a file. A file that cannot be read as usage records is no error: the report says so under its sources.
    /// `observe` is told about every few thousand rows how far it has come, on this thread, and can stop it.
    ///
    /// # Errors
    /// `cancelled` when `observe` broke off, `storage_failed` when the reader failed. The analysis is of no use then.
    pub fn add(
        &mut self,
        file: &str,
        reader: impl Read + Send,
        observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut import = Import::open(reader)?;
        self.ledger.begin(file);
        pipeline::run(&mut import, &mut self.interner, &mut self.ledger, observe)?;
        let source: Source = import.describe(file);
        self.ledger.end(source);
        Ok(())
    }

    /// The report.
    #[must_use]
    pub fn finish(self) -> Report {
        Report::assemble(self.ledger.facts(self.options.most_listed))
    }
}
