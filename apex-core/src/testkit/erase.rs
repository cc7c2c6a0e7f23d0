//! A user who is erased is gone with all that is theirs, and nobody else is touched.

use super::bench::{Bench, body, thought};
use super::{Backend, cases, usage};
use crate::auth::{Standing, User};
use crate::budget::{BudgetLimits, Charge, Reservation};
use crate::clock::Clock as _;
use crate::error::{Error, Kind, Result};
use crate::id::{ArtifactId, FileId, ReservationId};
use crate::memory::Note;
use crate::principal::{Principal, Scopes};
use crate::run::Position;
use crate::thread::{Role, Share, ThreadMessage, Whose};
use crate::usage::{Attempt, UsageQuery};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

cases!("erase":
    all_of_an_erased_user_is_gone_and_nothing_of_others,
    nothing_more_is_begun_in_the_name_of_an_erased_user,
    a_run_under_way_is_fenced_off,
);

#[track_caller]
fn hidden<T>(answer: Result<T>) {
    assert_eq!(answer.err().as_ref().map(Error::kind), Some(Kind::NotFound));
}

pub(super) async fn account(bench: &Bench, subject: &str) -> Principal {
    let user = bench.user();
    let new = User {
        user: user.user(),
        scopes: Scopes::USER,
        created_at: bench.clock.now(),
        standing: Standing::Active,
    };
    bench.stores.users.resolve(subject, new).await.unwrap();
    user
}

/// One of everything.
pub(super) struct Theirs {
    pub(super) lease: crate::run::Lease,
    pub(super) ended: crate::run::Lease,
    pub(super) file: FileId,
    pub(super) artifact: ArtifactId,
}

fn said(bench: &Bench, lease: &crate::run::Lease) -> ThreadMessage {
    ThreadMessage {
        run: lease.run,
        role: Role::User,
        text: "mine".into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    }
}

pub(super) async fn fill(bench: &Bench, user: &Principal) -> Theirs {
    let stores = &bench.stores;
    let ended = bench.running(user).await.lease;
    bench.append(&ended, 1, vec![thought(10)], None).await.unwrap();
    bench.complete(&ended, 2).await.unwrap();
    let lease = bench.running(user).await.lease;
    for lease in [&ended, &lease] {
        stores.threads.add(user, lease.thread, said(bench, lease)).await.unwrap();
    }
    let file = FileId::new(&*bench.clock);
    stores.files.put(user, file, "a.csv", body(&[b"mine"])).await.unwrap();
    let content = Bytes::from_static(b"{}");
    let made = stores.artifacts.put(user, ended.run, "report.json", "application/json", content);
    let artifact = made.await.unwrap().artifact;
    let attempt = Attempt { run: Some(ended.run), ..usage::attempt(bench) };
    stores.usage.record(user, vec![attempt]).await.unwrap();
    stores.memory.keep(user, note(bench)).await.unwrap();
    let spent = Charge { tokens: 7, ..Charge::default() };
    stores.budgets.settle(user, ReservationId::new(&*bench.clock), spent).await.unwrap();
    Theirs { lease, ended, file, artifact }
}

fn note(bench: &Bench) -> Note {
    Note { name: "city".into(), text: "Graz".into(), run: None, at: bench.clock.now() }
}

async fn spent(bench: &Bench, user: &Principal) -> u64 {
    bench.stores.budgets.used(user).await.unwrap()[1].spent.tokens
}

