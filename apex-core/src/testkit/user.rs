use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{Standing, User, UserChange};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::UserId;
use crate::principal::{Scope, Scopes};
use std::collections::HashSet;
use std::sync::Arc;

cases!("user":
    a_subject_has_one_account,
    many_first_logins_at_once_make_one_account,
    an_account_may_have_many_subjects,
    a_subject_of_another_account_is_not_linked,
    what_is_changed_stays_changed,
    an_erased_account_is_never_used_again,
);

fn user(bench: &Bench) -> User {
    User {
        user: UserId::new(&*bench.clock),
        scopes: Scopes::USER,
        created_at: bench.clock.now(),
        standing: Standing::Active,
    }
}

async fn a_subject_has_one_account(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = user(&bench);
    assert_eq!(users.resolve("dev:ada", ada.clone()).await.unwrap(), ada);
    assert_eq!(users.resolve("dev:ada", user(&bench)).await.unwrap(), ada);
    assert_eq!(users.user(ada.user).await.unwrap(), ada);
    assert_eq!(users.subjects(ada.user).await.unwrap(), ["dev:ada"]);
    let other = users.resolve("DEV:ada", user(&bench)).await.unwrap();
    assert_ne!(other.user, ada.user);
    let unknown = users.user(UserId::new(&*bench.clock)).await;
    assert_eq!(unknown.unwrap_err().kind(), Kind::NotFound);
}

async fn many_first_logins_at_once_make_one_account(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let logins: Vec<_> = (0..50)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move {
                let new = user(&bench);
                bench.stores.users.resolve("dev:ada", new).await.unwrap().user
            })
        })
        .collect();
    let mut accounts = HashSet::new();
    for login in logins {
        accounts.insert(login.await.unwrap());
    }
    assert_eq!(accounts.len(), 1);
}

async fn an_account_may_have_many_subjects(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = users.resolve("dev:ada", user(&bench)).await.unwrap();
    for _ in 0..2 {
        users.link(ada.user, "https://accounts.example 4711").await.unwrap();
    }
    let found = users.resolve("https://accounts.example 4711", user(&bench)).await.unwrap();
    assert_eq!(found, ada);
    let known = ["dev:ada", "https://accounts.example 4711"];
    assert_eq!(users.subjects(ada.user).await.unwrap(), known);
}

async fn a_subject_of_another_account_is_not_linked(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = users.resolve("dev:ada", user(&bench)).await.unwrap();
    let bob = users.resolve("dev:bob", user(&bench)).await.unwrap();
    let refused = users.link(ada.user, "dev:bob").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    assert_eq!(users.resolve("dev:bob", user(&bench)).await.unwrap(), bob);
    assert_eq!(users.subjects(ada.user).await.unwrap(), ["dev:ada"]);
    let unknown = users.link(UserId::new(&*bench.clock), "dev:cleo").await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
    let cleo = users.resolve("dev:cleo", user(&bench)).await.unwrap();
    assert_ne!(cleo.user, ada.user);
}

async fn what_is_changed_stays_changed(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = users.resolve("dev:ada", user(&bench)).await.unwrap();
    let scopes = Scopes::NONE.with(Scope::Admin);
    let change = UserChange { scopes: Some(scopes), disabled: Some(true) };
    let changed = User { scopes, standing: Standing::Disabled, ..ada.clone() };
    assert_eq!(users.change(ada.user, change).await.unwrap(), changed);
    assert_eq!(users.change(ada.user, UserChange::default()).await.unwrap(), changed);
    assert_eq!(users.resolve("dev:ada", user(&bench)).await.unwrap(), changed);
    let back = UserChange { scopes: None, disabled: Some(false) };
    let active = User { standing: Standing::Active, ..changed };
    assert_eq!(users.change(ada.user, back).await.unwrap(), active);
    let unknown = users.change(UserId::new(&*bench.clock), back).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}

async fn an_erased_account_is_never_used_again(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = users.resolve("dev:ada", user(&bench)).await.unwrap();
    users.link(ada.user, "host:4711").await.unwrap();
    for _ in 0..2 {
        users.erase(ada.user).await.unwrap();
    }
    let erased = users.user(ada.user).await.unwrap();
    assert_eq!((erased.standing, erased.scopes), (Standing::Erased, Scopes::NONE));
    assert!(users.subjects(ada.user).await.unwrap().is_empty());
    let back = UserChange { scopes: None, disabled: Some(false) };
    assert_eq!(users.change(ada.user, back).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(users.link(ada.user, "dev:ada").await.unwrap_err().kind(), Kind::NotFound);
    // The same person may begin anew.
    for subject in ["dev:ada", "host:4711"] {
        let again = users.resolve(subject, user(&bench)).await.unwrap();
        assert_ne!(again.user, ada.user, "{subject}");
    }
    let unknown = users.erase(UserId::new(&*bench.clock)).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}
