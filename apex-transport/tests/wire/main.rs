//! The wire over real loopback sockets: every frame, route, refusal and close code, bad input, cuts, and the walls
//! between users.
#![cfg(test)]

mod ag_ui;
mod attacks;
mod bad_input;
mod client_cases;
mod client_guide;
mod conformance;
mod doors;
mod events;
mod frames;
mod host_sockets;
mod mounted;
mod oidc;
mod proxies;
mod resume;
mod routes;
mod rust_client;
mod secrets;
mod sessions;
mod shares;
mod stalled;
mod stores_down;
mod support;
mod tls;
mod transports;
mod walls;
mod ways_in;
