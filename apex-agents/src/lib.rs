//! The agent runtime of netra-apex, and its agents.
//!
//! An [`Engine`] implements core's `Runner`: it claims runs from the run log, carries each one out as a machine
//! whose effects it performs and journals, and records every event before anyone sees it. What a run does is said
//! by [`Agent`]s, which work through a [`Context`] and act by [`Tool`]s; a [`Registry`] knows which there are.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod agent;
pub mod agents;
mod context;
pub mod cost;
mod declared;
mod engine;
mod failure;
mod history;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "mcp", feature = "openai"))]
mod http;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod model;
mod plan;
mod prompt;
mod registry;
pub mod replay;
mod stored;
mod supervisor;
mod team;
#[cfg(feature = "testkit")]
pub mod testkit;
mod text;
mod tool;
pub mod tools;

pub use agent::{Agent, AgentFn, AgentOutput, Request, Then, agent_fn};
pub use context::{Context, Model};
pub use declared::{Declared, agent};
pub use engine::{Engine, EngineOptions};
pub use history::History;
pub use plan::{Plan, PlanStep};
pub use registry::Registry;
pub use team::{Member, Team};
pub use tool::{
    Approvals, Effect, LookUp, Redact, SecretNames, Tool, ToolContext, ToolFn, tool_fn,
};
