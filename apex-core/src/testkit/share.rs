//! What sharing a conversation opens, and what it does not.

use super::bench::{Bench, body};
use super::{Backend, cases};
use crate::clock::Clock as _;
use crate::error::{Error, Kind, Result};
use crate::id::{FileId, ThreadId, UserId};
use crate::principal::{Principal, Scope, Scopes};
use crate::run::{Delivery, Position, Signal};
use crate::thread::{MOST_SHARES, Role, Share, ThreadMessage, Whose};
use crate::usage::UsageQuery;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

cases!("share":
    whom_it_is_shared_with_reads_all_of_a_conversation,
    sharing_lets_nobody_change_anything,
    a_share_opens_one_conversation_of_one_owner,
    what_is_taken_back_is_read_no_further,
    shares_are_listed_and_bounded,
    a_deleted_conversation_is_shared_no_more,
    reading_and_changing_need_their_scopes,
);

#[track_caller]
fn refused<T>(answer: Result<T>, kind: Kind) {
    assert_eq!(answer.err().as_ref().map(Error::kind), Some(kind));
}

#[track_caller]
fn hidden<T>(answer: Result<T>) {
    refused(answer, Kind::NotFound);
}

fn with(bench: &Bench, user: &Principal) -> Share {
    Share { user: user.user(), at: bench.clock.now() }
}

/// A conversation with something said in it.
async fn conversation(bench: &Bench, owner: &Principal) -> ThreadId {
    let thread = bench.thread();
    say(bench, owner, thread).await;
    thread
}

async fn say(bench: &Bench, owner: &Principal, thread: ThreadId) {
    let said = ThreadMessage {
        run: bench.new_run(thread).run,
        role: Role::User,
        text: "mine".into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    };
    bench.stores.threads.add(owner, thread, said).await.unwrap();
}

async fn whom_it_is_shared_with_reads_all_of_a_conversation(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user(), bench.user());
    let lease = bench.running(&ada).await.lease;
    let (run, thread) = (lease.run, lease.thread);
    say(&bench, &ada, thread).await;
    let (runs, artifacts) = (&bench.stores.runs, &bench.stores.artifacts);
    let content = Bytes::from_static(b"{}");
    let made = artifacts.put(&ada, run, "report.json", "application/json", content.clone());
    let made = made.await.unwrap();
    let threads = &bench.stores.threads;
    for _ in 0..2 {
        threads.share(&ada, thread, with(&bench, &bob)).await.unwrap();
    }
    let seen = threads.thread(&bob, thread).await.unwrap();
    assert_eq!(seen, threads.thread(&ada, thread).await.unwrap());
    assert_eq!(seen.owner, ada.user());
    assert_eq!(threads.messages(&bob, thread, None, 10).await.unwrap().items.len(), 1);
    assert_eq!(runs.view(&bob, run).await.unwrap(), runs.view(&ada, run).await.unwrap());
    assert_eq!(runs.read(&bob, run, 0, 10).await.unwrap().events.len(), 1);
    assert_eq!(artifacts.list(&bob, run).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(artifacts.read(&bob, made.artifact).await.unwrap(), (made, content));
    // Live, to the end.
    let mut following = bench.subscribe(&bob, run, Position::default()).await;
    assert!(matches!(following.next().await.unwrap(), Delivery::Events(_)));
    bench.complete(&lease, 1).await.unwrap();
    let Delivery::Events(events) = following.next().await.unwrap() else { panic!("no end") };
    assert!(events.last().unwrap().terminal);
    // It stands among what is shared, and not among one's own.
    let own = threads.threads(&bob, Whose::Own, None, 10).await.unwrap();
    assert!(own.items.is_empty());
    assert_eq!(threads.threads(&bob, Whose::Shared, None, 10).await.unwrap().items, [seen]);
    assert!(threads.threads(&ada, Whose::Shared, None, 10).await.unwrap().items.is_empty());
}

