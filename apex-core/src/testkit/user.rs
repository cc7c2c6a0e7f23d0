use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::User;
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::UserId;
use std::collections::HashSet;
use std::sync::Arc;

cases!("user":
    a_subject_has_one_account,
    many_first_logins_at_once_make_one_account,
);

fn user(bench: &Bench, subject: &str) -> User {
    User {
        user: UserId::new(&*bench.clock),
        subject: subject.into(),
        created_at: bench.clock.now(),
        disabled: false,
    }
}

async fn a_subject_has_one_account(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let users = &bench.stores.users;
    let ada = user(&bench, "dev:ada");
    assert_eq!(users.resolve(ada.clone()).await.unwrap(), ada);
    assert_eq!(users.resolve(user(&bench, "dev:ada")).await.unwrap(), ada);
    assert_eq!(users.user(ada.user).await.unwrap(), ada);
    let other = users.resolve(user(&bench, "DEV:ada")).await.unwrap();
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
                let new = user(&bench, "dev:ada");
                bench.stores.users.resolve(new).await.unwrap().user
            })
        })
        .collect();
    let mut accounts = HashSet::new();
    for login in logins {
        accounts.insert(login.await.unwrap());
    }
    assert_eq!(accounts.len(), 1);
}
