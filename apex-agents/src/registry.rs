//! What agents and tools exist.

use crate::agent::{self, Agent, AnyAgent};
use crate::model::ToolSpec;
use crate::team::{Team, Told};
use crate::tool::{self, AnyTool, Shape, Tool, ToolSource};
use apex_core::error::{Error, Kind, Result};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The agents and tools of a host, and the agent that a run begins with.
///
/// [`Registry::default`] has none; `agents::team` has those of Apex. A host adds its own to either.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    agents: Vec<Arc<dyn AnyAgent>>,
    tools: Vec<Arc<dyn AnyTool>>,
    sources: Vec<Arc<dyn ToolSource>>,
    entry: Option<String>,
}

impl Registry {
    /// Adds an agent. The first one added is the one that runs begin with, unless [`Registry::entry`] names another.
    #[must_use]
    pub fn agent(mut self, agent: impl Agent) -> Self {
        self.agents.push(Arc::new(agent::Erased(agent)));
        self
    }

    /// Adds a tool, for every agent to call.
    #[must_use]
    pub fn tool(mut self, tool: impl Tool) -> Self {
        self.tools.push(Arc::new(tool::Erased(tool)));
        self
    }

    /// Adds the tools of these servers, as long as they are there, for every agent to call.
    #[cfg(feature = "mcp")]
    #[must_use]
    pub fn servers(mut self, servers: &crate::mcp::McpServers) -> Self {
        self.sources.extend(servers.sources());
        self
    }

    /// Says which agent a run begins with. It gets the [`crate::Request`], and answers or returns a
    /// [`crate::Plan`] of the agents that follow.
    #[must_use]
    pub fn entry(mut self, agent: impl Into<String>) -> Self {
        self.entry = Some(agent.into());
        self
    }

    /// These and those of another registry; runs begin where the other one says, if it says so.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.agents.extend(other.agents);
        self.tools.extend(other.tools);
        self.sources.extend(other.sources);
        self.entry = other.entry.or(self.entry);
        self
    }

    /// Checks it whole.
    ///
    /// # Errors
    /// `config_invalid` with every fault.
    pub(crate) fn ready(self) -> Result<Ready> {
        let mut faults = Vec::new();
        let mut agents = BTreeMap::new();
        for agent in self.agents.iter().cloned() {
            let name = agent.name().to_owned();
            if let Some(fault) = name_fault(&name) {
                faults.push(format!("agent {name:?}: {fault}"));
            }
            if ["text", "files"].contains(&name.as_str()) {
                faults.push(format!(
                    "agent {name:?}: a request has a field of this name; take another"
                ));
            }
            match Shape::compile(&agent.output_schema()) {
                Ok(output) => {
                    if agents.insert(name.clone(), ReadyAgent { agent, output }).is_some() {
                        faults.push(format!("agent {name:?} is there twice; rename one"));
                    }
                }
                Err(fault) => faults.push(format!("agent {name:?}: its output schema: {fault}")),
            }
        }
        let prefixes: Vec<&str> = self.sources.iter().map(|source| source.prefix()).collect();
        for (at, prefix) in prefixes.iter().enumerate() {
            if prefixes.iter().skip(at + 1).any(|other| other == prefix) {
                faults.push(format!("two servers' tools begin with {prefix:?}; rename one server"));
            }
        }
        let mut tools = FxHashMap::default();
        for tool in self.tools {
            let name = tool.name().to_owned();
            if let Some(prefix) = prefixes.iter().find(|prefix| name.starts_with(**prefix)) {
                faults.push(format!(
                    "tool {name:?}: the tools of a server begin with {prefix:?}; rename one"
                ));
            }
            if let Some(fault) = name_fault(&name) {
                faults.push(format!("tool {name:?}: {fault}"));
            }
            match Shape::compile(&tool.arguments_schema()) {
                Ok(arguments) => {
                    if tools.insert(name.clone(), tool::Ready { tool, arguments }).is_some() {
                        faults.push(format!("tool {name:?} is there twice; rename one"));
                    }
                }
                Err(fault) => faults.push(format!("tool {name:?}: its arguments schema: {fault}")),
            }
        }
        for (name, ready) in &agents {
            let is_there = |tool: &&String| {
                tools.contains_key(*tool) || prefixes.iter().any(|prefix| tool.starts_with(prefix))
            };
            for tool in ready.agent.tools().iter().filter(|tool| !is_there(tool)) {
                faults.push(format!(
                    "agent {name:?} calls tool {tool:?}, which is not there; add it"
                ));
            }
        }
        let first = self.agents.first().map(|agent| agent.name().to_owned());
        let entry = self.entry.or(first).unwrap_or_default();
        if agents.is_empty() {
            faults.push("there is no agent; add one".to_owned());
        } else if !agents.contains_key(&entry) {
            faults.push(format!("runs are to begin with agent {entry:?}, which is not there"));
        }
        if faults.is_empty() {
            let purpose = |agent: &ReadyAgent| agent.agent.purpose().to_owned();
            let purposes = agents.iter().map(|(name, agent)| (name.clone(), purpose(agent)));
            let purposes = Arc::new(purposes.collect());
            let told: Vec<_> = agents
                .iter()
                .map(|(name, ready)| {
                    let agent = &ready.agent;
                    let (input, output) = (agent.input_schema(), agent.output_schema());
                    let (purpose, triggers) = (agent.purpose(), agent.triggers());
                    (name.as_str(), Told { purpose, triggers, input, output })
                })
                .collect();
            let team = Arc::new(Team::new(told.iter().cloned()));
            drop(told);
            let own = tools.iter().map(|(name, ready)| (name.clone(), ready.spec(name)));
            let (own, sources) = (own.collect(), self.sources);
            let specs = Arc::new(Specs { own, sources: sources.clone() });
            return Ok(Ready { purposes, team, specs, agents, tools, sources, entry });
        }
        Err(Error::new(Kind::Config, "registry.check", faults.join("; ")))
    }
}