async fn sharing_lets_nobody_change_anything(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob, cleo) = (bench.user(), bench.user(), bench.user());
    let lease = bench.running(&ada).await.lease;
    let (run, thread) = (lease.run, lease.thread);
    say(&bench, &ada, thread).await;
    let stores = &bench.stores;
    let file = FileId::new(&*bench.clock);
    stores.files.put(&ada, file, "a.csv", body(&[b"mine"])).await.unwrap();
    let content = Bytes::from_static(b"{}");
    let made = stores.artifacts.put(&ada, run, "a", "text/plain", content.clone()).await.unwrap();
    stores.threads.share(&ada, thread, with(&bench, &bob)).await.unwrap();
    let said = ThreadMessage {
        run,
        role: Role::Assistant,
        text: "hers".into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    };
    hidden(stores.threads.add(&bob, thread, said).await);
    hidden(stores.threads.delete(&bob, thread).await);
    hidden(stores.threads.share(&bob, thread, with(&bench, &cleo)).await);
    hidden(stores.threads.shares(&bob, thread).await);
    hidden(stores.threads.unshare(&bob, thread, cleo.user()).await);
    hidden(stores.runs.signal(&bob, run, Signal::Cancel).await);
    hidden(stores.artifacts.put(&bob, run, "a", "text/plain", content).await);
    stores.artifacts.delete(&bob, run).await.unwrap();
    assert_eq!(stores.artifacts.list(&ada, run).await.unwrap(), [made]);
    assert!(stores.runs.forget(&bob, thread).await.unwrap().is_empty());
    assert_eq!(stores.runs.inbox(&bob, 0, 10).await.unwrap().head, 0);
    // Files and usage are no part of a conversation.
    hidden(stores.files.info(&bob, file).await);
    hidden(stores.files.open(&bob, file).await);
    let query = UsageQuery { run: Some(run), ..UsageQuery::default() };
    assert!(stores.usage.totals(&bob, &query).await.unwrap().is_empty());
}

async fn a_share_opens_one_conversation_of_one_owner(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob, eve) = (bench.user(), bench.user(), bench.user());
    let threads = &bench.stores.threads;
    let (shared, other) = (conversation(&bench, &ada).await, conversation(&bench, &ada).await);
    threads.share(&ada, shared, with(&bench, &bob)).await.unwrap();
    hidden(threads.thread(&bob, other).await);
    hidden(threads.messages(&bob, other, None, 10).await);
    hidden(threads.thread(&eve, shared).await);
    hidden(threads.messages(&eve, shared, None, 10).await);
    hidden(threads.share(&eve, other, with(&bench, &bob)).await);
    // A run of somebody else's that carries the id of the conversation is not shared with it.
    let run = bench.start_in(&eve, shared).await.run;
    hidden(bench.stores.runs.view(&bob, run).await);
    hidden(bench.stores.runs.view(&ada, run).await);
    hidden(bench.stores.runs.read(&bob, run, 0, 10).await);
}

async fn what_is_taken_back_is_read_no_further(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user(), bench.user());
    let lease = bench.running(&ada).await.lease;
    let (run, thread, threads) = (lease.run, lease.thread, &bench.stores.threads);
    say(&bench, &ada, thread).await;
    threads.share(&ada, thread, with(&bench, &bob)).await.unwrap();
    let mut following = bench.subscribe(&bob, run, Position::default()).await;
    assert!(matches!(following.next().await.unwrap(), Delivery::Events(_)));
    let waiting = tokio::spawn(async move { following.next().await });
    threads.unshare(&ada, thread, bob.user()).await.unwrap();
    // The look that every reader makes by itself comes after 20 s.
    let told = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    hidden(told.expect("nobody was woken").unwrap());
    hidden(bench.stores.runs.view(&bob, run).await);
    hidden(threads.thread(&bob, thread).await);
    assert!(threads.threads(&bob, Whose::Shared, None, 10).await.unwrap().items.is_empty());
    hidden(threads.unshare(&ada, thread, bob.user()).await);
    // Who was given it may leave it.
    threads.share(&ada, thread, with(&bench, &bob)).await.unwrap();
    threads.unshare(&bob, thread, bob.user()).await.unwrap();
    hidden(threads.thread(&bob, thread).await);
    assert_eq!(threads.thread(&ada, thread).await.unwrap().owner, ada.user());
}

async fn shares_are_listed_and_bounded(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, threads) = (bench.user(), &bench.stores.threads);
    let thread = conversation(&bench, &ada).await;
    assert!(threads.shares(&ada, thread).await.unwrap().is_empty());
    let mut made = Vec::new();
    for _ in 0..MOST_SHARES {
        bench.clock.advance(Duration::from_millis(1));
        let share = Share { user: UserId::new(&*bench.clock), at: bench.clock.now() };
        threads.share(&ada, thread, share).await.unwrap();
        made.push(share);
    }
    let more = Share { user: UserId::new(&*bench.clock), at: bench.clock.now() };
    refused(threads.share(&ada, thread, more).await, Kind::TooLarge);
    // Again is no more.
    threads.share(&ada, thread, Share { at: more.at, ..made[0] }).await.unwrap();
    made.sort_unstable_by_key(|share| share.user);
    assert_eq!(threads.shares(&ada, thread).await.unwrap(), made);
    threads.unshare(&ada, thread, made[0].user).await.unwrap();
    threads.share(&ada, thread, more).await.unwrap();
    refused(threads.share(&ada, thread, with(&bench, &ada)).await, Kind::BadRequest);
}

