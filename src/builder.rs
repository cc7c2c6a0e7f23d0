use crate::Apex;
use crate::resources::Resources;
use crate::stores::{MAIN, Opened, Opening};
use apex_agents::cost::{AnalysisOptions, Catalogue};
#[cfg(feature = "mcp")]
use apex_agents::mcp::{McpOffer, McpOfferOptions, McpServer, McpServers};
use apex_agents::model::{Chain, ChainLink, ChainOptions, Meter};
use apex_agents::{Agent, Engine, EngineOptions, Registry, Tool, agents};
#[cfg(feature = "oidc")]
use apex_core::auth::oidc::OidcProvider;
use apex_core::auth::{Auth, AuthConfig, AuthParts};
use apex_core::budget::{BudgetLimits, BudgetPolicy, Budgets};
use apex_core::clock::{Clock, SystemClock};
use apex_core::config::{DatabaseKind, DatabaseUrl, Environment, SchemaName};
use apex_core::database::DatabaseConfig;
use apex_core::error::{AlertSink, Result};
use apex_core::file::FileLimits;
use apex_core::health::{
    BreakerSource, CertificateSource, FileProbe, Health, HealthConfig, Observer, Probe,
};
use apex_core::memory::MemoryStore;
use apex_core::run::{Live, RunLimits, Runner};
use apex_core::store::{Stores, transfer};
use apex_core::trace::TraceBridge;
use apex_core::usage::UsageRecorder;
#[cfg(feature = "mcp")]
use apex_transport::Mount;
#[cfg(feature = "tls")]
use apex_transport::{Tls, TlsFiles};
use apex_transport::{Transport, TransportConfig, TransportService};
use std::path::PathBuf;
use std::sync::Arc;

/// How many attempts at answers of models may wait for a store that is away.
const USAGE_WAITING: usize = 10_000;

/// Says what an [`Apex`] is made of. What is not said has a default: the agents of Apex, stores in memory, the
/// environment production.
#[derive(Debug, Default)]
pub struct Builder {
    registry: Registry,
    own_agents: bool,
    catalogue: Option<Arc<Catalogue>>,
    analysis: AnalysisOptions,
    stores: Option<Stores>,
    memory: Option<Arc<dyn MemoryStore>>,
    database: Option<DatabaseUrl>,
    auth_database: Option<DatabaseUrl>,
    schema: SchemaName,
    pool: DatabaseConfig,
    redis: Option<(DatabaseUrl, String)>,
    event_log: bool,
    clock: Option<Arc<dyn Clock>>,
    runs: RunLimits,
    files: FileLimits,
    budget: BudgetLimits,
    budget_policy: Option<Arc<dyn BudgetPolicy>>,
    auth: AuthConfig,
    auth_parts: AuthParts,
    ways: apex_transport::Chain,
    engine: EngineOptions,
    traces: Option<Arc<dyn TraceBridge>>,
    models: Vec<ChainLink>,
    chain: ChainOptions,
    transport: TransportConfig,
    health: HealthConfig,
    #[cfg(feature = "mcp")]
    servers: Vec<McpServer>,
    #[cfg(feature = "mcp")]
    offer: Option<McpOfferOptions>,
    alerts: Option<Arc<dyn AlertSink>>,
    probes: Vec<Arc<dyn Probe>>,
    breakers: Vec<Arc<dyn BreakerSource>>,
    certificates: Vec<Arc<dyn CertificateSource>>,
    #[cfg(feature = "tls")]
    tls: Option<TlsFiles>,
}

impl Builder {
    /// Adds an agent of one's own. The first one added takes the place of Apex's supervisor: runs begin with it.
    #[must_use]
    pub fn agent(mut self, agent: impl Agent) -> Self {
        self.registry = self.registry.agent(agent);
        self.own_agents = true;
        self
    }

    /// Adds an agent of one's own beside those of Apex, whose supervisor plans it like these.
    #[must_use]
    pub fn team_agent(mut self, agent: impl Agent) -> Self {
        self.registry = self.registry.agent(agent);
        self
    }

    /// Adds a tool of one's own, for every agent to call.
    #[must_use]
    pub fn tool(mut self, tool: impl Tool) -> Self {
        self.registry = self.registry.tool(tool);
        self
    }

    /// Joins the spans of runs to the traces of the host's exporter; a run's trace is that of the request that asked for
    /// it, where it has a `traceparent`.
    #[must_use]
    pub fn traces(mut self, bridge: Arc<dyn TraceBridge>) -> Self {
        self.traces = Some(bridge);
        self
    }

