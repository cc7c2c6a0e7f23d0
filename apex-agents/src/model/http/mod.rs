//! Providers over HTTP/1.1, on hyper and rustls.
//!
//! A key travels to the configured host and nowhere else: redirects are not followed.

mod client;
mod connect;
mod provider;

pub use provider::{HttpOptions, HttpProvider};
