//! What a log of events outside of the database needs of the run log inside it.

use super::log::{Append, Appended, Lease, Page, Signals};
use super::snapshot::Snapshot;
use crate::error::Result;
use crate::id::{BatchId, Epoch, RunId};
use crate::principal::Principal;
use async_trait::async_trait;

/// The part of a [`RunLog`](super::RunLog) that keeps the runs of a log whose events stand elsewhere: it is told of a
/// log's events from time to time only, together with what they have come to.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// As [`RunLog::read`](super::RunLog::read), with the fence that the run has.
    async fn page(
        &self,
        principal: &Principal,
        run: RunId,
        after: u64,
        max: usize,
    ) -> Result<(Page, u64)>;

    /// Where a run stands; `None` when it is not on record.
    async fn stand(&self, run: RunId) -> Result<Option<Stand>>;

    /// Appends as [`RunLog::append`](super::RunLog::append), after events that were recorded elsewhere: of those only
    /// what they have come to is kept, and none of those before them.
    async fn append_past(&self, lease: &Lease, past: Past, batch: Append) -> Result<Appended>;

    /// Begins a new life of a log that has lost events: it goes on after `past`, or after what is known here when that
    /// is further. Does nothing when the run has another epoch or fence than `of` by now.
    async fn renew(
        &self,
        run: RunId,
        of: (Epoch, u64),
        epoch: Epoch,
        past: Past,
    ) -> Result<Option<Stand>>;
}

/// Events that were recorded elsewhere.
#[derive(Debug, Clone)]
pub struct Past {
    /// The last of them.
    pub head: u64,
    /// What they, and all before them, have come to; `None` where nobody knows.
    pub snapshot: Option<Snapshot>,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// The life of its log.
    pub epoch: Epoch,
    /// Its fence.
    pub fence: u64,
    /// The last number that is known here.
    pub head: u64,
    /// Whether somebody has its lease, run out or not.
    pub held: bool,
    /// What was asked of it.
    pub signals: Signals,
    /// The last batch that was taken in here.
    pub last_batch: Option<BatchId>,
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl super::record::RunRecord {
    /// Goes past events that were recorded elsewhere; whether there are any that are not known here.
    pub(crate) fn pass(&mut self, past: &Past) -> bool {
        let further = past.head > self.head;
        if further {
            self.head = past.head;
            self.drop_history();
        }
        further
    }

    /// Whether nobody has had the run since `of`, and its log has been written by then at all.
    pub(crate) fn may_renew(&self, of: (Epoch, u64)) -> bool {
        (self.epoch, self.fence) == of && self.fence > 0
    }

    /// Where it stands.
    pub(crate) fn stand(&self) -> Stand {
        Stand {
            epoch: self.epoch,
            fence: self.fence,
            head: self.head,
            held: self.holder.is_some(),
            signals: self.signals.clone(),
            last_batch: self.last_batch,
        }
    }
}
