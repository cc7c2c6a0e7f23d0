//! What the bindings for other languages share, and what knows none of them: an Apex that is built from what a host
//! says as JSON, with agents and tools that are callbacks of the host's, and handles whose answers are JSON again. A
//! binding adds the conversion of types.
//!
//! A [`Callback`] is an asynchronous function of the host's; [`HostTool`] and [`HostAgent`] put one in the place of a
//! tool or an agent, whose schemas are known at run time. [`Host`] is the whole: runs, [`Events`], conversations, files,
//! tickets, health, and the wire, on a listener of its own ([`Serving`]) or over what the host owns
//! ([`Host::respond`], [`Host::knock`]). [`analyse`] turns usage files into a report. Whatever fails is a [`Problem`].

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod agent;
mod analysis;
mod callback;
mod context;
mod door;
mod events;
mod host;
mod logs;
mod memory;
mod parts;
mod pipe;
mod problem;
mod runtime;
mod serving;
mod settings;
mod tool;
mod wire;

pub use agent::{AgentSpec, HostAgent, HostOutput, Made, OutputSpec};
pub use analysis::{Content, analyse, look};
pub use callback::{Call, Callback};
pub use context::{AgentWork, ToolWork};
pub use door::{HostDoor, HostSecrets, Watcher};
pub use events::{Batch, Events};
pub use host::{Ask, Host};
pub use logs::{Logs, Record};
pub use memory::HostMemory;
pub use parts::Parts;
pub use pipe::{Frame, Pipe};
pub use problem::Problem;
pub use runtime::Runtime;
pub use serving::Serving;
pub use settings::Settings;
pub use tool::{Approval, EffectName, HostTool, LooksUp, NeedsApproval, ToolSpec};
pub use wire::{Answer, Head, Knocked};

pub use netra_apex::agents::cost::{Report, sample};
pub use netra_apex::core::error::{Error, Kind, Result};
pub use netra_apex::core::principal::Principal;
