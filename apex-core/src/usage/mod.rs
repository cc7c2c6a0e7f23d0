//! Records of LLM usage: one request to a model, who made it, what it used, what it was recorded to cost.

use crate::clock::Timestamp;
use crate::money::{Usage, Usd};
use serde::{Deserialize, Serialize};

/// How a request ended, as far as its record tells.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UsageStatus {
    /// The record does not say.
    #[default]
    Unknown,
    /// It was answered.
    Ok,
    /// It failed, at the provider or on the way.
    Error,
}

/// One request to a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UsageRecord {
    /// When it was made; `None` where the source has no time.
    pub at: Option<Timestamp>,
    /// The provider's or gateway's own id of the request.
    pub request: Option<String>,
    /// Who made it.
    pub user: Option<String>,
    /// The session, conversation or trace that it belongs to.
    pub session: Option<String>,
    /// The provider, where the source names one.
    pub provider: Option<String>,
    /// The model, as the source names it.
    pub model: String,
    /// How it ended.
    pub status: UsageStatus,
    /// Whether it went through a batch interface.
    pub batch: bool,
    /// The service tier, such as `default`, `flex` or `priority`.
    pub service_tier: Option<String>,
    /// The number of tokens written to the provider's cache, already part of `tokens.input_tokens`.
    pub cache_write_tokens: u64,
    /// What it used; `cost_usd` stays `None` until it is priced.
    pub tokens: Usage,
    /// What the source says that it cost.
    pub recorded_cost: Option<Usd>,
    /// A digest of the request's content, where the source has one.
    pub content: Option<String>,
}
