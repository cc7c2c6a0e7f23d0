use crate::auth::{SessionRecord, SessionStore, TokenHash};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::principal::Principal;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Logins in memory.
#[derive(Debug, Default)]
pub(super) struct MemorySessionStore {
    sessions: Mutex<HashMap<TokenHash, SessionRecord>>,
}

#[async_trait]
impl SessionStore for MemorySessionStore {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        let mut sessions = self.sessions.lock();
        sessions
            .retain(|_, known| known.user != session.user || known.expires_at > session.created_at);
        sessions.insert(session.hash, session);
        Ok(())
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        Ok(self.sessions.lock().get(hash).cloned())
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let mut found: Vec<SessionRecord> = self
            .sessions
            .lock()
            .values()
            .filter(|session| session.user == principal.user())
            .cloned()
            .collect();
        found.sort_unstable_by_key(|session| Reverse((session.created_at, session.session)));
        Ok(found)
    }

    async fn end(&self, principal: &Principal, session: SessionId) -> Result<()> {
        let mut sessions = self.sessions.lock();
        let before = sessions.len();
        sessions.retain(|_, known| known.user != principal.user() || known.session != session);
        if sessions.len() == before {
            return Err(Error::not_found("session.end", "session"));
        }
        Ok(())
    }
}
