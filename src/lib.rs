//! Agents in your own product, inside your own process: chat with a team of agents, every step of which the user
//! sees live and none of which can get lost, and findings about LLM spending that are computed from usage records.
//!
//! A host builds an [`Apex`] and either serves clients with it or asks it directly:
//!
//! ```
#![doc = include_str!("../examples/hello.rs")]
//! ```
//!
//! [`Apex::builder`] says what can be chosen; without any choice everything is kept in memory. The rooms behind the
//! face are crates of their own: [`core`] (events, runs, stores, ways in), [`agents`] (the runtime of agents and the
//! analysis of spending) and [`transport`] (the wire).

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod apex;
mod builder;
pub mod config;
mod resources;
mod stores;

pub use apex::{Apex, Following};
pub use apex_agents as agents;
pub use apex_core as core;
pub use apex_transport as transport;
pub use builder::Builder;
pub use config::ApexConfig;

/// What most programs need.
pub mod prelude {
    pub use crate::{Apex, Builder, Following};
    pub use apex_agents::{
        Agent, AgentOutput, Context, Effect, LookUp, Plan, PlanStep, Registry, Request, Tool,
        ToolContext, agent, agent_fn, tool_fn,
    };
    pub use apex_core::error::{Error, ErrorReport, Kind, Result};
    pub use apex_core::event::{Envelope, Event, RunResult, RunStatus};
    pub use apex_core::id::{FileId, RequestId, RunId, ThreadId};
    pub use apex_core::principal::{Principal, Scopes};
    pub use apex_core::run::{Accepted, Message};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
}

/// The guide's code compiles and, but for what asks models, runs.
#[cfg(all(doctest, feature = "anthropic", feature = "gemini", feature = "openai"))]
#[cfg_attr(feature = "mcp", doc = include_str!("../docs/guide/mcp.md"))]
#[doc = include_str!("../docs/guide/models.md")]
#[doc = include_str!("../docs/guide/tools.md")]
#[doc = include_str!("../docs/guide/agents.md")]
#[doc = include_str!("../docs/guide/team.md")]
#[doc = include_str!("../docs/guide/traces.md")]
mod guide {}

/// The code of the page on tests compiles and runs.
#[cfg(all(doctest, feature = "testkit"))]
#[doc = include_str!("../docs/guide/testing.md")]
mod testing_page {}

/// The code of the agents' page compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/agents/README.md")]
mod agents_page {}
