//! For tests of a host's own agents and tools: a [`Node`] whose time is virtual and whose ids are the same each time, a
//! model that follows a script ([`Scripted`]), nodes that die at any of their writes ([`every_death`]), and what is wrong
//! with the order of a run's events ([`fault`]).
//!
//! ```
//! use apex_agents::testkit::{Node, Scripted, calls, fault, runtime, says};
//! use apex_agents::{Registry, ToolContext, agent, tool_fn};
//! use serde_json::json;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Add { a: i64, b: i64 }
//!
//! runtime().block_on(async {
//!     let model = Scripted::new("openai", |_, asked_before| match asked_before {
//!         0 => calls([("add", json!({"a": 2, "b": 3}))]),
//!         _ => says("It is 5."),
//!     });
//!     let registry = Registry::default()
//!         .tool(tool_fn("add", "Adds.", |n: Add, _: ToolContext| async move { Ok(n.a + n.b) }))
//!         .agent(agent("sums").instructions("Answer questions about sums.").tools(["add"]));
//!     let node = Node::with_models(registry, &[&model]);
//!     let user = node.user();
//!     let accepted = node.ask(&user, "What is 2 + 3?").await;
//!     let events = node.ended(&user, accepted.run).await;
//!     assert_eq!(fault(&events), None);
//!     assert_eq!(node.answer(&user, accepted).await, "It is 5.");
//!     assert_eq!(model.asked().len(), 2);
//! });
//! ```
//!
//! A helper fails by panicking.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of tests fails by panicking"
)]

mod artifacts;
mod death;
mod gate;
mod model;
mod node;
mod order;

pub use apex_core::testkit::VirtualClock;
pub use artifacts::Altering;
pub use death::{Death, Dies, Dying, every_death};
pub use gate::{Asks, Gate, behind};
pub use model::{Does, Scripted, calls, chain, chain_of, meter, once, says};
pub use node::{Node, clock, names, runtime};
pub use order::fault;
