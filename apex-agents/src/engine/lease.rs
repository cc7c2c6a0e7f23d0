use super::shared::Shared;
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Event;
use apex_core::id::ApprovalId;
use apex_core::run::{Checkpoint, Claimed, Emitter, RunState, Signals};
use apex_core::thread::{ThreadMessage, ThreadStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long to wait before something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// Writes in a run's name for as long as its lease is certain.
#[derive(Debug)]
pub(super) struct Writer {
    emitter: Emitter,
    threads: Arc<dyn ThreadStore>,
    renewed: Instant,
    renew_every: Duration,
    give_up_after: Duration,
    signals: Signals,
}

impl Writer {
    pub(super) fn new(shared: &Shared, claimed: &Claimed, claimed_at: Instant) -> Self {
        let emitter = Emitter::new(
            Arc::clone(&shared.stores.runs),
            Arc::clone(&shared.clock),
            shared.live.clone(),
            claimed.lease.clone(),
        );
        Self {
            emitter,
            threads: Arc::clone(&shared.stores.threads),
            renewed: claimed_at,
            renew_every: shared.options.renew_every(),
            give_up_after: shared.options.give_up_after(),
            signals: claimed.signals.clone(),
        }
    }

    /// What users asked of the run, as of the last append.
    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// When the lease is to be renewed.
    pub(super) fn renew_at(&self) -> Instant {
        self.renewed + self.renew_every
    }

    /// Records what happened.
    ///
    /// # Errors
    /// Any error means that the run is lost to this node.
    pub(super) async fn append(
        &mut self,
        events: Vec<Event>,
        checkpoint: Option<Checkpoint>,
        transition: Option<RunState>,
    ) -> Result<()> {
        let sent = Instant::now();
        let lost_at = self.lost_at();
        let append = self.emitter.append(events, checkpoint, transition);
        self.signals = within(lost_at, append).await?;
        self.renewed = sent;
        Ok(())
    }

    /// Renews the lease and looks what users asked. A store that is away is waited for while the lease is certain.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(super) async fn renew(&mut self) -> Result<()> {
        while let Err(error) = self.append(Vec::new(), None, None).await {
            if !error.is_retryable() || self.is_lost() {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Gives the run up until somebody asks something of it, or until then.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(super) async fn wait(
        &mut self,
        checkpoint: Checkpoint,
        until: Option<Timestamp>,
    ) -> Result<()> {
        within(self.lost_at(), self.emitter.wait(checkpoint, until)).await
    }

    /// Says that the time of these approvals is over, and looks which were decided after all.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(super) async fn lapse(&mut self, approvals: Vec<ApprovalId>) -> Result<()> {
        let sent = Instant::now();
        let lost_at = self.lost_at();
        self.signals = within(lost_at, self.emitter.lapse(approvals)).await?;
        self.renewed = sent;
        Ok(())
    }

    /// Adds a message to the conversation. A store that is away is waited for a little, and the lease kept
    /// meanwhile. Where `insist` is false, or waiting cannot help, the run goes on without the message: a
    /// conversation that is gone keeps no run from ending.
    ///
    /// # Errors
    /// Any error means that the run is lost to this node.
    pub(super) async fn say(
        &mut self,
        claimed: &Claimed,
        message: ThreadMessage,
        insist: bool,
    ) -> Result<()> {
        let until = Instant::now() + self.give_up_after;
        loop {
            let (principal, thread) = (&claimed.principal, claimed.lease.thread);
            let add = self.threads.add(principal, thread, message.clone());
            let Err(error) = within(self.lost_at(), add).await else {
                return Ok(());
            };
            let last = Instant::now() >= until;
            if error.kind() == Kind::Fenced || (last && insist && error.is_retryable()) {
                return Err(error);
            }
            tracing::warn!(run = %claimed.lease.run, %error, "a message could not be added");
            if last || !error.is_retryable() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
            self.renew().await?;
        }
    }

    /// Shows something volatile.
    pub(super) fn show(&self, event: Event) {
        self.emitter.show(event);
    }

    fn is_lost(&self) -> bool {
        Instant::now() >= self.lost_at()
    }

    /// When the lease is no longer certain, if it is not renewed before.
    fn lost_at(&self) -> Instant {
        self.renewed + self.give_up_after
    }
}

/// Does something that only the holder of the lease may do, while the lease is certain.
async fn within<T>(until: Instant, write: impl Future<Output = Result<T>>) -> Result<T> {
    let lost = || {
        Error::new(
            Kind::Fenced,
            "run.lease",
            "the lease could not be renewed in time; this node gives the run up",
        )
    };
    if Instant::now() >= until {
        return Err(lost());
    }
    timeout_at(until, write).await.map_err(|_| lost())?
}
