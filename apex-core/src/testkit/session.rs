use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{SessionRecord, TokenHash};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::SessionId;
use crate::principal::{Principal, Scope, Scopes};
use std::sync::Arc;
use std::time::Duration;

cases!("session":
    a_login_is_found_by_its_token_until_it_is_ended,
    logins_are_listed_newest_first,
    logins_that_ran_out_go_with_the_next,
);

fn session(bench: &Bench, token: &str, user: &Principal) -> SessionRecord {
    let now = bench.clock.now();
    SessionRecord {
        session: SessionId::new(&*bench.clock),
        user: user.user(),
        scopes: Scopes::USER.with(Scope::Admin),
        hash: TokenHash::of(token),
        created_at: now,
        expires_at: now.plus(Duration::from_secs(60)),
    }
}

async fn a_login_is_found_by_its_token_until_it_is_ended(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let record = session(&bench, "a", &user);
    sessions.create(record.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(61));
    let found = sessions.find(&record.hash).await.unwrap();
    assert_eq!(found, Some(record.clone()), "one that ran out is found too");
    assert_eq!(sessions.find(&TokenHash::of("b")).await.unwrap(), None);
    sessions.end(&user, record.session).await.unwrap();
    assert_eq!(sessions.find(&record.hash).await.unwrap(), None);
    let again = sessions.end(&user, record.session).await;
    assert_eq!(again.unwrap_err().kind(), Kind::NotFound);
}

async fn logins_are_listed_newest_first(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let mut made = Vec::new();
    for token in ["a", "b", "c"] {
        bench.clock.advance(Duration::from_secs(1));
        let record = session(&bench, token, &user);
        sessions.create(record.clone()).await.unwrap();
        made.insert(0, record);
    }
    assert_eq!(sessions.list(&user).await.unwrap(), made);
}

async fn logins_that_ran_out_go_with_the_next(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, sessions) = (bench.user(), bench.user(), &bench.stores.sessions);
    sessions.create(session(&bench, "a", &user)).await.unwrap();
    sessions.create(session(&bench, "b", &other)).await.unwrap();
    bench.clock.advance(Duration::from_secs(61));
    let next = session(&bench, "c", &user);
    sessions.create(next.clone()).await.unwrap();
    assert_eq!(sessions.list(&user).await.unwrap(), [next]);
    assert_eq!(sessions.list(&other).await.unwrap().len(), 1);
}
