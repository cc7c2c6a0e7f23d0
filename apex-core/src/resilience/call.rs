use super::Deadline;
use crate::error::Outcome;
use std::time::Duration;

/// What repeating a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// Done twice it is as done once: it carries an id by which the other side knows it again.
    Idempotent,
    /// Done twice it is done twice: it is repeated only when it certainly was not done.
    Once,
}

impl Effect {
    /// What is known about a call that was not answered.
    pub(super) const fn unanswered(self) -> Outcome {
        match self {
            Self::Read => Outcome::NotApplied,
            Self::Idempotent | Self::Once => Outcome::Unknown,
        }
    }

    /// Whether it may be repeated although it may have been done.
    #[must_use]
    pub const fn repeatable(self) -> bool {
        !matches!(self, Self::Once)
    }
}

/// One call's terms, handed from layer to layer: its deadline, what repeating it does, and whether a layer above
/// repeats already. Retries in several layers would multiply: three tries in five layers are 243 calls.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub(super) deadline: Deadline,
    pub(super) effect: Effect,
    pub(super) repeated_above: bool,
}

impl Call {
    /// A call from the outermost layer, to be answered within `limit`.
    #[must_use]
    pub fn new(effect: Effect, limit: Duration) -> Self {
        Self { deadline: Deadline::after(limit), effect, repeated_above: false }
    }

    /// The same call with another effect, for a step that reads within one that writes.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// When the answer is of no use any more.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The call as the layer below sees it.
    pub(super) fn below(self, deadline: Deadline) -> Self {
        Self { deadline, repeated_above: true, ..self }
    }
}
