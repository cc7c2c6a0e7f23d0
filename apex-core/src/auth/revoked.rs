use super::session::{REVOCATIONS_KEPT, Revocation, SessionStore};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::id::{SessionId, UserId};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How far back a look goes beyond the last thing seen: clocks differ, and what was written earlier may show later.
const OVERLAP: Duration = Duration::from_secs(2 * 60);

/// What has been revoked, as far as this process knows: from its own revocations and from its looks into the store.
#[derive(Debug, Clone)]
pub(super) struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sessions: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeSet<Revocation>,
    sessions: HashMap<SessionId, Timestamp>,
    users: HashMap<UserId, Timestamp>,
    /// In the order in which they became known, for those who close connections.
    news: VecDeque<Revocation>,
    /// How many have left `news` at its front.
    told: u64,
    looked: Option<Instant>,
}

impl Known {
    fn add(&mut self, revocation: Revocation) {
        if !self.all.insert(revocation) {
            return;
        }
        match revocation.session {
            Some(session) => {
                self.sessions.insert(session, revocation.at);
            }
            None => {
                let at = self.users.entry(revocation.user).or_insert(revocation.at);
                *at = revocation.at.max(*at);
            }
        }
        self.news.push_back(revocation);
    }

    fn forget(&mut self, before: Timestamp) {
        if self.all.first().is_none_or(|oldest| oldest.at >= before) {
            return;
        }
        self.all.retain(|known| known.at >= before);
        self.sessions.retain(|_, at| *at >= before);
        self.users.retain(|_, at| *at >= before);
        while self.news.front().is_some_and(|front| front.at < before) {
            self.news.pop_front();
            self.told += 1;
        }
    }
}

impl Revocations {
    pub(super) fn new(sessions: Arc<dyn SessionStore>, clock: Arc<dyn Clock>) -> Self {
        let (known, looking) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Self(Arc::new(Inner { sessions, clock, known, looking }))
    }

    /// Notes a revocation of this process's own.
    pub(super) fn note(&self, revocation: Revocation) {
        self.0.known.lock().add(revocation);
    }

    /// Whether a token of that login or user, made at that time, is worth nothing any more.
    #[cfg(feature = "jwt")]
    pub(super) fn covers(
        &self,
        user: UserId,
        session: Option<SessionId>,
        made_at: Timestamp,
    ) -> bool {
        let known = self.0.known.lock();
        let all = known.users.get(&user).map(|at| Revocation { at: *at, user, session: None });
        match session {
            Some(session) => {
                known.sessions.contains_key(&session)
                    || all.is_some_and(|all| all.covers(user, session))
            }
            None => all.is_some_and(|all| made_at <= all.at),
        }
    }

    /// Looks into the store.
    pub(super) async fn look(&self) -> Result<()> {
        let _turn = self.0.looking.lock().await;
        let now = self.0.clock.now();
        let oldest = now.minus(REVOCATIONS_KEPT);
        let since = {
            let known = self.0.known.lock();
            let last = known.all.last().map(|last| last.at.min(now));
            // Before the first look, what this process noted itself says nothing about the others.
            match (known.looked, last) {
                (Some(_), Some(last)) => last.minus(OVERLAP).max(oldest),
                _ => oldest,
            }
        };
        let found = self.0.sessions.revoked(since).await?;
        let mut known = self.0.known.lock();
        for revocation in found {
            known.add(revocation);
        }
        known.forget(oldest);
        known.looked = Some(Instant::now());
        Ok(())
    }

    /// How long ago the store was last looked into; `None` for never.
    #[cfg(feature = "jwt")]
    pub(super) fn age(&self) -> Option<Duration> {
        self.0.known.lock().looked.map(|looked| looked.elapsed())
    }
}

/// Follows what is revoked, to close connections.
#[derive(Debug)]
pub struct RevocationWatch {
    revocations: Revocations,
    began: Timestamp,
    next: u64,
}

impl RevocationWatch {
    pub(super) fn new(revocations: Revocations) -> Self {
        let began = revocations.0.clock.now();
        Self { revocations, began, next: 0 }
    }

    /// Looks into the store; what was revoked since the last call, each once. What was revoked well before the watch
    /// began is left out: whoever came in since then was verified against it.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`; what this process has revoked itself comes with the next call.
    pub async fn look(&mut self) -> Result<Vec<Revocation>> {
        self.revocations.look().await?;
        let known = self.revocations.0.known.lock();
        let skip = usize::try_from(self.next.saturating_sub(known.told)).unwrap_or(usize::MAX);
        self.next = known.told + known.news.len() as u64;
        let oldest = self.began.minus(OVERLAP);
        let news = known.news.iter().skip(skip);
        Ok(news.filter(|revocation| revocation.at >= oldest).copied().collect())
    }
}
