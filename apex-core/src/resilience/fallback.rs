use crate::error::{Class, Error};
use serde::Serialize;

/// A value, and whether it is what was asked for or the next best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// Why it is only the next best, if it is.
    pub degraded: Option<Degraded>,
}

/// Why an answer is only the next best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// What did not answer.
    pub dependency: String,
    /// With which code it failed.
    pub code: &'static str,
}

impl<T> Answer<T> {
    pub(super) fn whole(value: T) -> Self {
        Self { value, degraded: None }
    }

    pub(super) fn instead(value: T, dependency: &str, error: &Error) -> Self {
        Self {
            value,
            degraded: Some(Degraded { dependency: dependency.to_owned(), code: error.code() }),
        }
    }
}

/// Whether the next best may stand in: when something was not there, never for a refusal. Whoever was not let in
/// stays out.
pub(super) fn may_stand_in(error: &Error) -> bool {
    matches!(error.kind().row().class, Class::Unavailable | Class::Storage)
}
