use super::Engine;
use super::shared::Shared;
use crate::tool::Dispatcher;
use apex_core::clock::Clock;
use apex_core::limit::LimitStore;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What of an engine those see who call its tools outside of runs.
#[derive(Clone)]
pub(crate) struct Offered {
    shared: Arc<Shared>,
    draining: CancellationToken,
}

impl Engine {
    pub(crate) fn offered(&self) -> Offered {
        Offered { shared: Arc::clone(&self.shared), draining: self.draining.clone() }
    }
}

impl Offered {
    pub(crate) fn dispatcher(&self) -> &Dispatcher {
        &self.shared.dispatcher
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    pub(crate) fn limits(&self) -> &Arc<dyn LimitStore> {
        &self.shared.stores.limits
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// After which time a call that nobody has ended is over: no call takes longer than a step.
    pub(crate) fn longest_call(&self) -> Duration {
        self.shared.options.step_deadline
    }
}
