//! LLM usage: records of requests to models as sources have them ([`UsageRecord`]), and what the runs of Apex
//! themselves asked of models ([`Attempt`]), kept by a [`UsageStore`].

mod attempt;
mod query;
mod recorder;

pub use attempt::{Attempt, AttemptOutcome};
pub(crate) use query::Summing;
pub use query::{GroupBy, Total, UsageQuery};
pub use recorder::UsageRecorder;

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::RunId;
use crate::money::{Usage, Usd};
use crate::principal::Principal;
use crate::thread::Paged;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// The most attempts that are recorded at once.
pub const MOST_ATTEMPTS: usize = 1_000;

/// Keeps what runs asked of models. Reading needs the scope `read` and dropping `run`;
/// without it, `forbidden`.
#[async_trait]
pub trait UsageStore: fmt::Debug + Send + Sync {
    /// Records attempts of a user's: all or none. One that is on record already changes nothing, so a call whose
    /// answer was lost can be made again.
    ///
    /// # Errors
    /// `conflict` when an id is on record as another user's; `too_large` past [`MOST_ATTEMPTS`].
    async fn record(&self, principal: &Principal, attempts: Vec<Attempt>) -> Result<()>;

    /// The user's attempts, or those of one run, the latest first.
    ///
    /// # Errors
    /// `bad_request` for a cursor that this store did not give out.
    async fn attempts(
        &self,
        principal: &Principal,
        run: Option<RunId>,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Attempt>>;

    /// Sums over the user's attempts, exact to the last digit, in the order of their groups. No attempt, no sum.
    ///
    /// # Errors
    /// What the store says.
    async fn totals(&self, principal: &Principal, query: &UsageQuery) -> Result<Vec<Total>>;

    /// Drops the user's attempts from before a time; says how many.
    ///
    /// # Errors
    /// What the store says.
    async fn forget(&self, principal: &Principal, before: Timestamp) -> Result<u64>;
}

/// Passes for what one call of [`UsageStore::record`] may hold.
///
/// # Errors
/// `too_large`.
pub(crate) fn check_batch(attempts: &[Attempt]) -> Result<()> {
    if attempts.len() <= MOST_ATTEMPTS {
        return Ok(());
    }
    let told = "these are more attempts than are recorded at once; record them in parts";
    Err(Error::new(Kind::TooLarge, "usage.record", told).with("limit", MOST_ATTEMPTS))
}

/// The answer for an id that is on record as another user's.
pub(crate) fn attempt_taken() -> Error {
    let told = "an attempt of this id is on record already; record it under a new id";
    Error::new(Kind::Conflict, "usage.record", told)
}
