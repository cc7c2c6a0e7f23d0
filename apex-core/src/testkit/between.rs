use crate::error::Result;
use crate::id::{RunId, ThreadId};
use crate::principal::Principal;
use crate::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLog, RunState, RunView,
    Signal, Started,
};
use async_trait::async_trait;
use std::fmt;

/// What comes between a run log and those who ask it: it counts, delays or fails some calls, and passes on the rest.
/// [`Over`] makes a run log of it.
#[async_trait]
pub trait Between: fmt::Debug + Send + Sync {
    /// The log behind it.
    fn log(&self) -> &dyn RunLog;

    /// Instead of [`RunLog::claim`].
    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.log().claim(claim).await
    }

    /// Instead of [`RunLog::append`].
    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        self.log().append(lease, batch).await
    }

    /// Instead of [`RunLog::read`].
    async fn read(&self, who: &Principal, run: RunId, after: u64, max: usize) -> Result<Page> {
        self.log().read(who, run, after, max).await
    }
}

/// A run log with something between it and those who ask.
#[derive(Debug)]
pub struct Over<T>(pub T);

#[async_trait]
impl<T: Between> RunLog for Over<T> {
    async fn start(&self, who: &Principal, run: NewRun) -> Result<Started> {
        self.0.log().start(who, run).await
    }

    async fn begun(&self, who: &Principal, run: &NewRun) -> Result<Option<Started>> {
        self.0.log().begun(who, run).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.0.claim(claim).await
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        self.0.append(lease, batch).await
    }

    async fn queued(&self) -> Result<Option<u64>> {
        self.0.log().queued().await
    }

    async fn signal(&self, who: &Principal, run: RunId, signal: Signal) -> Result<RunState> {
        self.0.log().signal(who, run, signal).await
    }

    async fn view(&self, who: &Principal, run: RunId) -> Result<RunView> {
        self.0.log().view(who, run).await
    }

    async fn read(&self, who: &Principal, run: RunId, after: u64, max: usize) -> Result<Page> {
        self.0.read(who, run, after, max).await
    }

    async fn inbox(&self, who: &Principal, after: u64, max: usize) -> Result<InboxPage> {
        self.0.log().inbox(who, after, max).await
    }

    async fn forget(&self, who: &Principal, thread: ThreadId) -> Result<Vec<RunId>> {
        self.0.log().forget(who, thread).await
    }
}
