//! The tools of the agents, over usage files.

mod analyse;
mod files;
mod inspect;
mod recompute;
mod report;

pub(super) use analyse::{Analysed, analyse_usage};
pub(super) use files::{EarlierFiles, earlier_files};
pub(super) use inspect::{export_guide, inspect_usage};
pub(super) use recompute::{Recomputed, recompute_figures};
pub(super) use report::{Written, plan_actions, write_report};
