use serde::{Deserialize, Serialize};

/// Where this process runs; it decides how strict the rest is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine: the development login is open.
    Development,
    /// A rehearsal of production.
    Staging,
    /// The real thing. The default, so that what is forgotten is strict.
    #[default]
    Production,
}
