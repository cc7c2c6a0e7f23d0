//! The configuration of a whole Apex: the sections of its rooms, put together, with one schema.

mod kept;
mod mcp;
mod models;
mod wire;

use crate::Builder;
use crate::stores::openable;
use apex_agents::EngineOptions;
use apex_core::auth::AuthConfig;
use apex_core::budget::BudgetLimits;
use apex_core::config::{Checks, Environment, FaultCode, Section, reference};
use apex_core::error::Result;
use apex_core::file::FileLimits;
use apex_core::health::HealthConfig;
use apex_core::resilience::{Policy, ResilienceConfig};
use apex_core::run::RunLimits;
use serde::Deserialize;

pub use kept::{DatabaseSection, RedisSection};
pub use mcp::McpSection;
pub use models::{CompatibleSection, ModelsSection, ProviderSection};
pub use wire::{ConnectionsSection, ServerSection};

/// Everything that an operator can say about an Apex. [`Loader`](apex_core::config::Loader) reads and checks it; [`builder`](Self::builder)
/// makes it so.
///
/// ```
/// # use netra_apex::ApexConfig;
/// # use netra_apex::core::config::Loader;
/// let loader = Loader::new().environment([("APEX_RUNS_RUNNING", "8"), ("APEX_DATABASE_URL", "sqlite:my.db")]);
/// let loaded = loader.load::<ApexConfig>()?;
/// assert_eq!(loaded.value.runs.running, 8);
/// # Ok::<(), netra_apex::core::config::Report>(())
/// ```
#[derive(Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ApexConfig {
    /// Where this process runs. Development opens the development login and allows what is refused elsewhere.
    pub environment: Environment,
    /// Where everything is kept.
    pub database: DatabaseSection,
    /// What nodes share for a short time.
    pub redis: RedisSection,
    /// Logins and tickets.
    pub auth: AuthConfig,
    /// Runs and their logs.
    pub runs: RunLimits,
    /// What users may upload.
    pub files: FileLimits,
    /// The work of agents.
    pub agents: EngineOptions,
    /// What each user may use of models.
    pub budget: BudgetLimits,
    /// The models that agents may ask.
    pub models: ModelsSection,
    /// Tools of other servers, and our tools for other clients, by the Model Context Protocol.
    pub mcp: McpSection,
    /// Plain HTTP.
    pub server: ServerSection,
    /// Clients that are connected.
    pub connections: ConnectionsSection,
    /// How calls to dependencies of the host's own are protected.
    pub resilience: ResilienceConfig,
    /// What counts as healthy.
    pub health: HealthConfig,
}

impl Section for ApexConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.section("database", &self.database);
        checks.section("redis", &self.redis);
        checks.section("files", &self.files);
        checks.section("agents", &self.agents);
        checks.section("budget", &self.budget);
        checks.section("models", &self.models);
        checks.section("mcp", &self.mcp);
        checks.section("server", &self.server);
        checks.section("connections", &self.connections);
        checks.section("resilience", &self.resilience);
        checks.section("health", &self.health);
        let development = self.environment == Environment::Development;
        checks.require(
            &["environment", "server.listen"],
            !development || self.server.listen.ip().is_loopback(),
            FaultCode::Insecure,
            "development opens a login without a password, and server.listen is reachable by others",
            "listen on 127.0.0.1, or set another environment",
        );
    }
}

impl ApexConfig {
    /// A builder with this configuration; what a host says to it afterwards holds.
    ///
    /// # Errors
    /// `config_invalid` when the address is of a database that this build cannot open, or the chain has a model that it
    /// cannot ask, or MCP is configured and not built in.
    pub fn builder(&self) -> Result<Builder> {
        let url = self.database.address();
        openable(&url, self.database.auth.as_ref(), self.redis.url.as_ref())?;
        let mut builder = Builder::default()
            .database(url)
            .schema(self.database.schema.clone())
            .pool(self.database.pool.clone())
            .environment(self.environment)
            .auth(AuthConfig { environment: self.environment, ..self.auth.clone() })
            .runs(self.runs)
            .files(self.files)
            .budget(self.budget)
            .engine(self.agents.clone())
            .chain(self.models.options())
            .transport(self.transport())
            .health(self.health.clone());
        #[cfg(feature = "tls")]
        if let Some(files) = self.server.tls() {
            builder = builder.tls(files);
        }
        if let Some(url) = &self.database.auth {
            builder = builder.auth_database(url.clone());
        }
        if let Some(url) = &self.redis.url {
            builder = builder.redis(url.clone(), self.redis.prefix.clone());
        }
        if self.redis.event_log {
            builder = builder.event_log_in_redis();
        }
        for link in self.models.links()? {
            builder = builder.model(link);
        }
        self.mcp.add_to(builder)
    }

    /// What protects the calls to a dependency of the host's own, such as the service behind a tool. Hand its breaker
    /// to [`Builder::breakers`], so that operators see it and nodes warn each other. Databases, Redis and models are
    /// protected by rules of their own.
    #[must_use]
    pub fn policy(&self, dependency: &str) -> Policy {
        self.resilience.policy(dependency, self.environment)
    }

    /// The wire's own configuration.
    #[must_use]
    pub fn transport(&self) -> apex_transport::TransportConfig {
        apex_transport::TransportConfig {
            origins: self.server.origins.clone(),
            prefix: self.server.prefix.clone(),
            trusted_proxies: self.server.trusted_proxies,
            connection: self.connections.connection,
            hub: self.connections.hub,
            http: self.server.http,
            runs: self.runs,
            files: self.files,
            unused_tickets: self.auth.unused_tickets,
        }
    }

    /// The reference of every field, in Markdown; part of the operator's page.
    #[must_use]
    pub fn reference() -> String {
        reference::<Self>("APEX")
    }
}
