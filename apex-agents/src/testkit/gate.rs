use apex_core::error::Result;
use apex_core::id::{ThreadId, UserId};
use apex_core::principal::Principal;
use apex_core::run::{Append, Appended, Claim, Claimed, Lease, RunLog};
use apex_core::store::Stores;
use apex_core::testkit::{Between, Over};
use apex_core::thread::{Paged, Share, Thread, ThreadMessage, ThreadStore, Whose};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// What a node asks of its stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// For runs to work on.
    Claim,
    /// An append that only renews the lease.
    Renew,
    /// An append of events, with or without the state.
    Append,
    /// A message in a conversation.
    Say,
}

/// What may come between a node and its stores.
#[async_trait]
pub trait Gate: fmt::Debug + Send + Sync {
    /// Before a call takes effect: passes, refuses or never returns.
    async fn enter(&self, asks: Asks) -> Result<()>;

    /// After it took effect: its answer comes back, or never.
    async fn leave(&self, _asks: Asks) {}
}

/// Stores behind a gate.
#[derive(Debug, Clone)]
struct Gated {
    stores: Stores,
    gate: Arc<dyn Gate>,
}

/// The same stores as a node sees them through a gate.
#[must_use]
pub fn behind(stores: &Stores, gate: Arc<dyn Gate>) -> Stores {
    let gated = Gated { stores: stores.clone(), gate };
    let runs = Arc::new(Over(gated.clone()));
    Stores { runs, threads: Arc::new(gated), ..stores.clone() }
}

impl Gated {
    async fn pass<T>(&self, asks: Asks, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.gate.enter(asks).await?;
        let answer = call.await;
        self.gate.leave(asks).await;
        answer
    }
}

#[async_trait]
impl Between for Gated {
    fn log(&self) -> &dyn RunLog {
        &*self.stores.runs
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>> {
        self.pass(Asks::Claim, self.stores.runs.claim(claim)).await
    }

    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let asks = match batch.events.is_empty() && batch.checkpoint.is_none() {
            true => Asks::Renew,
            false => Asks::Append,
        };
        self.pass(asks, self.stores.runs.append(lease, batch)).await
    }
}

#[async_trait]
impl ThreadStore for Gated {
    async fn add(
        &self,
        principal: &Principal,
        thread: ThreadId,
        message: ThreadMessage,
    ) -> Result<()> {
        self.pass(Asks::Say, self.stores.threads.add(principal, thread, message)).await
    }

    async fn thread(&self, principal: &Principal, thread: ThreadId) -> Result<Thread> {
        self.stores.threads.thread(principal, thread).await
    }

    async fn threads(
        &self,
        principal: &Principal,
        whose: Whose,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Thread>> {
        self.stores.threads.threads(principal, whose, cursor, max).await
    }

    async fn messages(
        &self,
        principal: &Principal,
        thread: ThreadId,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<ThreadMessage>> {
        self.stores.threads.messages(principal, thread, cursor, max).await
    }

    async fn delete(&self, principal: &Principal, thread: ThreadId) -> Result<()> {
        self.stores.threads.delete(principal, thread).await
    }

    async fn share(&self, principal: &Principal, thread: ThreadId, with: Share) -> Result<()> {
        self.stores.threads.share(principal, thread, with).await
    }

    async fn unshare(&self, principal: &Principal, thread: ThreadId, user: UserId) -> Result<()> {
        self.stores.threads.unshare(principal, thread, user).await
    }

    async fn shares(&self, principal: &Principal, thread: ThreadId) -> Result<Vec<Share>> {
        self.stores.threads.shares(principal, thread).await
    }
}
