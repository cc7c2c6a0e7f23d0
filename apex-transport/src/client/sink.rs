use super::follow::Item;
use apex_core::error::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Where the updates of one stream go.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) updates: mpsc::Sender<Result<Item>>,
    /// Set when an update was left out because its reader was behind; the reader clears it when it has caught up.
    pub(super) behind: Arc<AtomicBool>,
}

/// Why an update was not passed on.
pub(super) enum Unsent {
    /// The reader is behind and will say when it has caught up.
    Behind,
    /// The reader has caught up in the meantime.
    CaughtUp,
    /// The reader is gone.
    Gone,
}

impl Sink {
    pub(super) fn send(&self, update: Result<Item>) -> Result<(), Unsent> {
        match self.updates.try_send(update) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Unsent::Gone),
            Err(TrySendError::Full(_)) => {
                self.behind.store(true, Ordering::SeqCst);
                // A reader that emptied the channel just before that would wait for ever.
                let empty = self.updates.capacity() == self.updates.max_capacity();
                if empty && self.behind.swap(false, Ordering::SeqCst) {
                    Err(Unsent::CaughtUp)
                } else {
                    Err(Unsent::Behind)
                }
            }
        }
    }
}
