//! The ground floor of netra-apex: ids, time, money, errors, events, runs, stores and the ways in. It knows no agent
//! and serves no socket.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod auth;
pub mod clock;
pub mod config;
#[cfg(feature = "postgres")]
pub mod database;
pub mod error;
pub mod event;
pub mod file;
pub mod health;
pub mod id;
pub mod limit;
pub mod money;
pub mod principal;
pub mod resilience;
pub mod run;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod thread;
pub mod usage;
