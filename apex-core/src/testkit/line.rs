//! Stores at the other end of a [`Line`]: every call of every seam goes over it, to the store and back, so that a test
//! decides what is late, what is lost, and whether it was lost before it took effect or after.

use crate::auth::{
    AuditEvent, AuditQuery, AuditStore, Revocation, Rotated, Rotation, SessionRecord, SessionStore,
    TicketRecord, TicketStore, TokenHash, User, UserChange, UserStore,
};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::file::{ArtifactInfo, ArtifactStore, Body, Content, FileInfo, FileStore};
use crate::id::{ArtifactId, FileId, RunId, SessionId, ThreadId, UserId};
use crate::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use crate::principal::Principal;
use crate::run::{
    Append, Appended, Claim, Claimed, InboxPage, Lease, NewRun, Page, RunLog, RunState, RunView,
    Signal, Started,
};
use crate::store::Stores;
use crate::thread::{Paged, Share, Thread, ThreadMessage, ThreadStore, Whose};
use crate::usage::{Attempt, Total, UsageQuery, UsageStore};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What lies between a caller and its stores.
#[async_trait]
pub trait Line: fmt::Debug + Send + Sync {
    /// The way of a call to the store: it arrives, late perhaps, or does not.
    ///
    /// # Errors
    /// What the caller is told of a call that did not arrive.
    async fn to(&self) -> Result<()>;

    /// The way of the answer.
    ///
    /// # Errors
    /// What the caller is told of an answer that did not arrive; the call has taken effect.
    async fn back(&self) -> Result<()>;

