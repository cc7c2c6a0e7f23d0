//! How a run ended, for whoever watches this node: the service levels, and the failure, once.

use super::shared::Shared;
use crate::failure::Failure;
use apex_core::clock::Timestamp;
use apex_core::event::Event;
use apex_core::health::RunResult;
use apex_core::run::Claimed;
use std::time::Duration;

/// What is known of a run when its end is recorded.
pub(super) struct Ended {
    /// When its first step began, if one did.
    pub(super) began_at: Option<Timestamp>,
    /// Why it failed, if it did.
    pub(super) failure: Option<Failure>,
    pub(super) completed: bool,
}

impl Ended {
    /// `None` unless these events end the run by themselves; one that its user cancelled says nothing about us.
    pub(super) fn of(
        events: &[Event],
        began_at: Option<Timestamp>,
        failure: Option<&Failure>,
    ) -> Option<Self> {
        let completed = match events.last()? {
            Event::RunCompleted { .. } => true,
            Event::RunFailed { .. } => false,
            _ => return None,
        };
        Some(Self { began_at, failure: failure.cloned(), completed })
    }

    pub(super) fn tell(self, shared: &Shared, claimed: &Claimed) {
        let since = |at: Timestamp| -> Duration { at.since(claimed.started_at) };
        shared.observer.health().record_run(RunResult {
            completed: self.completed,
            first_event: self.began_at.map(since),
            answer: self.completed.then(|| since(shared.clock.now())),
        });
        if let Some(failure) = self.failure {
            let error = failure.into_error("run").with("run", claimed.lease.run);
            shared.observer.errors().record(&error, Some(claimed.principal.user()));
        }
    }
}