/// A registry that has been checked.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) agents: BTreeMap<String, ReadyAgent>,
    /// What each of them is for.
    pub(crate) purposes: Arc<BTreeMap<String, String>>,
    /// Who takes whose result.
    pub(crate) team: Arc<Team>,
    /// The tools as models see them.
    pub(crate) specs: Arc<Specs>,
    pub(crate) tools: FxHashMap<String, tool::Ready>,
    /// Where more tools come from.
    pub(crate) sources: Vec<Arc<dyn ToolSource>>,
    pub(crate) entry: String,
}

/// The tools as models see them.
#[derive(Debug)]
pub(crate) struct Specs {
    own: BTreeMap<String, ToolSpec>,
    sources: Vec<Arc<dyn ToolSource>>,
}

impl Specs {
    /// Those of these tools that there are now, in the order of their names; `server__*` are all of a server.
    pub(crate) fn of(&self, names: &[String]) -> Vec<ToolSpec> {
        let mut specs: Vec<ToolSpec> =
            names.iter().filter_map(|name| self.own.get(name).cloned()).collect();
        for source in &self.sources {
            let all = names.iter().any(|name| name.strip_suffix('*') == Some(source.prefix()));
            let tools = source.tools();
            let mut theirs: Vec<_> =
                tools.iter().filter(|(name, _)| all || names.contains(name)).collect();
            theirs.sort_by_key(|(name, _)| *name);
            specs.extend(theirs.into_iter().map(|(name, ready)| ready.spec(name)));
        }
        specs
    }
}

/// An agent whose output schema is compiled.
pub(crate) struct ReadyAgent {
    pub(crate) agent: Arc<dyn AnyAgent>,
    pub(crate) output: Shape,
}

impl fmt::Debug for ReadyAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.agent.fmt(f)
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (name.is_empty() || name.len() > 64 || !name.chars().all(fits))
        .then_some("a name is 1 to 64 of a-z, 0-9, _ and -")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Request, ToolContext, agent_fn, tool_fn};

    fn agent(name: &str) -> impl Agent {
        agent_fn(name, "Says it.", |ask: Request, _: Context| async move { Ok(ask.text) })
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let tool = || tool_fn("t", "", |_: (), _: ToolContext| async { Ok(()) });
        let error = Registry::default()
            .agent(agent("Big"))
            .agent(agent("a"))
            .agent(agent("a"))
            .agent(agent("text"))
            .tool(tool())
            .tool(tool())
            .agent(crate::agent("c").tools(["t", "u"]))
            .entry("b")
            .ready()
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let told = error.to_string();
        for part in [
            "agent \"Big\": a name is",
            "agent \"a\" is there twice",
            "agent \"text\": a request has a field",
            "tool \"t\" is there twice",
            "agent \"c\" calls tool \"u\", which is not there",
            "begin with agent \"b\"",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(Registry::default().ready().is_err());
    }

    #[test]
    fn the_first_agent_is_the_entry() {
        let ready = Registry::default().agent(agent("b")).agent(agent("a")).ready().unwrap();
        assert_eq!(ready.entry, "b");
    }
}
