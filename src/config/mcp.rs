//! Tools of MCP servers, and our tools for MCP clients.

use crate::Builder;
use apex_agents::Approvals;
use apex_core::config::{Checks, FaultCode, HumanDuration, Secret, Section, WebUrl, duration};
use apex_core::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Tools of MCP servers, which agents call as `<server>__<tool>`; and our tools, offered to MCP clients.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct McpSection {
    /// The servers, as the JSON that hosts of the Model Context Protocol have in common:
    /// `{"mcpServers": {"NAME": {"command", "args", "env", "cwd"} or {"url", "headers"}}}`. It may hold keys, so it
    /// stands in a file that only this user can read, which the variable with `_FILE` at its end names. A child process
    /// sees the variables of its `env` and no others.
    pub servers: Option<Secret<String>>,
    /// How long a server may take to connect and to list its tools.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "5m"))]
    pub connect: Duration,
    /// How long a call may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub timeout: Duration,
    /// Which calls a person has to approve: those of tools that may write, all, or none.
    pub approval: Approvals,
    /// Whether servers are believed that a tool of theirs only reads, or may be called twice. Else all of them write,
    /// and are called once.
    pub believe_hints: bool,
    /// A proxy that opens tunnels, for servers with a `url`: `http://[user:password@]host:port`, or `https://`.
    pub proxy: Option<Secret<String>>,
    /// The tools that MCP clients may call by the route `/mcp`; without any there is no such route.
    pub offer: Vec<String>,
    /// How many such calls one user may have under way, over all nodes.
    #[schemars(range(min = 1, max = 1_000))]
    pub offer_per_user: usize,
}

impl Default for McpSection {
    fn default() -> Self {
        Self {
            servers: None,
            connect: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            approval: Approvals::Writes,
            believe_hints: true,
            proxy: None,
            offer: Vec::new(),
            offer_per_user: 4,
        }
    }
}

/// The file of servers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Servers {
    mcp_servers: BTreeMap<String, Server>,
}

/// One server. Fields that other hosts have beside these are passed over.
#[derive(Deserialize)]
#[cfg_attr(not(feature = "mcp"), allow(dead_code, reason = "only a build with MCP connects"))]
struct Server {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Secret<String>>,
    cwd: Option<std::path::PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Secret<String>>,
}

impl McpSection {
    /// The servers by name; nothing of the text is repeated when it is none.
    fn read(&self) -> std::result::Result<BTreeMap<String, Server>, String> {
        let Some(text) = &self.servers else {
            return Ok(BTreeMap::new());
        };
        let read: Servers = serde_json::from_str(text.reveal()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("it is not the JSON that is meant (line {line}, column {column})")
        })?;
        Ok(read.mcp_servers)
    }

    #[cfg(not(feature = "mcp"))]
    pub(super) fn add_to(&self, builder: Builder) -> Result<Builder> {
        use apex_core::error::{Error, Kind};
        if self.servers.is_none() && self.offer.is_empty() {
            return Ok(builder);
        }
        let told =
            "this build of Apex does not speak the Model Context Protocol: turn the feature mcp on";
        Err(Error::new(Kind::Config, "config.mcp", told))
    }

    #[cfg(feature = "mcp")]
    pub(super) fn add_to(&self, mut builder: Builder) -> Result<Builder> {
        use apex_agents::mcp::{McpOfferOptions, McpReach, McpServer};
        use apex_core::config::BadWebUrl;
        use apex_core::error::{Error, Kind};
        let bad = |why: String| Error::new(Kind::Config, "config.mcp", why);
        for (name, server) in self.read().map_err(bad)? {
            let reach = match (server.url, server.command) {
                (Some(url), _) => McpReach::Http {
                    url: url.parse().map_err(|error: BadWebUrl| {
                        bad(format!("the address of {name:?} {error}"))
                    })?,
                    headers: server.headers,
                    proxy: self.proxy.clone(),
                    roots: Vec::new(),
                },
                (None, command) => McpReach::Process {
                    command: command.unwrap_or_default().into(),
                    arguments: server.args,
                    environment: server.env,
                    folder: server.cwd,
                },
            };
            builder = builder.mcp_server(
                McpServer::new(name, reach)
                    .connect_within(self.connect)
                    .timeout(self.timeout)
                    .approval(self.approval)
                    .believe_hints(self.believe_hints),
            );
        }
        if !self.offer.is_empty() {
            builder = builder.mcp_offer(McpOfferOptions {
                tools: self.offer.clone(),
                per_user: self.offer_per_user,
            });
        }
        Ok(builder)
    }
}

impl Section for McpSection {
    fn check(&self, checks: &mut Checks<'_>) {
        let read = self.read();
        let problem = read.as_ref().err().cloned().unwrap_or_default();
        checks.require(
            &["servers"],
            read.is_ok(),
            FaultCode::Format,
            problem,
            "write {\"mcpServers\": {\"NAME\": {\"url\": …} or {\"command\": …}}}",
        );
        for (name, server) in read.unwrap_or_default() {
            let one =
                server.url.is_some() != server.command.as_ref().is_some_and(|c| !c.is_empty());
            checks.require(
                &["servers"],
                one,
                FaultCode::Format,
                format!("the server {name:?} needs one of url and command"),
                "give it the address of a server, or the program that is one",
            );
            let url = server.url.as_deref().map(str::parse::<WebUrl>);
            let problem = match &url {
                Some(Err(error)) => format!("the address of the server {name:?} {error}"),
                _ => String::new(),
            };
            let advice = "write https://HOST/mcp";
            checks.require(
                &["servers"],
                !matches!(url, Some(Err(_))),
                FaultCode::Format,
                problem,
                advice,
            );
            if let Some(Ok(url)) = url {
                url.check(checks, "servers");
            }
        }
        super::models::check_proxy(self.proxy.as_ref(), checks);
    }
}
