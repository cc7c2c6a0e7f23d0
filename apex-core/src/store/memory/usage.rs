use super::erase::Erase;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{AttemptId, RunId, UserId};
use crate::principal::{Principal, Scope};
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, page};
use crate::usage::{Attempt, Summing, Total, UsageQuery, UsageStore, attempt_taken, check_batch};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Attempts in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryUsageStore {
    pub(super) attempts: Mutex<HashMap<AttemptId, (UserId, Attempt)>>,
}

impl Erase for MemoryUsageStore {
    fn erase(&self, user: UserId) {
        self.attempts.lock().retain(|_, (owner, _)| *owner != user);
    }
}

#[async_trait]
impl UsageStore for MemoryUsageStore {
    async fn record(&self, principal: &Principal, attempts: Vec<Attempt>) -> Result<()> {
        check_batch(&attempts)?;
        let mut known = self.attempts.lock();
        let user = principal.user();
        let taken =
            |new: &Attempt| known.get(&new.attempt).is_some_and(|(owner, _)| *owner != user);
        if attempts.iter().any(taken) {
            return Err(attempt_taken());
        }
        for attempt in attempts {
            known.entry(attempt.attempt).or_insert((user, attempt));
        }
        Ok(())
    }

    async fn attempts(
        &self,
        principal: &Principal,
        run: Option<RunId>,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Attempt>> {
        principal.require(Scope::Read, "usage.attempts")?;
        let max = max.min(PAGE_ITEMS);
        let place = |attempt: &Attempt| Cursor {
            order: attempt.at.as_millis(),
            id: *attempt.attempt.as_bytes(),
        };
        let after = cursor.map(|cursor| Cursor::decode(cursor, "usage.attempts")).transpose()?;
        let mut found: Vec<Attempt> = self
            .attempts
            .lock()
            .values()
            .filter(|(user, _)| *user == principal.user())
            .map(|(_, attempt)| attempt)
            .filter(|attempt| run.is_none_or(|run| attempt.run == Some(run)))
            .filter(|attempt| after.is_none_or(|after| place(attempt) < after))
            .cloned()
            .collect();
        found.sort_unstable_by_key(|attempt| Reverse(place(attempt)));
        found.truncate(max + 1);
        Ok(page(found, max, place))
    }

    async fn totals(&self, principal: &Principal, query: &UsageQuery) -> Result<Vec<Total>> {
        principal.require(Scope::Read, "usage.totals")?;
        let mut summing = Summing::by(query.by);
        for (user, attempt) in self.attempts.lock().values() {
            if *user == principal.user() && query.takes(attempt) {
                summing.add(attempt);
            }
        }
        Ok(summing.totals())
    }

    async fn forget(&self, principal: &Principal, before: Timestamp) -> Result<u64> {
        principal.require(Scope::Run, "usage.forget")?;
        let mut attempts = self.attempts.lock();
        let known = attempts.len();
        attempts.retain(|_, (user, attempt)| *user != principal.user() || attempt.at >= before);
        Ok((known - attempts.len()) as u64)
    }
}
