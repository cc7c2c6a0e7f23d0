//! Why a call to a model failed, in the few classes by which a chain decides.

use super::answer::ModelUsage;
use apex_core::error::{Error, Kind, Outcome};
use std::fmt;
use std::time::Duration;

/// The most of a provider's own words that an error repeats.
const MAX_WORDS: usize = 300;

/// The class of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultReason {
    /// The key is wrong, or not allowed to do this.
    Key,
    /// The account's money or daily quota is spent: waiting does not help.
    Quota,
    /// Too many requests or tokens for now.
    RateLimited,
    /// The provider has more to do than it can.
    Overloaded,
    /// The provider failed.
    Failed,
    /// The conversation is longer than the model takes.
    TooLong,
    /// There is no such model, or not for this key.
    UnknownModel,
    /// The request is not one that the provider takes.
    BadRequest,
    /// No connection: refused, no such host, TLS.
    Unreachable,
    /// The time for connecting, for the first token or between tokens ran out.
    TimedOut,
    /// The answer broke off.
    Broken,
    /// The answer is not in the provider's format, or larger than any answer.
    Malformed,
    /// The provider sent us to another address, to which no key travels.
    Redirected,
    /// There is no model.
    Offline,
}

impl FaultReason {
    /// Its name in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
            Self::TooLong => "too_long",
            Self::UnknownModel => "unknown_model",
            Self::BadRequest => "bad_request",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::Redirected => "redirected",
            Self::Offline => "offline",
        }
    }

    /// Whether the same request to the same model may succeed in a moment.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Failed
                | Self::Unreachable
                | Self::TimedOut
                | Self::Broken
        )
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Key | Self::UnknownModel | Self::Redirected => Kind::Config,
            Self::Quota => Kind::BudgetExhausted,
            Self::RateLimited => Kind::RateLimited,
            Self::TooLong => Kind::TooLarge,
            Self::BadRequest => Kind::BadRequest,
            Self::TimedOut => Kind::DeadlineExceeded,
            Self::Malformed => Kind::BadOutput,
            Self::Overloaded | Self::Failed | Self::Unreachable | Self::Broken | Self::Offline => {
                Kind::Unavailable
            }
        }
    }

    /// What is wrong and what to do, without the provider's words.
    pub(crate) const fn told(self) -> &'static str {
        match self {
            Self::Key => "the provider refuses the key: check that it is whole, active and allowed",
            Self::Quota => "the provider account's quota or credit is spent: raise it there",
            Self::RateLimited => "the provider limits the rate: wait",
            Self::Overloaded => "the provider is overloaded: try again",
            Self::Failed => "the provider failed: try again",
            Self::TooLong => "the conversation is longer than the model takes: shorten it",
            Self::UnknownModel => "the provider has no such model for this key: check its name",
            Self::BadRequest => "the provider does not take the request",
            Self::Unreachable => "the provider cannot be reached",
            Self::TimedOut => "the provider did not answer in time",
            Self::Broken => "the provider's answer broke off",
            Self::Malformed => "the provider's answer cannot be read",
            Self::Redirected => {
                "the provider's address points elsewhere, where no key is sent: set the right base URL"
            }
            Self::Offline => "there is no model: configure a provider",
        }
    }
}

/// What is known about a failed call. It is the source of the [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFault {
    /// The provider.
    pub provider: String,
    /// The class.
    pub reason: FaultReason,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The provider's own code.
    pub code: Option<String>,
    /// The id under which the provider's support finds the request.
    pub request: Option<String>,
    /// What an answer that broke off had used by then, as far as the provider said.
    pub usage: Option<ModelUsage>,
}

impl ModelFault {
    pub(crate) fn new(provider: &str, reason: FaultReason) -> Self {
        Self {
            provider: provider.to_owned(),
            reason,
            status: None,
            code: None,
            request: None,
            usage: None,
        }
    }

    /// The fault behind an error of a model's.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// The error, with some words on what happened.
    pub(crate) fn error(self, words: &str, retry_after: Option<Duration>) -> Error {
        let advice = self.reason.told();
        let words = words.trim();
        let message = if words.is_empty() {
            advice.to_owned()
        } else {
            let words: String = words.chars().take(MAX_WORDS).collect();
            format!("{advice} ({words})")
        };
        let outcome = match self.reason {
            FaultReason::Broken | FaultReason::TimedOut | FaultReason::Malformed => {
                Outcome::Unknown
            }
            _ => Outcome::NotApplied,
        };
        let error = Error::new(self.reason.kind(), "model.call", message).with_outcome(outcome);
        match retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
        .with_source(self)
    }
}

impl fmt::Display for ModelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        if let Some(status) = self.status {
            write!(f, " answered {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(request) = &self.request {
            write!(f, ", request {request}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ModelFault {}
