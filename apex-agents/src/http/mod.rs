//! Requests over HTTP/1.1, on hyper and rustls: to model providers, and to MCP servers.
//!
//! A key travels to the configured host and nowhere else: redirects are not followed.

mod client;
mod connect;

#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
pub(crate) use client::Body;
pub(crate) use client::{Client, NoResponse, describe};
pub(crate) use connect::{Connector, wrong};
