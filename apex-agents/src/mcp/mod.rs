//! The Model Context Protocol, both ways: tools of MCP servers as tools here ([`McpServers`]), and the tools of this
//! engine offered to MCP clients ([`McpOffer`]).
//!
//! A server is reached as a child process that speaks over its standard streams, or over streamable HTTP. What it says
//! is a stranger's: names and schemas are checked, results are held against their schema and bounded, and a model that
//! is shown them is told that they are data.

mod connection;
mod http;
mod offer;
mod server;
mod tool;

pub use offer::{McpOffer, McpOfferOptions};
pub use server::{McpReach, McpServer, McpServers};
