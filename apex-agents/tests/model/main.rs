//! What the models' room promises, tested through its public interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests stop where tests do"
)]

mod cassette;
mod chain;
mod expected;
mod faults;
mod outsider;
mod recordings;
mod requests;
mod server;
mod shapes;
mod slices;
