use super::{UsageRecord, UsageStatus};
use crate::clock::Timestamp;
use crate::id::{AttemptId, RunId, StepId};
use crate::money::Usage;
use crate::principal::Principal;
use serde::{Deserialize, Serialize};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// With the whole answer.
    Answered,
    /// Before anything was shown.
    Failed,
    /// In the middle of an answer, which was taken back; what was written is billed.
    Retracted,
    /// Nobody waited for the end; what was written is billed.
    Abandoned,
    /// Its node was lost; nobody knows how far it came.
    Lost,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Answered, Self::Failed, Self::Retracted, Self::Abandoned, Self::Lost];

    /// Its name in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Retracted => "retracted",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }

    /// The outcome of this name.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// One attempt to have a model answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Attempt {
    /// Its id, made by who asked.
    pub attempt: AttemptId,
    /// The run that asked, if one did.
    pub run: Option<RunId>,
    /// The step that asked.
    pub step: Option<StepId>,
    /// Which attempt at the same answer it is, from 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The provider.
    pub provider: String,
    /// The model, as it was asked for.
    pub model: String,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why it did not end with an answer, in a word such as `rate_limited`.
    pub reason: Option<String>,
    /// The id under which the provider's support finds it.
    pub request: Option<String>,
    /// The service tier that was billed, where the provider names one.
    pub service_tier: Option<String>,
    /// The number of tokens written to the provider's cache, already part of `usage.input_tokens`.
    pub cache_write_tokens: u64,
    /// What it used; the cost is `None` where it is not known.
    pub usage: Usage,
    /// Whether the counts are what the provider had said by the time it broke off, or contradict each other.
    pub estimated: bool,
}

impl Attempt {
    /// The attempt as a record of usage, for the analysis of one's own spending.
    #[must_use]
    pub fn into_record(self, principal: &Principal) -> UsageRecord {
        UsageRecord {
            at: Some(self.at),
            request: self.request,
            user: Some(principal.user().to_string()),
            session: self.run.map(|run| run.to_string()),
            provider: Some(self.provider),
            model: self.model,
            status: match self.outcome {
                AttemptOutcome::Answered => UsageStatus::Ok,
                AttemptOutcome::Abandoned | AttemptOutcome::Lost => UsageStatus::Unknown,
                AttemptOutcome::Failed | AttemptOutcome::Retracted => UsageStatus::Error,
            },
            batch: false,
            service_tier: self.service_tier,
            cache_write_tokens: self.cache_write_tokens,
            tokens: self.usage,
            recorded_cost: None,
            content: None,
        }
    }
}
