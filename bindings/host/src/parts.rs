use crate::door::Teller;
use crate::{
    Host, HostAgent, HostDoor, HostMemory, HostSecrets, HostTool, Problem, Settings, Watcher,
};
use netra_apex::agents::cost::{AnalysisOptions, Catalogue};
use netra_apex::agents::{Registry, agents};
use netra_apex::core::config::Loaded;
use netra_apex::core::error::Error;
use netra_apex::transport::Chain;
use netra_apex::{ApexConfig, Builder};
use std::sync::Arc;

/// What an Apex of a host's is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// Its configuration; without any, everything is kept in memory, and nothing else is configured.
    pub settings: Option<Settings>,
    /// The host's own place for secrets.
    pub secrets: Option<HostSecrets>,
    /// The host's agents.
    pub agents: Vec<HostAgent>,
    /// The host's tools, for every agent to call.
    pub tools: Vec<HostTool>,
    /// The agent that runs begin with; the first one of the host's, or the supervisor where Apex's team is there.
    pub entry: Option<String>,
    /// Whether Apex's own agents are there beside the host's; they always are where the host has none.
    pub team: bool,
    /// The host's own ways in, before all others.
    pub doors: Vec<HostDoor>,
    /// Who is told of alerts and notices.
    pub watcher: Option<Watcher>,
    /// Where the host keeps what agents remember of users.
    pub memory: Option<HostMemory>,
    /// A contract whose prices hold instead of the list's, as JSON.
    pub contract: Option<Vec<u8>>,
}

impl Parts {
    /// Checks everything, opens the stores and begins to work. To be called in a Tokio runtime.
    ///
    /// # Errors
    /// `config_invalid` with every fault; what the stores say.
    pub async fn build(self) -> Result<Host, Problem> {
        let config = match self.settings {
            Some(settings) => Some(load(settings, self.secrets).await?.value),
            None => None,
        };
        let mut builder = match &config {
            Some(config) => config.builder()?,
            None => Builder::default(),
        };
        let mut catalogue = Catalogue::embedded()?;
        if let Some(contract) = &self.contract {
            catalogue = catalogue.with_contract(contract)?;
        }
        let catalogue = Arc::new(catalogue);
        let whole = self.team || self.agents.is_empty();
        let own = self.agents.into_iter().fold(Registry::default(), Registry::agent);
        let own = self.tools.into_iter().fold(own, Registry::tool);
        let own = match self.entry {
            Some(entry) => own.entry(entry),
            None => own,
        };
        let registry = match whole {
            true => agents::team(Arc::clone(&catalogue), AnalysisOptions::default()).with(own),
            false => own,
        };
        builder = builder.registry(registry).catalogue(catalogue);
        let doors = self.doors.into_iter().rev();
        builder =
            builder.ways(doors.fold(Chain::default(), |ways, door| ways.first(door.shared())));
        if let Some(watcher) = self.watcher {
            builder = builder.alerts(Arc::new(Teller::new(watcher)));
        }
        if let Some(memory) = self.memory {
            builder = builder.memory(Arc::new(memory));
        }
        let prefix = config.map(|config| config.server).unwrap_or_default();
        Ok(Host::new(builder.build().await?, prefix.listen))
    }
}

/// Reads the settings where functions of the host's may be waited for.
async fn load(
    settings: Settings,
    secrets: Option<HostSecrets>,
) -> Result<Loaded<ApexConfig>, Problem> {
    let secrets = secrets.map(|secrets| Arc::new(secrets) as Arc<_>);
    let loading = tokio::task::spawn_blocking(move || settings.load(secrets));
    loading.await.map_err(|error| {
        Error::internal("host.settings", "reading the settings ended by itself").with_source(error)
    })?
}
