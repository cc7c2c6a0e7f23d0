//! Providers over HTTP/1.1.

mod provider;

pub use provider::{HttpOptions, HttpProvider};
