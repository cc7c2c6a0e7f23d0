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
mod effects;
mod faults;
mod gated;
mod hello;
mod intake;
mod lease;
mod model;
mod order;
mod pipeline;
mod remembering;
mod scripted;
mod support;
mod team;
mod tools;
mod user_budgets;
mod users;
mod worded;