    /// Replaces all agents and tools; [`agents::team`] gives those of Apex to add to.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self.own_agents = true;
        self
    }

    /// Prices usage by this catalogue: the embedded one with the host's contract, say.
    #[must_use]
    pub fn catalogue(mut self, catalogue: Arc<Catalogue>) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// Says how usage is analysed.
    #[must_use]
    pub fn analysis(mut self, options: AnalysisOptions) -> Self {
        self.analysis = options;
        self
    }

    /// Keeps everything in this database: an SQLite file and the folder `<path>.files` beside it, which several
    /// processes of one machine may share; or, with the feature `postgres`, a PostgreSQL database, which any number of
    /// nodes share.
    #[must_use]
    pub fn database(mut self, url: DatabaseUrl) -> Self {
        self.database = Some(url);
        self
    }

    /// Keeps accounts, logins, tickets, limits and the record of the door in a database of their own, which has the
    /// same schema and [pool](Self::pool) settings as the other one. With a [Redis](Self::redis) tickets, logins and
    /// limits are there.
    #[must_use]
    pub fn auth_database(mut self, url: DatabaseUrl) -> Self {
        self.auth_database = Some(url);
        self
    }

    /// Names the schema of a PostgreSQL database that holds everything; `apex` where nothing is said.
    #[must_use]
    pub fn schema(mut self, schema: SchemaName) -> Self {
        self.schema = schema;
        self
    }

    /// Says how many sessions with PostgreSQL there are, for whom and for how long.
    #[must_use]
    pub fn pool(mut self, config: DatabaseConfig) -> Self {
        self.pool = config;
        self
    }

    /// Keeps what nodes share for a short time (tickets, logins, limits and wake-ups) in this Redis, under keys that
    /// begin with `prefix`. Needs the feature `redis`.
    #[must_use]
    pub fn redis(mut self, url: DatabaseUrl, prefix: impl Into<String>) -> Self {
        self.redis = Some((url, prefix.into()));
        self
    }

    /// Keeps the events of runs in that Redis instead of the database: faster, and what was recorded in the last seconds
    /// may be lost with it, which readers are told by a `reset`. Without a Redis nothing is opened.
    #[must_use]
    pub fn event_log_in_redis(mut self) -> Self {
        self.event_log = true;
        self
    }

    /// Keeps everything in stores of the host's.
    #[must_use]
    pub fn stores(mut self, stores: Stores) -> Self {
        self.stores = Some(stores);
        self
    }

    /// Keeps what agents remember of users in a store of the host's, and everything else where it is kept anyway. The
    /// host forgets there whom it erases.
    #[must_use]
    pub fn memory(mut self, store: Arc<dyn MemoryStore>) -> Self {
        self.memory = Some(store);
        self
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Says where this process runs. Only [`Environment::Development`] opens the development login; a database that
    /// was made in one environment is refused in every other.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.auth.environment = environment;
        self
    }

    /// Limits what runs and their logs may use.
    #[must_use]
    pub fn runs(mut self, limits: RunLimits) -> Self {
        self.runs = limits;
        self
    }

    /// Limits what users may upload.
    #[must_use]
    pub fn files(mut self, limits: FileLimits) -> Self {
        self.files = limits;
        self
    }

    /// Limits what each user may use of models, where users differ, instead of [`budget`](Self::budget).
    #[must_use]
    pub fn budget_policy(mut self, policy: Arc<dyn BudgetPolicy>) -> Self {
        self.budget_policy = Some(policy);
        self
    }

    /// Limits what each user may use of models.
    #[must_use]
    pub fn budget(mut self, limits: BudgetLimits) -> Self {
        self.budget = limits;
        self
    }

    /// Says how logins and tickets behave. The environment within it holds.
    #[must_use]
    pub fn auth(mut self, config: AuthConfig) -> Self {
        self.auth = config;
        self
    }

    /// Adds to logins what only a host can bring: keys for signed tokens, other issuers and services.
    #[must_use]
    pub fn auth_parts(mut self, parts: AuthParts) -> Self {
        self.auth_parts = parts;
        self
    }

    /// Says by which ways clients come in; [`apex_transport::Chain`] has those of the protocol, to take from and add
    /// to.
    #[must_use]
    pub fn ways(mut self, chain: apex_transport::Chain) -> Self {
        self.ways = chain;
        self
    }

    /// Says how the engine works.
    #[must_use]
    pub fn engine(mut self, options: EngineOptions) -> Self {
        self.engine = options;
        self
    }

    /// Adds a model that agents may ask; the first one added is asked first. What they cost is recorded as the usage of
    /// the user whose run asked. Without any, agents do what can be done by rules, and say so.
    #[must_use]
    pub fn model(mut self, model: ChainLink) -> Self {
        self.models.push(model);
        self
    }

    /// Says by which rules the next model is asked when one does not answer.
    #[must_use]
    pub fn chain(mut self, options: ChainOptions) -> Self {
        self.chain = options;
        self
    }

    /// Adds the tools of an MCP server, for every agent to call as `<server>__<tool>`. A server that is not there does
    /// not keep the node from starting; its tools come when it comes.
    #[cfg(feature = "mcp")]
    #[must_use]
    pub fn mcp_server(mut self, server: McpServer) -> Self {
        self.servers.push(server);
        self
    }

    /// Offers tools to MCP clients, under the route `/mcp` and behind the same handshake as all others.
    #[cfg(feature = "mcp")]
    #[must_use]
    pub fn mcp_offer(mut self, options: McpOfferOptions) -> Self {
        self.offer = Some(options);
        self
    }

    /// Says how the wire behaves. Its `runs`, `files`, `budget` and `unused_tickets` are taken from what is said here.
    #[must_use]
    pub fn transport(mut self, config: TransportConfig) -> Self {
        self.transport = config;
        self
    }

    /// Says what counts as healthy, and when people are told.
    #[must_use]
    pub fn health(mut self, config: HealthConfig) -> Self {
        self.health = config;
        self
    }

    /// Hands alerts and notices to this callback: a pager, a ticket, a chat. An outage is one alert.
    #[must_use]
    pub fn alerts(mut self, sink: Arc<dyn AlertSink>) -> Self {
        self.alerts = Some(sink);
        self
    }

    /// Watches a dependency of the host's own.
    #[must_use]
    pub fn probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probes.push(probe);
        self
    }

    /// Watches breakers: those of a chain of models, or of the host's own calls.
    #[must_use]
    pub fn breakers(mut self, source: Arc<dyn BreakerSource>) -> Self {
        self.breakers.push(source);
        self
    }

    /// Watches the certificates of a TLS endpoint besides the own listener's.
    #[must_use]
    pub fn certificates(mut self, source: Arc<dyn CertificateSource>) -> Self {
        self.certificates.push(source);
        self
    }

    /// Serves with TLS by this certificate and key, which are looked at again while [`Apex::serve`] serves.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Opens the stores alone, with nothing that works on them: for an operator's program that looks or moves.
    ///
    /// # Errors
    /// `config_invalid` for a database that this build cannot open; `storage_failed` or `unavailable` when one cannot
    /// be opened.
    pub async fn stores_alone(self) -> Result<Stores> {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        match self.stores {
            Some(stores) => Ok(stores),
            None => self.opening().open(&clock).await.map(|opened| opened.stores),
        }
    }

    fn opening(&self) -> Opening {
        Opening {
            url: self.database.clone().unwrap_or_else(|| DatabaseUrl::sqlite(":memory:")),
            name: MAIN,
            auth: self.auth_database.clone(),
            schema: self.schema.clone(),
            pool: self.pool.clone(),
            redis: self.redis.clone(),
            event_log: self.event_log,
            environment: self.auth.environment,
            runs: self.runs,
            files: self.files,
        }
    }

    /// Checks everything, opens the stores, and begins to work on runs, also on those that an earlier process left
    /// behind. To be called in a Tokio runtime.
    ///
    /// # Errors
    /// `config_invalid` with every fault of a part, and for a place that half of a copy is in; `storage_failed` or `unavailable` when a store cannot be opened.
    pub async fn build(self) -> Result<Apex> {
        let opening = self.opening();
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let transport = TransportConfig {
            runs: self.runs,
            files: self.files,
            unused_tickets: self.auth.unused_tickets,
            ..self.transport
        };
        transport.validate()?;
        #[cfg(feature = "tls")]
        let tls = self.tls.map(|files| Tls::open(files, Arc::clone(&clock))).transpose()?;
        let catalogue = match self.catalogue {
            Some(catalogue) => Some(catalogue),
            None if self.own_agents && self.models.is_empty() => None,
            None => Some(Arc::new(Catalogue::embedded()?)),
        };
        let registry = match &catalogue {
            Some(catalogue) if !self.own_agents => {
                agents::team(Arc::clone(catalogue), self.analysis).with(self.registry)
            }
            _ => self.registry,
        };
        let disk = self.database.as_ref().filter(|_| self.stores.is_none()).and_then(file_of);
        #[cfg(feature = "mcp")]
        let servers = McpServers::connect(self.servers).await?;
        #[cfg(feature = "mcp")]
        let registry = registry.servers(&servers);
        let opened: Opened = match self.stores {
            Some(stores) => stores.into(),
            None => opening.open(&clock).await?,
        };
        let mut stores = opened.stores;
        transfer::refuse_half(&stores).await?;
        if let Some(memory) = self.memory {
            stores.memory = memory;
        }
        let limited = self.budget_policy.is_some() || !self.budget.is_none();
        let budget = self.budget_policy.unwrap_or_else(|| Arc::new(self.budget));
        let live = Live::default();
        #[cfg(feature = "mcp")]
        let longest = self.engine.step_deadline;
        let mut options = EngineOptions { runs: self.runs, ..self.engine };
        options.traces = self.traces.or(options.traces);
        if let Some(catalogue) = catalogue.filter(|_| !self.models.is_empty()) {
            let recorder = UsageRecorder::new(Arc::clone(&stores.usage), USAGE_WAITING);
            let mut meter = Meter::new(catalogue, Arc::clone(&clock), Arc::new(recorder));
            if limited {
                let (store, time) = (Arc::clone(&stores.budgets), Arc::clone(&clock));
                let budgets = Budgets::new(store, Arc::clone(&budget), time);
                meter = meter.with_budgets(Arc::new(budgets));
            }
            options.models = Some(Chain::new(self.models, self.chain, meter)?);
        }
        let database_file = disk.clone();
        let resources = Resources::new(&self.health, &transport, &options, disk);
        let health = Health::new(Arc::clone(&clock), self.health).with_stores(&stores);
        let all = resources.all().into_iter().chain(opened.resources);
        let health = all.fold(health, Health::with_resource);
        let health = match database_file {
            Some(path) => health.with_probe(Arc::new(FileProbe::new("database_file", path))),
            None => health,
        };
        let probes = opened.probes.into_iter().chain(self.probes);
        #[cfg(feature = "mcp")]
        let probes = probes.chain(servers.probes());
        let health = probes.fold(health, Health::with_probe);
        let asked = options.models.iter().flat_map(Chain::certificates);
        let models = options.models.clone().map(|chain| Arc::new(chain) as Arc<dyn BreakerSource>);
        let health = models.into_iter().chain(self.breakers).fold(health, Health::with_breaker);
        #[cfg(feature = "oidc")]
        let asked =
            asked.chain(self.auth_parts.providers.iter().filter_map(OidcProvider::certificate));
        let certificates = opened.certificates.into_iter().chain(asked).chain(self.certificates);
        let health = certificates.fold(health, Health::with_certificate);
        let sink = self.alerts.unwrap_or_else(|| Arc::new(()));
        let observer = Observer::new(health, Arc::clone(&clock), sink);
        let mut parts = self.auth_parts;
        parts.alerts.get_or_insert_with(|| Arc::clone(observer.errors()));
        let auth = Auth::new(stores.auth(), parts, Arc::clone(&clock), self.auth);
        if let Some(exchange) = opened.exchange {
            observer.share(exchange, stores.node);
        }
        let engine = Engine::new(
            stores.clone(),
            live.clone(),
            Arc::clone(&clock),
            registry,
            observer.clone(),
            options,
        )?;
        let service = TransportService::new(Transport {
            stores: stores.clone(),
            auth: auth.clone(),
            runner: Arc::clone(&engine) as Arc<dyn Runner>,
            live: live.clone(),
            clock: Arc::clone(&clock),
            observer: observer.clone(),
            chain: self.ways,
            budget,
            config: transport,
        })?;
        #[cfg(feature = "mcp")]
        let service = match self.offer {
            Some(offer) => {
                service.mount(Mount::new("mcp", longest, McpOffer::new(&engine, offer)?))
            }
            None => service,
        };
        engine.launch();
        resources.watch(&observer, &stores, &engine, service.hub());
        Ok(Apex {
            stores,
            auth,
            engine,
            live,
            clock,
            observer,
            service,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// The file that a database is, if it is one.
fn file_of(url: &DatabaseUrl) -> Option<PathBuf> {
    let is_file = url.kind() == DatabaseKind::Sqlite && url.database() != ":memory:";
    is_file.then(|| PathBuf::from(url.database()))
}
