use super::log::{InboxEntry, InboxPage, RunLog};
use super::subscription::{LOOK, PAGE, Position, ResetReason};
use super::wakeup::{Topic, Wakeup, Woken};
use crate::error::Result;
use crate::id::Epoch;
use crate::principal::Principal;
use std::sync::Arc;

/// What an inbox subscription brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxDelivery {
    /// The next entries, in order, without a hole.
    Entries(Vec<InboxEntry>),
    /// What follows the reader's position cannot be given; what is still kept follows, after `head`.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The life of the inbox from here on.
        epoch: Epoch,
        /// The number that the next entry follows.
        head: u64,
    },
}

/// One reader of one user's inbox: what a new tab needs to find what is going on. It never ends by itself.
#[derive(Debug)]
pub struct InboxSubscription {
    log: Arc<dyn RunLog>,
    principal: Principal,
    epoch: Epoch,
    cursor: u64,
    woken: Woken,
    opening_reset: Option<InboxDelivery>,
}

impl InboxSubscription {
    /// Begins to read after `position`. The page, without entries, says how far the inbox goes; when the position
    /// cannot be gone on from, the first delivery is a [`InboxDelivery::Reset`].
    ///
    /// # Errors
    /// `storage_failed`, `unavailable`.
    pub async fn open(
        log: Arc<dyn RunLog>,
        wakeup: &dyn Wakeup,
        principal: Principal,
        position: Position,
    ) -> Result<(InboxPage, Self)> {
        // Listening begins before the first look: what happens in between wakes the first wait.
        let woken = wakeup.listen(Topic::Inbox(principal.user()));
        let bounds = log.inbox(&principal, 0, 0).await?;
        let mut subscription = Self {
            log,
            principal,
            epoch: position.epoch.unwrap_or(bounds.epoch),
            cursor: position.after,
            woken,
            opening_reset: None,
        };
        subscription.opening_reset = subscription.reset(&bounds);
        Ok((bounds, subscription))
    }

    /// Whether the reader can go on from the position that it opened with.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.opening_reset.is_none()
    }

    /// The last number delivered.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next delivery; waits for it. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the log says; the cursor stays, so that the call can be made again.
    pub async fn next(&mut self) -> Result<InboxDelivery> {
        if let Some(reset) = self.opening_reset.take() {
            return Ok(reset);
        }
        loop {
            let page = self.log.inbox(&self.principal, self.cursor, PAGE).await?;
            if let Some(reset) = self.reset(&page) {
                return Ok(reset);
            }
            if let Some(last) = page.entries.last() {
                self.cursor = last.seq;
                return Ok(InboxDelivery::Entries(page.entries));
            }
            self.woken.wait(LOOK).await;
        }
    }

    /// Moves the cursor when the page does not follow it: to just before what is kept, so that nothing more is lost.
    fn reset(&mut self, page: &InboxPage) -> Option<InboxDelivery> {
        let reason = if page.epoch != self.epoch || page.head < self.cursor {
            ResetReason::Epoch
        } else if self.cursor + 1 < page.oldest {
            ResetReason::Trimmed
        } else {
            return None;
        };
        (self.epoch, self.cursor) = (page.epoch, page.oldest.saturating_sub(1));
        Some(InboxDelivery::Reset { reason, epoch: self.epoch, head: self.cursor })
    }
}
