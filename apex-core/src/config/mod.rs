//! Start-up configuration: read from sources that the host hands over, judged whole before anything opens.
//!
//! Each room declares a `*Config` struct that is its [`Section`]; the face puts the sections together. The struct is
//! the one definition: its JSON Schema tells the [`Loader`] which fields there are, what they may hold and which of
//! them are secret, and is published as it is. [`Loader::load`] gives the value with the source of each field
//! ([`Loaded`]) or every fault at once ([`Report`]). [`Cache`] holds what is in force and reloads it.

mod cache;
mod checks;
mod database_url;
pub mod duration;
mod environment;
mod gathered;
mod loaded;
mod loader;
mod reference;
mod report;
mod schema;
mod schema_name;
mod secret;
mod source;
mod strength;
mod web_url;

pub use cache::Cache;
pub use checks::Checks;
pub use database_url::{
    BadDatabaseUrl, DatabaseHost, DatabaseKind, DatabaseUrl, RedisTopology, TlsMode,
};
pub use duration::HumanDuration;
pub use environment::Environment;
pub use loaded::{Listed, Loaded};
pub use loader::Loader;
pub use reference::{json_schema, reference};
pub use report::{Fault, FaultCode, Report};
pub use schema_name::{BadSchemaName, SchemaName};
pub use secret::Secret;
pub use source::{MAX_FILE_BYTES, MAX_SECRET_BYTES, Origin, SecretSource, open_to_others};
pub use strength::weakness;
pub use web_url::{BadWebUrl, WebUrl};

/// A part of the configuration, or all of it.
///
/// Implement it for a struct with `#[derive(Deserialize, JsonSchema, Default)] #[serde(default)]`: every field has a
/// default (an `Option` where there is no good one), a range by `#[schemars(range(..))]`, a sentence of
/// documentation, and a secret is a [`Secret`].
pub trait Section:
    serde::de::DeserializeOwned + schemars::JsonSchema + Default + Send + Sync + 'static
{
    /// Judges rules across fields, and calls [`Checks::section`] for the sections within.
    fn check(&self, checks: &mut Checks<'_>) {
        let _ = checks;
    }
}
