//! The tools of the agents, over usage files.

mod analyse;
mod files;
mod inspect;
mod passages;
mod query;
mod recall;
mod recompute;
mod report;

pub(super) use analyse::{Analysed, analyse_usage};
pub(super) use files::{EarlierFiles, earlier_files};
pub(super) use inspect::{export_guide, inspect_usage};
pub(super) use passages::{Read, find_passages};
pub(super) use query::{Looked, Priced, nothing_to_read, price_models, query_usage};
pub(super) use recall::{Recalled, search_threads};
pub(super) use recompute::{Recomputed, recompute_figures};
pub(super) use report::{Written, plan_actions, write_report};
