//! One error for every crate and every language.
//!
//! An [`Error`] says what kind of thing went wrong ([`Kind`], with its row in the [catalogue](page)), during which
//! operation, with what context, why (its source), and whether the write it belongs to was applied ([`Outcome`]):
//! what a caller must know before it tries again. `Display` is one line for people; `Debug` is a report for logs.
//! Neither may carry a secret: whoever adds context keeps credentials out.

mod catalogue;
pub mod correlation;
mod driver;
mod escalation;
mod groups;

pub use catalogue::{Class, Impact, Kind, Retry, Row, Severity, page, python, schema, typescript};
pub use driver::{Consequence, Failure, Phase, REDIS, Repeat, SQLITE, SQLSTATE};
pub use escalation::{Alert, AlertSink, EscalationPolicy, Notice, Reason};
pub use groups::{ErrorLog, Fingerprint, Group, Told};

use crate::id::CorrelationId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The result of everything in Apex that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the write that failed took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did not; repeating it is safe.
    NotApplied,
    /// It did.
    Applied,
    /// Nobody knows: look it up by its id before repeating it.
    Unknown,
}

/// What went wrong.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    failure: Option<Failure>,
    outcome: Outcome,
    retry_after: Option<Duration>,
    correlation: Option<CorrelationId>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` during `operation` (a dotted name such as `run_log.append`), with a message that says
    /// what is wrong and what to do.
    #[must_use]
    pub fn new(kind: Kind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            message: message.into(),
            context: Vec::new(),
            failure: None,
            outcome: Outcome::NotApplied,
            retry_after: None,
            correlation: correlation::current(),
            source: None,
        }))
    }

    /// Everything that does not belong to the caller looks like this, whether it exists or not.
    #[must_use]
    pub fn not_found(operation: &'static str, what: &'static str) -> Self {
        Self::new(Kind::NotFound, operation, format!("no such {what}"))
    }

    /// A defect of ours.
    #[must_use]
    pub fn internal(operation: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, operation, message)
    }

    /// Adds a fact, such as an id or a size; never a secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Says whether the write took effect; `NotApplied` where nothing is said.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Says as what the driver's code was classified.
    #[must_use]
    pub fn with_failure(mut self, failure: Failure) -> Self {
        self.0.failure = Some(failure);
        self
    }

    /// Says when it makes sense to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Ties the error to a request's other traces; the first id stays.
    #[must_use]
    pub fn with_correlation(mut self, id: CorrelationId) -> Self {
        self.0.correlation.get_or_insert(id);
        self
    }

    /// Says what caused it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same once more, for one more who waited for what failed; without what caused it, which cannot be copied.
    #[must_use]
    pub fn again(&self) -> Self {
        let (mut same, this) =
            (Self::new(self.0.kind, self.0.operation, &*self.0.message), &self.0);
        same.0.context.clone_from(&this.context);
        same.0.failure = this.failure;
        same.0.outcome = this.outcome;
        same.0.retry_after = this.retry_after;
        same.0.correlation = this.correlation;
        same
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The stable code, as on the wire.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.row().code
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The sentence for people, without context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the write took effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// When it makes sense to try again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// As what the driver's code was classified, if a driver reported it.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.0.failure
    }

    /// Whether the same call may help later without a change by the caller. What a driver reported is judged by its
    /// class, so that an unknown failure is never repeated blindly.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let never = |failure: Failure| failure.consequence().repeat == Repeat::Never;
        matches!(self.0.kind.row().retry, Retry::Later) && !self.0.failure.is_some_and(never)
    }

    /// Whether the very call that failed may be made again now: something may have changed, and nothing can be done
    /// twice. `idempotent` says that doing it twice is the same as doing it once.
    #[must_use]
    pub fn may_repeat(&self, idempotent: bool) -> bool {
        self.is_retryable()
            && match self.0.outcome {
                Outcome::NotApplied => true,
                Outcome::Unknown => idempotent,
                Outcome::Applied => false,
            }
    }

    /// The id that ties it to the log.
    #[must_use]
    pub fn correlation(&self) -> Option<CorrelationId> {
        self.0.correlation
    }

    /// The facts that were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The error as clients and events see it. What a defect of ours says stays inside: its message is general and
    /// the correlation id leads to the log.
    #[must_use]
    pub fn report(&self) -> ErrorReport {
        let message = match self.0.kind {
            Kind::Internal | Kind::Storage => self.0.kind.row().meaning.to_owned(),
            _ => self.0.message.clone(),
        };
        ErrorReport {
            code: self.code().to_owned(),
            message,
            retryable: self.is_retryable(),
            correlation: self.0.correlation,
            retry_after_ms: self
                .0
                .retry_after
                .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        for (position, (key, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{key}: {value}", if position == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} during {}, {:?}", self, self.code(), self.0.operation, self.0.outcome)?;
        if let Some(id) = self.0.correlation {
            write!(f, ", correlation {id}")?;
        }
        f.write_str("]")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

/// An error as it travels: in `error` frames, HTTP bodies and `run_failed` events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ErrorReport {
    /// The stable code of the catalogue.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether the same call may help later.
    pub retryable: bool,
    /// Leads to the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationId>,
    /// How long to wait, in milliseconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_and_debug_names_the_operation() {
        let error = Error::new(Kind::TooLarge, "file.put", "the file is too large")
            .with("limit", "2 GiB")
            .with("name", "usage.csv")
            .with_source(std::io::Error::other("disk"));
        assert_eq!(
            error.to_string(),
            "the file is too large (limit: 2 GiB, name: usage.csv): disk"
        );
        assert!(format!("{error:?}").contains("too_large during file.put"));
    }

    #[test]
    fn whoever_waits_beside_another_is_told_the_same() {
        let error = Error::new(Kind::Unavailable, "x", "away")
            .with("redis", "db")
            .with_failure(Failure::Connection)
            .with_outcome(Outcome::Unknown)
            .with_retry_after(Duration::from_secs(1));
        let again = error.again();
        assert_eq!(format!("{again:?}"), format!("{error:?}"));
        assert_eq!(again.report(), error.report());
        assert_eq!(again.failure(), error.failure());
    }

    #[test]
    fn a_defect_keeps_its_insides_to_itself() {
        let report = Error::internal("x", "row 3 of table secrets").report();
        assert!(!report.message.contains("secrets"));
        assert!(report.retryable);
    }
}
