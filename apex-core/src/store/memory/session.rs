use crate::auth::{
    REVOCATIONS_KEPT, Revocation, Rotated, Rotation, SessionRecord, SessionStore, TokenHash,
};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Principal;
use crate::run::{Topic, Wakeup};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Logins in memory.
#[derive(Debug)]
pub(super) struct MemorySessionStore {
    pub(super) logins: Mutex<Logins>,
    wakeup: Arc<dyn Wakeup>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Logins {
    sessions: HashMap<SessionId, SessionRecord>,
    tokens: HashMap<TokenHash, SessionId>,
    families: HashMap<TokenHash, SessionId>,
    revoked: BTreeSet<Revocation>,
}

impl Logins {
    fn keep(&mut self, record: SessionRecord) {
        self.tokens.insert(record.hash, record.session);
        if let Some(refresh) = record.refresh {
            self.families.insert(refresh.family, record.session);
        }
        self.sessions.insert(record.session, record);
    }

    fn take(&mut self, session: SessionId) -> Option<SessionRecord> {
        let record = self.sessions.remove(&session)?;
        self.tokens.remove(&record.hash);
        if let Some(refresh) = record.refresh {
            self.families.remove(&refresh.family);
        }
        Some(record)
    }

    fn of(&self, user: UserId, mut which: impl FnMut(&SessionRecord) -> bool) -> Vec<SessionId> {
        let known = self.sessions.values().filter(|known| known.user == user && which(known));
        known.map(|known| known.session).collect()
    }

    fn revoke(&mut self, revocation: Revocation) {
        let kept = revocation.at.minus(REVOCATIONS_KEPT);
        self.revoked.retain(|known| known.at >= kept);
        self.revoked.insert(revocation);
    }
}

impl MemorySessionStore {
    pub(super) fn new(wakeup: Arc<dyn Wakeup>) -> Self {
        Self { logins: Mutex::default(), wakeup }
    }
}

#[async_trait]
impl SessionStore for MemorySessionStore {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        let mut logins = self.logins.lock();
        let lapsed = logins.of(session.user, |known| known.lapses_at <= session.created_at);
        for session in lapsed {
            logins.take(session);
        }
        logins.keep(session);
        Ok(())
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        let logins = self.logins.lock();
        let session = logins.tokens.get(hash);
        Ok(session.and_then(|session| logins.sessions.get(session)).cloned())
    }

    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>> {
        Ok(self.logins.lock().sessions.get(&session).cloned())
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated> {
        let mut logins = self.logins.lock();
        let session = logins.families.get(&rotation.presented.family).copied();
        let Some(known) = session.and_then(|session| logins.sessions.get(&session)).cloned() else {
            return Ok(Rotated::Unknown);
        };
        let rotated = rotation.decide(known);
        match &rotated {
            Rotated::Renewed(record) => {
                logins.take(record.session);
                logins.keep(record.clone());
            }
            Rotated::Reused(record) => {
                logins.take(record.session);
                let (user, session) = (record.user, Some(record.session));
                logins.revoke(Revocation { at: rotation.now, user, session });
                drop(logins);
                self.wakeup.wake(Topic::Revocations);
            }
            Rotated::Unknown => {}
        }
        Ok(rotated)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let logins = self.logins.lock();
        let of_user = logins.sessions.values().filter(|known| known.user == principal.user());
        let mut found: Vec<SessionRecord> = of_user.cloned().collect();
        found.sort_unstable_by_key(|session| Reverse((session.created_at, session.session)));
        Ok(found)
    }

    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()> {
        let mut logins = self.logins.lock();
        let user = principal.user();
        if logins.sessions.get(&session).is_none_or(|known| known.user != user) {
            return Err(Error::not_found("session.end", "session"));
        }
        logins.take(session);
        logins.revoke(Revocation { at: now, user, session: Some(session) });
        drop(logins);
        self.wakeup.wake(Topic::Revocations);
        Ok(())
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>> {
        let mut logins = self.logins.lock();
        let ended = logins.of(user, |_| true);
        for session in &ended {
            logins.take(*session);
            logins.revoke(Revocation { at: now, user, session: Some(*session) });
        }
        logins.revoke(Revocation { at: now, user, session: None });
        drop(logins);
        self.wakeup.wake(Topic::Revocations);
        Ok(ended)
    }

    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        let logins = self.logins.lock();
        Ok(logins.revoked.iter().filter(|known| known.at >= since).copied().collect())
    }
}