    /// Carries an append to its end that is on its way, also when nobody waits for it any more.
    fn carry(&self, append: BoxFuture<'static, ()>);

    /// What the writer is told of an append.
    ///
    /// # Errors
    /// As the store said, where this line tells the truth.
    fn told(&self, _lease: &Lease, _batch: &Append, answer: Result<Appended>) -> Result<Appended> {
        answer
    }
}

/// The same stores at the other end of a line.
#[must_use]
pub fn over(stores: Stores, line: &Arc<dyn Line>) -> Stores {
    Stores {
        runs: Arc::new(Runs { store: stores.runs, line: Arc::clone(line) }),
        threads: Arc::new(Threads { store: stores.threads, line: Arc::clone(line) }),
        files: Arc::new(Files { store: stores.files, line: Arc::clone(line) }),
        artifacts: Arc::new(Artifacts { store: stores.artifacts, line: Arc::clone(line) }),
        tickets: Arc::new(Tickets { store: stores.tickets, line: Arc::clone(line) }),
        sessions: Arc::new(Sessions { store: stores.sessions, line: Arc::clone(line) }),
        users: Arc::new(Users { store: stores.users, line: Arc::clone(line) }),
        audit: Arc::new(Audit { store: stores.audit, line: Arc::clone(line) }),
        limits: Arc::new(Limits { store: stores.limits, line: Arc::clone(line) }),
        usage: Arc::new(Usage { store: stores.usage, line: Arc::clone(line) }),
        ..stores
    }
}

async fn pass<T>(line: &dyn Line, call: impl Future<Output = Result<T>>) -> Result<T> {
    line.to().await?;
    let answer = call.await;
    line.back().await?;
    answer
}

/// One seam at the other end of a line.
macro_rules! seam {
    ($name:ident: $seam:ident { $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* } $($other:tt)*) => {
        #[derive(Debug)]
        struct $name {
            store: Arc<dyn $seam>,
            line: Arc<dyn Line>,
        }

        #[async_trait]
        impl $seam for $name {
            $(async fn $method(&self, $($argument: $type),*) -> Result<$answer> {
                pass(&*self.line, self.store.$method($($argument),*)).await
            })*
            $($other)*
        }
    };
}

seam!(Runs: RunLog {
    start(principal: &Principal, run: NewRun) -> Started;
    begun(principal: &Principal, run: &NewRun) -> Option<Started>;
    claim(claim: Claim) -> Vec<Claimed>;
    queued() -> Option<u64>;
    signal(principal: &Principal, run: RunId, signal: Signal) -> RunState;
    view(principal: &Principal, run: RunId) -> RunView;
    read(principal: &Principal, run: RunId, after: u64, max: usize) -> Page;
    inbox(principal: &Principal, after: u64, max: usize) -> InboxPage;
    forget(principal: &Principal, thread: ThreadId) -> Vec<RunId>;
}
    async fn append(&self, lease: &Lease, batch: Append) -> Result<Appended> {
        let (tell, told) = oneshot::channel();
        let (store, line) = (Arc::clone(&self.store), Arc::clone(&self.line));
        let (held, sent) = (lease.clone(), batch.clone());
        self.line.carry(Box::pin(async move {
            let answer = match line.to().await {
                Ok(()) => store.append(&held, sent).await,
                Err(lost) => Err(lost),
            };
            // Whoever waited may have given up.
            let _ = tell.send(answer);
        }));
        let lost = || Error::new(Kind::Unavailable, "run_log.append", "the store does not answer");
        let answer = told.await.unwrap_or_else(|_| Err(lost()));
        if answer.is_ok() {
            self.line.back().await?;
        }
        self.line.told(lease, &batch, answer)
    }
);

seam!(Threads: ThreadStore {
    add(principal: &Principal, thread: ThreadId, message: ThreadMessage) -> ();
    thread(principal: &Principal, thread: ThreadId) -> Thread;
    threads(principal: &Principal, whose: Whose, cursor: Option<&str>, max: usize) -> Paged<Thread>;
    messages(principal: &Principal, thread: ThreadId, cursor: Option<&str>, max: usize) -> Paged<ThreadMessage>;
    delete(principal: &Principal, thread: ThreadId) -> ();
    share(principal: &Principal, thread: ThreadId, with: Share) -> ();
    unshare(principal: &Principal, thread: ThreadId, user: UserId) -> ();
    shares(principal: &Principal, thread: ThreadId) -> Vec<Share>;
});

seam!(Files: FileStore {
    put(principal: &Principal, file: FileId, name: &str, body: Body) -> FileInfo;
    list(principal: &Principal) -> Vec<FileInfo>;
    info(principal: &Principal, file: FileId) -> FileInfo;
    open(principal: &Principal, file: FileId) -> Content;
    delete(principal: &Principal, file: FileId) -> ();
});

seam!(Artifacts: ArtifactStore {
    put(principal: &Principal, run: RunId, name: &str, media_type: &str, content: Bytes) -> ArtifactInfo;
    list(principal: &Principal, run: RunId) -> Vec<ArtifactInfo>;
    read(principal: &Principal, artifact: ArtifactId) -> (ArtifactInfo, Bytes);
    delete(principal: &Principal, run: RunId) -> ();
});

seam!(Tickets: TicketStore {
    issue(ticket: TicketRecord, now: Timestamp, most_unused: usize) -> ();
    redeem(hash: &TokenHash) -> Option<TicketRecord>;
});

seam!(Sessions: SessionStore {
    create(session: SessionRecord) -> ();
    find(hash: &TokenHash) -> Option<SessionRecord>;
    session(session: SessionId) -> Option<SessionRecord>;
    rotate(rotation: Rotation) -> Rotated;
    list(principal: &Principal) -> Vec<SessionRecord>;
    end(principal: &Principal, session: SessionId, now: Timestamp) -> ();
    end_all(user: UserId, now: Timestamp) -> Vec<SessionId>;
    revoked(since: Timestamp) -> Vec<Revocation>;
});

seam!(Users: UserStore {
    resolve(subject: &str, new: User) -> User;
    link(user: UserId, subject: &str) -> ();
    subjects(user: UserId) -> Vec<String>;
    user(user: UserId) -> User;
    change(user: UserId, change: UserChange) -> User;
    erase(user: UserId) -> ();
});

seam!(Audit: AuditStore {
    append(events: Vec<AuditEvent>) -> ();
    list(query: AuditQuery) -> Vec<AuditEvent>;
    forget(before: Timestamp) -> usize;
});

seam!(Limits: LimitStore {
    hold(place: &Place, life: Duration) -> Grant;
    renew(places: &[Place], life: Duration) -> Vec<Place>;
    release(place: &Place) -> ();
    take(key: &LimitKey, rate: Rate, count: u32) -> Grant;
});

seam!(Usage: UsageStore {
    record(principal: &Principal, attempts: Vec<Attempt>) -> ();
    attempts(principal: &Principal, run: Option<RunId>, cursor: Option<&str>, max: usize) -> Paged<Attempt>;
    totals(principal: &Principal, query: &UsageQuery) -> Vec<Total>;
    forget(principal: &Principal, before: Timestamp) -> u64;
});

/// A line on which nothing is ever late or lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sound;

#[async_trait]
impl Line for Sound {
    async fn to(&self) -> Result<()> {
        Ok(())
    }

    async fn back(&self) -> Result<()> {
        Ok(())
    }

    fn carry(&self, append: BoxFuture<'static, ()>) {
        tokio::spawn(append);
    }
}
