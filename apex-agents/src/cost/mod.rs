//! What usage records cost, why, and what could be saved: a pure, deterministic, synchronous library.
//!
//! It reads no clock, environment or network and knows no async runtime: a caller runs it in `spawn_blocking`.
//! Everything is streamed and bounded; the same bytes, catalogue and options always give the same report.
//!
//! ```
//! use apex_agents::cost::{Analysis, AnalysisOptions, Catalogue, Verification, inspect, sample};
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! let file = sample::csv();
//! // A cheap look at the first part: what is it, which columns, what is missing and needed for what?
//! let inspection = inspect("usage.csv", file.as_slice())?;
//! assert!(inspection.is_sufficient());
//!
//! // One pass over each file, then the report.
//! let catalogue = Arc::new(Catalogue::embedded()?);
//! let mut analysis = Analysis::new(Arc::clone(&catalogue), AnalysisOptions::default());
//! analysis.add("usage.csv", file.as_slice(), &mut |_progress| ControlFlow::Continue(()))?;
//! let report = analysis.finish();
//!
//! // The same figures a second way; an error of kind `bad_figures` lists those that do not add up.
//! let mut verification = Verification::new(&report, catalogue);
//! verification.add("usage.csv", file.as_slice(), &mut |_progress| ControlFlow::Continue(()))?;
//! verification.finish()?;
//!
//! let (json, markdown, html) = (report.to_json(), report.to_markdown(), report.to_html());
//! # assert!(json.len() > 100 && markdown.contains("# ") && html.starts_with("<!doctype html>"));
//! # Ok::<(), apex_core::error::Error>(())
//! ```
//!
//! An import format is one file in `import/` and one line in its list of formats; a lever is one file in `lever/`
//! and one line in `lever::ALL`.

pub mod analyse;
pub mod import;
mod lever;
pub mod price;
pub mod pricing;
pub mod query;
pub mod report;
pub mod sample;
mod verify;

pub use analyse::{Analysis, AnalysisOptions};
pub use import::{Inspection, Progress, inspect};
pub use price::Catalogue;
pub use report::Report;
pub use verify::{Verification, Verified};
