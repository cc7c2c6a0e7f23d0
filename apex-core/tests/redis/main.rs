//! Redis under the faults that servers and networks have: what is said, that it comes back by itself, and that nothing
//! stays open that should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod cluster;
mod event_log;
mod exchange;
mod login;
mod network;
mod sentinel;
mod server;
mod support;
mod wakeup;
