use crate::auth::{AuditEvent, AuditQuery, AuditStore};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::AuditId;
use crate::store::PAGE_ITEMS;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The most events that are kept in memory; the oldest go first.
const KEPT: usize = 100_000;

/// The record of the door, in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryAuditStore {
    pub(super) events: Mutex<BTreeMap<AuditId, AuditEvent>>,
}

#[async_trait]
impl AuditStore for MemoryAuditStore {
    async fn append(&self, new: Vec<AuditEvent>) -> Result<()> {
        let mut events = self.events.lock();
        for event in new {
            events.entry(event.id).or_insert(event);
        }
        while events.len() > KEPT {
            events.pop_first();
        }
        Ok(())
    }

    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditEvent>> {
        let events = self.events.lock();
        Ok(events
            .values()
            .rev()
            .filter(|event| query.before.is_none_or(|before| event.id < before))
            .filter(|event| query.user.is_none() || event.user == query.user)
            .take(query.limit.clamp(1, PAGE_ITEMS))
            .cloned()
            .collect())
    }

    async fn forget(&self, before: Timestamp) -> Result<usize> {
        let mut events = self.events.lock();
        let all = events.len();
        events.retain(|_, event| event.at >= before);
        Ok(all - events.len())
    }
}