async fn a_deleted_conversation_is_shared_no_more(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob, threads) = (bench.user(), bench.user(), &bench.stores.threads);
    let thread = conversation(&bench, &ada).await;
    threads.share(&ada, thread, with(&bench, &bob)).await.unwrap();
    threads.delete(&ada, thread).await.unwrap();
    assert!(threads.threads(&bob, Whose::Shared, None, 10).await.unwrap().items.is_empty());
    say(&bench, &ada, thread).await;
    hidden(threads.thread(&bob, thread).await);
    assert!(threads.shares(&ada, thread).await.unwrap().is_empty());
}

async fn reading_and_changing_need_their_scopes(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let ada = bench.user();
    let lease = bench.running(&ada).await.lease;
    let (run, thread, stores) = (lease.run, lease.thread, &bench.stores);
    say(&bench, &ada, thread).await;
    let file = FileId::new(&*bench.clock);
    stores.files.put(&ada, file, "a.csv", body(&[b"mine"])).await.unwrap();
    let made = stores.artifacts.put(&ada, run, "a", "text/plain", Bytes::new()).await.unwrap();
    let only = |scope| Principal::vouched(ada.user(), Scopes::NONE.with(scope));
    let blind = Principal::vouched(ada.user(), Scopes::NONE.with(Scope::Run).with(Scope::Cancel));
    let forbidden = |answer: Result<()>| refused(answer, Kind::Forbidden);
    forbidden(stores.threads.thread(&blind, thread).await.map(drop));
    forbidden(stores.threads.threads(&blind, Whose::Own, None, 10).await.map(drop));
    forbidden(stores.threads.threads(&blind, Whose::Shared, None, 10).await.map(drop));
    forbidden(stores.threads.messages(&blind, thread, None, 10).await.map(drop));
    forbidden(stores.threads.shares(&blind, thread).await.map(drop));
    forbidden(stores.runs.view(&blind, run).await.map(drop));
    forbidden(stores.runs.read(&blind, run, 0, 10).await.map(drop));
    forbidden(stores.runs.inbox(&blind, 0, 10).await.map(drop));
    forbidden(stores.files.list(&blind).await.map(drop));
    forbidden(stores.files.info(&blind, file).await.map(drop));
    forbidden(stores.files.open(&blind, file).await.map(drop));
    forbidden(stores.artifacts.list(&blind, run).await.map(drop));
    forbidden(stores.artifacts.read(&blind, made.artifact).await.map(drop));
    forbidden(stores.usage.attempts(&blind, None, None, 10).await.map(drop));
    forbidden(stores.usage.totals(&blind, &UsageQuery::default()).await.map(drop));
    let reader = only(Scope::Read);
    let said = ThreadMessage {
        run,
        role: Role::User,
        text: "x".into(),
        attachments: Vec::new(),
        at: bench.clock.now(),
    };
    forbidden(stores.threads.add(&reader, thread, said).await);
    forbidden(stores.threads.share(&reader, thread, with(&bench, &bench.user())).await);
    forbidden(stores.threads.unshare(&reader, thread, ada.user()).await);
    forbidden(stores.threads.delete(&reader, thread).await);
    forbidden(stores.runs.start(&reader, bench.new_run(thread)).await.map(drop));
    forbidden(stores.runs.signal(&reader, run, Signal::Cancel).await.map(drop));
    forbidden(stores.runs.signal(&only(Scope::Run), run, Signal::Cancel).await.map(drop));
    forbidden(stores.runs.forget(&reader, thread).await.map(drop));
    forbidden(stores.files.put(&reader, file, "b", body(&[])).await.map(drop));
    forbidden(stores.files.delete(&reader, file).await);
    forbidden(stores.artifacts.put(&reader, run, "b", "text/plain", Bytes::new()).await.map(drop));
    forbidden(stores.artifacts.delete(&reader, run).await);
    // A run that was begun by who may not read reads what it works on all the same.
    let started = stores.runs.start(&blind, bench.new_run(bench.thread())).await.unwrap();
    let claimed = bench.claim(stores.node, 10).await;
    let claimed = claimed.iter().find(|claimed| claimed.lease.run == started.run).unwrap();
    assert!(claimed.principal.scopes().contains(Scope::Read));
    assert_eq!(stores.files.info(&claimed.principal, file).await.unwrap().file, file);
}