async fn all_of_an_erased_user_is_gone_and_nothing_of_others(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (account(&bench, "dev:ada").await, account(&bench, "dev:bob").await);
    let (hers, his) = (fill(&bench, &ada).await, fill(&bench, &bob).await);
    let stores = &bench.stores;
    let with = |user: &Principal| Share { user: user.user(), at: bench.clock.now() };
    stores.threads.share(&ada, hers.lease.thread, with(&bob)).await.unwrap();
    stores.threads.share(&bob, his.lease.thread, with(&ada)).await.unwrap();
    let mut following = bench.subscribe(&bob, hers.lease.run, Position::default()).await;
    following.next().await.unwrap();
    let waiting = tokio::spawn(async move { following.next().await });
    for _ in 0..2 {
        stores.users.erase(ada.user()).await.unwrap();
    }
    let told = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    hidden(told.expect("nobody was woken").unwrap());
    for lease in [&hers.lease, &hers.ended] {
        hidden(stores.threads.thread(&ada, lease.thread).await);
        hidden(stores.threads.messages(&ada, lease.thread, None, 10).await);
        hidden(stores.runs.view(&ada, lease.run).await);
        hidden(stores.runs.read(&ada, lease.run, 0, 10).await);
    }
    for whose in [Whose::Own, Whose::Shared] {
        assert!(stores.threads.threads(&ada, whose, None, 10).await.unwrap().items.is_empty());
    }
    assert!(stores.runs.inbox(&ada, 0, 10).await.unwrap().entries.is_empty());
    assert!(stores.files.list(&ada).await.unwrap().is_empty());
    hidden(stores.files.open(&ada, hers.file).await);
    hidden(stores.artifacts.read(&ada, hers.artifact).await);
    assert!(stores.usage.totals(&ada, &UsageQuery::default()).await.unwrap().is_empty());
    assert_eq!(spent(&bench, &ada).await, 0);
    assert_eq!(stores.memory.notes(&ada).await.unwrap(), []);

    assert_eq!(stores.threads.shares(&bob, his.lease.thread).await.unwrap(), []);
    assert!(stores.threads.threads(&bob, Whose::Shared, None, 10).await.unwrap().items.is_empty());
    let own = stores.threads.threads(&bob, Whose::Own, None, 10).await.unwrap();
    assert_eq!(own.items.len(), 2);
    assert_eq!(stores.runs.view(&bob, his.ended.run).await.unwrap().head, 3);
    assert_eq!(stores.files.info(&bob, his.file).await.unwrap().bytes, 4);
    assert_eq!(stores.artifacts.read(&bob, his.artifact).await.unwrap().1, "{}");
    assert_eq!(stores.usage.totals(&bob, &UsageQuery::default()).await.unwrap().len(), 1);
    assert_eq!(spent(&bench, &bob).await, 7);
    assert_eq!(stores.memory.notes(&bob).await.unwrap().len(), 1);
    bench.complete(&his.lease, 1).await.unwrap();
}

async fn nothing_more_is_begun_in_the_name_of_an_erased_user(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let ada = account(&bench, "dev:ada").await;
    let theirs = fill(&bench, &ada).await;
    let stores = &bench.stores;
    stores.users.erase(ada.user()).await.unwrap();
    hidden(stores.runs.start(&ada, bench.new_run(bench.thread())).await);
    let lease = &theirs.lease;
    hidden(stores.threads.add(&ada, lease.thread, said(&bench, lease)).await);
    hidden(stores.files.put(&ada, FileId::new(&*bench.clock), "a", body(&[b"x"])).await);
    hidden(stores.artifacts.put(&ada, lease.run, "b", "text/plain", Bytes::new()).await);
    let asked = Reservation { id: ReservationId::new(&*bench.clock), most: Charge::default() };
    let limits = BudgetLimits::default();
    hidden(stores.budgets.reserve(&ada, asked, &limits, Duration::from_secs(60)).await);
    hidden(stores.memory.keep(&ada, note(&bench)).await);
    let late = Charge { tokens: 7, ..Charge::default() };
    stores.budgets.settle(&ada, asked.id, late).await.unwrap();
    assert_eq!(spent(&bench, &ada).await, 0);
    assert!(stores.files.list(&ada).await.unwrap().is_empty());
    assert!(stores.artifacts.list(&ada, lease.run).await.unwrap().is_empty());
}

async fn a_run_under_way_is_fenced_off(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let ada = account(&bench, "dev:ada").await;
    let lease = bench.running(&ada).await.lease;
    bench.append(&lease, 1, vec![thought(10)], None).await.unwrap();
    bench.stores.users.erase(ada.user()).await.unwrap();
    let late = bench.append(&lease, 2, vec![thought(10)], None).await;
    assert_eq!(late.unwrap_err().kind(), Kind::Fenced);
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}
