use crate::connection::{Brought, Opened};
use apex_core::error::Result;
use apex_core::id::Epoch;
use apex_core::principal::Principal;
use apex_core::run::{Position, ResetReason, RunLog, Topic, Wakeup, Woken};
use std::sync::Arc;
use std::time::Duration;

/// The most entries that are read at a time.
const PAGE: usize = 256;

/// How long a reader trusts that no wake-up was lost before it looks by itself.
const LOOK: Duration = Duration::from_secs(20);

/// One reader of one user's inbox: what is there, then what comes.
#[derive(Debug)]
pub(crate) struct InboxReader {
    log: Arc<dyn RunLog>,
    principal: Principal,
    epoch: Epoch,
    cursor: u64,
    woken: Woken,
    behind: bool,
    opening_reset: Option<Brought>,
}

impl InboxReader {
    /// Begins to read after `position`; whoever has read nothing begins at what is left.
    pub(crate) async fn open(
        log: Arc<dyn RunLog>,
        wakeup: &dyn Wakeup,
        principal: Principal,
        position: Position,
    ) -> Result<(Opened, Self)> {
        // Listening begins before the first look: what happens in between wakes the first wait.
        let woken = wakeup.listen(Topic::Inbox(principal.user()));
        let look = log.inbox(&principal, position.after, 1).await?;
        let reason = match position.epoch {
            None => None,
            Some(epoch) if epoch != look.epoch || position.after > look.head => {
                Some(ResetReason::Epoch)
            }
            Some(_) if position.after + 1 < look.oldest => Some(ResetReason::Trimmed),
            Some(_) => None,
        };
        let opened = Opened {
            epoch: look.epoch,
            head: look.head,
            oldest: look.oldest,
            recovered: reason.is_none(),
            state: None,
        };
        let reader = Self {
            log,
            principal,
            epoch: look.epoch,
            cursor: match (reason, position.epoch) {
                (Some(_), _) => look.head,
                (None, None) => look.oldest.saturating_sub(1),
                (None, Some(_)) => position.after,
            },
            woken,
            behind: true,
            opening_reset: reason.map(|reason| Brought::InboxReset {
                reason,
                epoch: look.epoch,
                head: look.head,
            }),
        };
        Ok((opened, reader))
    }

    /// What comes next; waits for it. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Brought> {
        if let Some(reset) = self.opening_reset.take() {
            return Ok(reset);
        }
        loop {
            if self.behind
                && let Some(brought) = self.read().await?
            {
                return Ok(brought);
            }
            self.woken.wait(LOOK).await;
            self.behind = true;
        }
    }

    async fn read(&mut self) -> Result<Option<Brought>> {
        let page = self.log.inbox(&self.principal, self.cursor, PAGE).await?;
        let reason = if page.epoch != self.epoch || page.head < self.cursor {
            Some(ResetReason::Epoch)
        } else if self.cursor + 1 < page.oldest {
            Some(ResetReason::Trimmed)
        } else {
            None
        };
        if let Some(reason) = reason {
            (self.epoch, self.cursor) = (page.epoch, page.head);
            return Ok(Some(Brought::InboxReset {
                reason,
                epoch: page.epoch,
                head: page.head,
            }));
        }
        if let Some(last) = page.entries.last() {
            self.cursor = last.seq;
            return Ok(Some(Brought::Entries(page.epoch, page.entries)));
        }
        self.behind = false;
        Ok(None)
    }
}
