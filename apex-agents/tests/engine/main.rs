//! The engine as a host sees it: what it records, whatever agents, tools, users and nodes do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod approvals;
mod budgets;
mod cancel;
mod crash;
mod crowd;
mod declared;
mod effects;
mod faults;
mod hello;
mod injected;
mod intake;
mod lease;
#[cfg(feature = "mcp")]
mod mcp;
mod model;
mod pipeline;
mod remembering;
mod replay;
mod team;
mod tools;
mod traces;
mod user_budgets;
mod users;
mod worded;
