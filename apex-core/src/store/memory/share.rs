use crate::error::{Error, Result};
use crate::id::{ThreadId, UserId};
use crate::principal::Principal;
use crate::thread::{Share, check_share};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// With whom conversations are shared: the conversations, the run log and the artifacts ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares(pub(super) Arc<Mutex<HashMap<ThreadId, Sharing>>>);

#[derive(Debug, Clone)]
pub(super) struct Sharing {
    owner: UserId,
    with: BTreeMap<UserId, Share>,
}

impl Shares {
    /// Whether `reader` may read what `owner` has in a conversation.
    pub(super) fn open(&self, thread: ThreadId, owner: UserId, reader: UserId) -> bool {
        owner == reader
            || self
                .0
                .lock()
                .get(&thread)
                .is_some_and(|sharing| sharing.owner == owner && sharing.with.contains_key(&reader))
    }

    pub(super) fn add(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()> {
        let mut all = self.0.lock();
        let others = all.get(&thread).map_or(0, |sharing| {
            sharing.with.len() - usize::from(sharing.with.contains_key(&with.user))
        });
        check_share(principal, &with, others)?;
        let new = || Sharing { owner: principal.user(), with: BTreeMap::new() };
        all.entry(thread).or_insert_with(new).with.entry(with.user).or_insert(with);
        Ok(())
    }

    /// Ends a share, as its owner or as its reader; whose conversation it was.
    pub(super) fn end(
        &self,
        principal: &Principal,
        thread: ThreadId,
        user: UserId,
    ) -> Result<UserId> {
        let mut all = self.0.lock();
        let sharing = all
            .get_mut(&thread)
            .filter(|sharing| principal.user() == sharing.owner || principal.user() == user);
        let ended = sharing.and_then(|sharing| sharing.with.remove(&user).map(|_| sharing.owner));
        ended.ok_or_else(|| Error::not_found("thread.unshare", "share"))
    }

    pub(super) fn of(&self, thread: ThreadId) -> Vec<Share> {
        let all = self.0.lock();
        all.get(&thread).into_iter().flat_map(|sharing| sharing.with.values()).copied().collect()
    }

    pub(super) fn forget(&self, thread: ThreadId) {
        self.0.lock().remove(&thread);
    }

    /// Drops what was shared by a user, and with them.
    pub(super) fn erase(&self, user: UserId) {
        let mut all = self.0.lock();
        all.retain(|_, sharing| sharing.owner != user);
        for sharing in all.values_mut() {
            sharing.with.remove(&user);
        }
    }
}
