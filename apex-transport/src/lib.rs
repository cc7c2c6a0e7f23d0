//! The wire of netra-apex: an authenticated WebSocket and HTTP service over core's runs and stores. It starts runs
//! through core's `Runner` and reads them through `RunLog`; it knows no agent.
//!
//! [`TransportService`] is a tower service that mounts in any host; [`serve`] runs it on a listener. The
//! feature `client` has the Rust client.

#![warn(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    not(feature = "websocket"),
    allow(dead_code, reason = "connections need a kind of socket to be made over")
)]

#[cfg(feature = "ag-ui")]
mod ag_ui;
mod call;
#[cfg(feature = "client")]
pub mod client;
mod config;
pub mod connection;
#[cfg(any(feature = "sse", feature = "websocket"))]
mod driver;
mod gateway;
mod handshake;
mod hub;
#[cfg(any(feature = "sse", feature = "websocket"))]
mod nudge;
mod patience;
#[cfg(any(feature = "sse", feature = "websocket"))]
pub mod pipe;
pub mod protocol;
#[cfg(any(feature = "sse", feature = "websocket"))]
mod reader;
mod server;
mod service;
mod share;
#[cfg(feature = "sse")]
mod sse;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "websocket")]
mod websocket;

pub use config::{ConnectionConfig, HttpConfig, HubConfig, TransportConfig};
pub use gateway::Transport;
pub use handshake::{AuthMethod, Chain, Knock, PeerAddress, REFRESH_COOKIE, SESSION_COOKIE};
pub use hub::{Hub, HubStatistics};
#[cfg(feature = "tls")]
pub use server::serve_tls;
pub use server::{Listen, serve};
#[cfg(feature = "websocket")]
pub use service::Knocked;
pub use service::{Mount, MountedBody, ResponseBody, TransportService};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsFiles};
#[cfg(feature = "websocket")]
pub use websocket::{GuardedSocket, Said};
