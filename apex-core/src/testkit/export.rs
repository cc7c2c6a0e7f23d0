//! What a user takes along is all that is theirs, and nothing of others.

use super::bench::Bench;
use super::erase::{account, fill};
use super::{Backend, cases};
use crate::clock::Clock as _;
use crate::error::{Error, Kind};
use crate::principal::{Principal, Scopes};
use crate::store::Stores;
use crate::store::export::export_user;
use crate::thread::Share;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

cases!("export":
    all_that_is_a_users_is_taken_along_and_nothing_of_others,
    what_nobody_takes_is_given_up,
);

async fn taken(bench: &Bench, user: &Principal) -> Vec<Value> {
    let (sender, mut lines) = mpsc::channel(1);
    let (stores, user, now) = (bench.stores.clone(), user.clone(), bench.clock.now());
    let export = tokio::spawn(async move { export_user(&stores, &user, now, &sender).await });
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        let line = std::str::from_utf8(&line).unwrap();
        assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true), "{line}");
        all.push(serde_json::from_str(line).unwrap());
    }
    export.await.unwrap().unwrap();
    all
}

async fn all_that_is_a_users_is_taken_along_and_nothing_of_others(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (account(&bench, "dev:ada").await, account(&bench, "dev:bob").await);
    let (hers, his) = (fill(&bench, &ada).await, fill(&bench, &bob).await);
    let with = Share { user: ada.user(), at: bench.clock.now() };
    bench.stores.threads.share(&bob, his.lease.thread, with).await.unwrap();
    let all = taken(&bench, &ada).await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &all {
        *kinds.entry(line["kind"].as_str().unwrap()).or_default() += 1;
    }
    let expected = [
        ("account", 1),
        ("artifact", 1),
        ("budget", 2),
        ("content", 2),
        ("end", 1),
        ("event", 4),
        ("export", 1),
        ("file", 1),
        ("message", 2),
        ("note", 1),
        ("run", 2),
        ("shared_thread", 1),
        ("subject", 1),
        ("thread", 2),
        ("usage", 1),
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(all.last().unwrap()["lines"], json!(all.len()));
    assert_eq!(all[0]["user"], json!(ada.user()));
    let content = |of: String| {
        let is_it = |line: &&Value| line["of"] == json!(of);
        let pieces = all.iter().filter(is_it);
        let decoded =
            pieces.flat_map(|line| STANDARD.decode(line["base64"].as_str().unwrap()).unwrap());
        String::from_utf8(decoded.collect()).unwrap()
    };
    assert_eq!(content(hers.file.to_string()), "mine");
    assert_eq!(content(hers.artifact.to_string()), "{}");
    let whole = serde_json::to_string(&all).unwrap();
    for other in [his.lease.run.to_string(), his.file.to_string(), his.ended.thread.to_string()] {
        assert!(!whole.contains(&other), "{other}");
    }
    bench.stores.users.erase(ada.user()).await.unwrap();
    let left = taken(&bench, &ada).await;
    let kinds: Vec<_> = left.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["export", "account", "budget", "budget", "end"],
        "that there was an account"
    );
}

async fn what_nobody_takes_is_given_up(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let ada = account(&bench, "dev:ada").await;
    fill(&bench, &ada).await;
    let (sender, mut lines) = mpsc::channel(1);
    let stores: Stores = bench.stores.clone();
    let (user, now) = (ada.clone(), bench.clock.now());
    let export = tokio::spawn(async move { export_user(&stores, &user, now, &sender).await });
    lines.recv().await.unwrap();
    drop(lines);
    let given_up = export.await.unwrap();
    assert_eq!(given_up.err().as_ref().map(Error::kind), Some(Kind::Cancelled));
    let none = Principal::vouched(ada.user(), Scopes::NONE);
    let (sender, _lines) = mpsc::channel(1);
    let refused = export_user(&bench.stores, &none, now, &sender).await;
    assert_eq!(refused.err().as_ref().map(Error::kind), Some(Kind::Forbidden));
}
