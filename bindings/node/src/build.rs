//! An Apex from what JavaScript says it is made of.

use crate::bridge::Bridge;
use crate::callback::Function;
use crate::read;
use apex_bindings::{
    AgentSpec, Approval, Call, Host, HostAgent, HostDoor, HostMemory, HostSecrets, HostTool, Kind,
    Parts, Problem, Result, Settings, ToolSpec, Watcher,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What JavaScript says. Functions are numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    #[serde(default)]
    settings: Option<Settings>,
    #[serde(default)]
    secrets: Option<u32>,
    #[serde(default)]
    agents: Vec<Agent>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    entry: Option<String>,
    #[serde(default)]
    team: bool,
    #[serde(default)]
    doors: Vec<Door>,
    #[serde(default)]
    watcher: Option<u32>,
    #[serde(default)]
    memory: Option<Memory>,
    #[serde(default)]
    contract: Option<String>,
}

#[derive(Deserialize)]
struct Agent {
    spec: AgentSpec,
    work: u32,
}

#[derive(Deserialize)]
struct Tool {
    spec: ToolSpec,
    work: u32,
    #[serde(default)]
    approval: Asks,
    #[serde(default)]
    look_up: Option<u32>,
}

#[derive(Deserialize)]
struct Door {
    headers: Vec<String>,
    ambient: bool,
    verify: u32,
}

#[derive(Deserialize)]
struct Memory {
    keep: u32,
    notes: u32,
    forget: u32,
    forget_all: u32,
}

/// Whether a person has to approve: always, never, or where a function says so.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asks {
    Always(bool),
    When(u32),
}

impl Default for Asks {
    fn default() -> Self {
        Self::Always(false)
    }
}

/// Builds it.
pub(crate) async fn build(args: &str, bridge: &Arc<Bridge>) -> std::result::Result<Host, Problem> {
    let said: Made = read(args, "build")?;
    let function =
        |number, fails_as| Arc::new(Function { bridge: Arc::clone(bridge), number, fails_as });
    let agents = said.agents.into_iter();
    let tools = said.tools.into_iter().map(|tool| {
        let made = HostTool::new(tool.spec, function(tool.work, Kind::ToolFailed));
        let asks = match tool.approval {
            Asks::Always(true) => Approval::Always,
            Asks::Always(false) => Approval::Never,
            Asks::When(number) => {
                let asks = function(number, Kind::ToolFailed);
                Approval::When(Arc::new(move |arguments| {
                    Ok(asks.answer_now(json!({ "input": arguments }))? != Value::Bool(false))
                }))
            }
        };
        let look_up = tool.look_up.map(|number| function(number, Kind::ToolFailed) as Arc<_>);
        made.approval(asks).look_up(look_up)
    });
    let doors = said.doors.into_iter().map(|door| {
        HostDoor::new(door.headers, door.ambient, function(door.verify, Kind::Unavailable))
    });
    let parts = Parts {
        settings: said.settings,
        secrets: said.secrets.map(|number| HostSecrets(function(number, Kind::Unavailable))),
        agents: agents
            .map(|agent| HostAgent::new(agent.spec, function(agent.work, Kind::AgentFailed)))
            .collect(),
        tools: tools.collect(),
        entry: said.entry,
        team: said.team,
        doors: doors.collect::<Result<_>>()?,
        watcher: said.watcher.map(|number| Watcher(function(number, Kind::Internal))),
        memory: said.memory.map(|memory| HostMemory {
            keep: function(memory.keep, Kind::Storage),
            notes: function(memory.notes, Kind::Storage),
            forget: function(memory.forget, Kind::Storage),
            forget_all: function(memory.forget_all, Kind::Storage),
        }),
        contract: said.contract.map(String::into_bytes),
    };
    parts.build().await
}

impl Function {
    /// Calls it from where nothing can be awaited, and waits on this thread.
    fn answer_now(&self, input: Value) -> Result<Value> {
        let call = self.bridge.call(self.number, input.to_string(), Call::Plain);
        let came =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(call))?;
        self.value(came)
    }
}
