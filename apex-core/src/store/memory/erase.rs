use crate::error::{Error, Result};
use crate::id::UserId;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;

/// A store that forgets users.
pub(super) trait Erase: fmt::Debug + Send + Sync {
    /// Drops all that is kept of a user.
    fn erase(&self, user: UserId);
}

/// Who was erased: what is still under way in their name is not taken in any more.
#[derive(Debug, Default)]
pub(super) struct Erased(pub(super) Mutex<HashSet<UserId>>);

impl Erased {
    pub(super) fn add(&self, user: UserId) {
        self.0.lock().insert(user);
    }

    /// Passes for a user who was not; asked under the lock of what is written, so that an erasure finds what passed.
    pub(super) fn refuse(&self, user: UserId, operation: &'static str) -> Result<()> {
        if self.0.lock().contains(&user) {
            return Err(Error::not_found(operation, "user"));
        }
        Ok(())
    }
}
