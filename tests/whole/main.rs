//! What only the whole can show: the golden path as a new user runs it, kills at any moment, many users at once,
//! and the types that other languages are generated from.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod auth_database;
mod config;
mod degraded;
#[cfg(feature = "postgres")]
mod delivery;
mod golden_path;
mod health;
mod hello;
mod kill;
mod killed_calls;
#[cfg(feature = "mcp")]
mod mcp;
mod models;
#[cfg(feature = "postgres")]
mod pressure;
mod schema;
mod security;
#[cfg(all(feature = "openai", feature = "postgres", feature = "redis", feature = "tls"))]
mod servers;
mod support;
mod transfer;
mod types;
mod users;
