//! Several nodes of netra-apex, their stores and their users, in one thread and in a time of their own: everything that
//! is late, lost or broken comes from a seed, and so does every random number, so that a seed gives the same history
//! each time. A [judge](apex_core::testkit::history) decides about it.
//!
//! What is real: the engine, the service over HTTP and WebSocket, the hub, the subscriptions, the Rust client. What is
//! modelled: the network ([`turmoil`]), and a store in memory whose replica lags ([`apex_core::store::memory::Replica`]),
//! at the other end of a line of each node's ([`Fault`] says what can happen to it).

mod entropy;
mod line;
mod node;
mod plan;
mod user;
mod world;

pub use entropy::seeded;
pub use plan::{Fault, Plan, Planned};
pub use world::{Defect, Outcome, simulate};
