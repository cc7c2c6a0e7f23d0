//! What is one user's is nobody else's: every method of every seam that takes a principal, asked by another user.

use super::bench::{Bench, body};
use super::{Backend, cases, usage};
use crate::auth::{SessionRecord, TokenHash};
use crate::clock::Clock as _;
use crate::error::{Error, Kind, Result};
use crate::id::{FileId, SessionId};
use crate::principal::Scopes;
use crate::run::{Live, Position, Signal, Subscription};
use crate::thread::{Role, Share, ThreadMessage, Whose};
use crate::usage::{Attempt, UsageQuery};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

cases!("isolation":
    runs_are_their_users_own,
    threads_are_their_users_own,
    files_are_their_users_own,
    artifacts_are_their_users_own,
    sessions_are_their_users_own,
    usage_is_its_users_own,
);

#[track_caller]
fn hidden<T>(answer: Result<T>) {
    assert_eq!(answer.err().as_ref().map(Error::kind), Some(Kind::NotFound));
}

async fn runs_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let lease = bench.running(&ada).await.lease;
    let runs = &bench.stores.runs;
    hidden(runs.view(&eve, lease.run).await);
    hidden(runs.read(&eve, lease.run, 0, 10).await);
    hidden(runs.signal(&eve, lease.run, Signal::Cancel).await);
    let (log, wakeup) = (Arc::clone(runs), &*bench.stores.wakeup);
    let position = Position::default();
    hidden(
        Subscription::open(log, wakeup, &Live::default(), eve.clone(), lease.run, position).await,
    );
    assert!(runs.inbox(&eve, 0, 10).await.unwrap().entries.is_empty());
    assert_eq!(runs.inbox(&eve, 0, 10).await.unwrap().head, 0);
    bench.complete(&lease, 1).await.unwrap();
    assert!(runs.forget(&eve, lease.thread).await.unwrap().is_empty());
    assert_eq!(runs.view(&ada, lease.run).await.unwrap().head, 2);
    // A run under another's thread id does not open the thread.
    bench.start_in(&eve, lease.thread).await;
    hidden(runs.view(&eve, lease.run).await);
    let mut taken = bench.new_run(lease.thread);
    taken.run = lease.run;
    assert_eq!(runs.start(&eve, taken).await.unwrap_err().kind(), Kind::Conflict);
}

async fn threads_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let (threads, thread) = (&bench.stores.threads, bench.thread());
    let message = ThreadMessage {
        run: bench.new_run(thread).run,
        role: Role::User,
        text: "mine".into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    };
    threads.add(&ada, thread, message.clone()).await.unwrap();
    hidden(threads.add(&eve, thread, message).await);
    hidden(threads.thread(&eve, thread).await);
    hidden(threads.messages(&eve, thread, None, 10).await);
    hidden(threads.delete(&eve, thread).await);
    let with = Share { user: eve.user(), at: bench.clock.now() };
    hidden(threads.share(&eve, thread, with).await);
    hidden(threads.shares(&eve, thread).await);
    hidden(threads.unshare(&eve, thread, eve.user()).await);
    let other = Share { user: bench.user().user(), ..with };
    threads.share(&ada, thread, other).await.unwrap();
    hidden(threads.unshare(&eve, thread, other.user).await);
    hidden(threads.thread(&eve, thread).await);
    assert!(threads.threads(&eve, Whose::Shared, None, 10).await.unwrap().items.is_empty());
    assert!(threads.threads(&eve, Whose::Own, None, 10).await.unwrap().items.is_empty());
    let kept = threads.messages(&ada, thread, None, 10).await.unwrap();
    assert_eq!(kept.items.len(), 1);
}

async fn files_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let (files, file) = (&bench.stores.files, FileId::new(&*bench.clock));
    files.put(&ada, file, "a.csv", body(&[b"mine"])).await.unwrap();
    hidden(files.info(&eve, file).await);
    hidden(files.open(&eve, file).await);
    hidden(files.delete(&eve, file).await);
    assert!(files.list(&eve).await.unwrap().is_empty());
    let taken = files.put(&eve, file, "a.csv", body(&[b"hers"])).await;
    assert_eq!(taken.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(files.info(&ada, file).await.unwrap().bytes, 4);
}

async fn artifacts_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let artifacts = &bench.stores.artifacts;
    let run = bench.new_run(bench.thread()).run;
    let content = Bytes::from_static(b"mine");
    let info = artifacts.put(&ada, run, "report.json", "application/json", content.clone());
    let info = info.await.unwrap();
    hidden(artifacts.read(&eve, info.artifact).await);
    for name in ["report.json", "other.json"] {
        hidden(artifacts.put(&eve, run, name, "text/plain", content.clone()).await);
    }
    assert!(artifacts.list(&eve, run).await.unwrap().is_empty());
    artifacts.delete(&eve, run).await.unwrap();
    assert_eq!(artifacts.read(&ada, info.artifact).await.unwrap(), (info, content));
}

async fn sessions_are_their_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let now = bench.clock.now();
    let session = SessionRecord {
        session: SessionId::new(&*bench.clock),
        user: ada.user(),
        scopes: Scopes::USER,
        method: "dev".into(),
        hash: TokenHash::of("t"),
        expires_at: now.plus(Duration::from_secs(60)),
        refresh: None,
        created_at: now,
        renewed_at: now,
        lapses_at: now.plus(Duration::from_secs(60)),
        ends_at: now.plus(Duration::from_secs(60)),
    };
    let sessions = &bench.stores.sessions;
    sessions.create(session.clone()).await.unwrap();
    hidden(sessions.end(&eve, session.session, now).await);
    assert!(sessions.list(&eve).await.unwrap().is_empty());
    assert_eq!(sessions.find(&session.hash).await.unwrap(), Some(session));
}

async fn usage_is_its_users_own(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve) = (bench.user(), bench.user());
    let (store, run) = (&bench.stores.usage, Some(bench.new_run(bench.thread()).run));
    let attempt = Attempt { run, ..usage::attempt(&bench) };
    store.record(&ada, vec![attempt.clone()]).await.unwrap();
    for run in [None, run] {
        assert!(store.attempts(&eve, run, None, 10).await.unwrap().items.is_empty());
        let query = UsageQuery { run, ..UsageQuery::default() };
        assert!(store.totals(&eve, &query).await.unwrap().is_empty());
    }
    assert_eq!(store.forget(&eve, attempt.at.plus(Duration::from_secs(1))).await.unwrap(), 0);
    let taken = store.record(&eve, vec![attempt.clone()]).await;
    assert_eq!(taken.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.attempts(&ada, run, None, 10).await.unwrap().items, [attempt]);
}
