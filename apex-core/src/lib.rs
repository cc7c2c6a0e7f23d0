//! The ground floor of netra-apex: ids, time, money, errors, events, runs, stores and the ways in. It knows no agent
//! and serves no socket.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod auth;
pub mod budget;
pub mod clock;
pub mod config;
#[cfg(feature = "postgres")]
pub mod database;
/// What can be said about sessions with a server database; the sessions come with the feature `postgres`.
#[cfg(not(feature = "postgres"))]
pub mod database {
    mod config;

    pub use config::DatabaseConfig;
}
pub mod error;
pub mod event;
pub mod file;
pub mod health;
pub mod id;
pub mod limit;
pub mod memory;
pub mod money;
pub mod principal;
pub mod resilience;
pub mod run;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod thread;
#[cfg(feature = "tls")]
pub mod tls;
pub mod trace;
pub mod usage;
