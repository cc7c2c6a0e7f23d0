use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{
    REVOCATIONS_KEPT, RefreshHash, Revocation, Rotated, Rotation, SessionRecord, TokenHash,
};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::SessionId;
use crate::principal::{Principal, Scope, Scopes};
use crate::run::{Topic, Woken};
use std::sync::Arc;
use std::time::{Duration, Instant};

cases!("session":
    a_login_is_found_by_its_token_until_it_is_ended,
    logins_are_listed_newest_first,
    logins_that_lapsed_go_with_the_next,
    a_renewal_replaces_both_tokens,
    a_renewal_never_outlives_the_login,
    a_login_that_lapsed_is_not_renewed,
    a_used_refresh_token_ends_its_login,
    of_many_renewals_with_one_token_one_wins_and_the_login_ends,
    ending_all_ends_every_login_of_that_user,
    revocations_are_told_in_order_and_kept,
);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A login whose token is good for a minute, which lapses after an hour and ends after a day.
fn session(bench: &Bench, token: &str, user: &Principal) -> SessionRecord {
    let now = bench.clock.now();
    SessionRecord {
        session: SessionId::new(&*bench.clock),
        user: user.user(),
        scopes: Scopes::USER.with(Scope::Admin),
        method: "dev".into(),
        hash: TokenHash::of(token),
        expires_at: now.plus(MINUTE),
        refresh: Some(refresh(token, 0)),
        created_at: now,
        renewed_at: now,
        lapses_at: now.plus(60 * MINUTE),
        ends_at: now.plus(24 * 60 * MINUTE),
    }
}

fn refresh(family: &str, turn: usize) -> RefreshHash {
    RefreshHash {
        family: TokenHash::of(&format!("{family}-family")),
        current: TokenHash::of(&format!("{family}-refresh-{turn}")),
    }
}

/// The renewal with the refresh token of that turn.
fn rotation(bench: &Bench, family: &str, turn: usize) -> Rotation {
    Rotation {
        presented: refresh(family, turn),
        refresh: refresh(family, turn + 1).current,
        token: TokenHash::of(&format!("{family}-token-{}", turn + 1)),
        token_life: MINUTE,
        idle_life: 60 * MINUTE,
        now: bench.clock.now(),
    }
}

/// Whether a wake-up comes, though it may take its time from one process to another.
async fn is_woken(woken: &mut Woken) -> bool {
    let before = Instant::now();
    woken.wait(5 * SECOND).await;
    before.elapsed() < 5 * SECOND
}

async fn a_login_is_found_by_its_token_until_it_is_ended(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let bare = SessionRecord { refresh: None, ..session(&bench, "b", &user) };
    for record in [session(&bench, "a", &user), bare] {
        sessions.create(record.clone()).await.unwrap();
        bench.clock.advance(Duration::from_secs(61));
        let found = sessions.find(&record.hash).await.unwrap();
        assert_eq!(found, Some(record.clone()), "one that ran out is found too");
        assert_eq!(sessions.session(record.session).await.unwrap(), Some(record.clone()));
        let now = bench.clock.now();
        sessions.end(&user, record.session, now).await.unwrap();
        assert_eq!(sessions.find(&record.hash).await.unwrap(), None);
        assert_eq!(sessions.session(record.session).await.unwrap(), None);
        let again = sessions.end(&user, record.session, now).await;
        assert_eq!(again.unwrap_err().kind(), Kind::NotFound);
    }
    assert_eq!(sessions.find(&TokenHash::of("c")).await.unwrap(), None);
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

async fn logins_that_lapsed_go_with_the_next(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, sessions) = (bench.user(), bench.user(), &bench.stores.sessions);
    sessions.create(session(&bench, "a", &user)).await.unwrap();
    sessions.create(session(&bench, "b", &other)).await.unwrap();
    bench.clock.advance(59 * MINUTE);
    let kept = session(&bench, "c", &user);
    sessions.create(kept.clone()).await.unwrap();
    assert_eq!(sessions.list(&user).await.unwrap().len(), 2);
    bench.clock.advance(MINUTE);
    let next = session(&bench, "d", &user);
    sessions.create(next.clone()).await.unwrap();
    assert_eq!(sessions.list(&user).await.unwrap(), [next, kept]);
    assert_eq!(sessions.list(&other).await.unwrap().len(), 1);
}

async fn a_renewal_replaces_both_tokens(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let record = session(&bench, "a", &user);
    sessions.create(record.clone()).await.unwrap();
    for turn in 0..3 {
        bench.clock.advance(30 * MINUTE);
        let (now, rotation) = (bench.clock.now(), rotation(&bench, "a", turn));
        let renewed = SessionRecord {
            hash: rotation.token,
            expires_at: now.plus(MINUTE),
            refresh: Some(refresh("a", turn + 1)),
            renewed_at: now,
            lapses_at: now.plus(60 * MINUTE),
            ..record.clone()
        };
        assert_eq!(sessions.rotate(rotation).await.unwrap(), Rotated::Renewed(renewed.clone()));
        assert_eq!(sessions.find(&rotation.token).await.unwrap(), Some(renewed.clone()));
        assert_eq!(sessions.session(record.session).await.unwrap(), Some(renewed));
    }
    assert_eq!(sessions.find(&record.hash).await.unwrap(), None, "the first token is gone");
    assert_eq!(sessions.list(&user).await.unwrap().len(), 1);
    assert_eq!(sessions.revoked(record.created_at).await.unwrap(), []);
}

async fn a_renewal_never_outlives_the_login(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let ends_at = bench.clock.now().plus(40 * MINUTE);
    let record = SessionRecord { ends_at, ..session(&bench, "a", &user) };
    sessions.create(record).await.unwrap();
    bench.clock.advance(39 * MINUTE + MINUTE / 2);
    let rotated = sessions.rotate(rotation(&bench, "a", 0)).await.unwrap();
    let Rotated::Renewed(renewed) = rotated else { panic!("{rotated:?}") };
    assert_eq!((renewed.expires_at, renewed.lapses_at), (ends_at, ends_at));
    bench.clock.advance(MINUTE / 2);
    assert_eq!(sessions.rotate(rotation(&bench, "a", 1)).await.unwrap(), Rotated::Unknown);
}

async fn a_login_that_lapsed_is_not_renewed(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    sessions.create(session(&bench, "a", &user)).await.unwrap();
    bench.clock.advance(60 * MINUTE);
    for family in ["a", "unknown"] {
        let rotated = sessions.rotate(rotation(&bench, family, 0)).await.unwrap();
        assert_eq!(rotated, Rotated::Unknown, "{family}");
    }
}

async fn a_used_refresh_token_ends_its_login(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, sessions) = (bench.user(), &bench.stores.sessions);
    let (record, other) = (session(&bench, "a", &user), session(&bench, "b", &user));
    sessions.create(record.clone()).await.unwrap();
    sessions.create(other.clone()).await.unwrap();
    for turn in 0..3 {
        let rotated = sessions.rotate(rotation(&bench, "a", turn)).await.unwrap();
        assert!(matches!(rotated, Rotated::Renewed(_)), "{rotated:?}");
    }
    bench.clock.advance(MINUTE);
    let now = bench.clock.now();
    let mut woken = bench.stores.wakeup.listen(Topic::Revocations);
    let rotated = sessions.rotate(rotation(&bench, "a", 0)).await.unwrap();
    let Rotated::Reused(ended) = rotated else { panic!("{rotated:?}") };
    assert_eq!(ended.session, record.session);
    assert!(is_woken(&mut woken).await);
    // The thief's newer one is worth nothing either.
    assert_eq!(sessions.rotate(rotation(&bench, "a", 3)).await.unwrap(), Rotated::Unknown);
    assert_eq!(sessions.list(&user).await.unwrap(), [other]);
    let session = Some(record.session);
    let revocation = Revocation { at: now, user: user.user(), session };
    assert_eq!(sessions.revoked(now).await.unwrap(), [revocation]);
}

async fn of_many_renewals_with_one_token_one_wins_and_the_login_ends(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    bench.stores.sessions.create(session(&bench, "a", &user)).await.unwrap();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move {
                bench.stores.sessions.rotate(rotation(&bench, "a", 0)).await.unwrap()
            })
        })
        .collect();
    let (mut renewed, mut reused) = (0, 0);
    for caller in callers {
        match caller.await.unwrap() {
            Rotated::Renewed(_) => renewed += 1,
            Rotated::Reused(_) => reused += 1,
            Rotated::Unknown => {}
        }
    }
    assert_eq!((renewed, reused), (1, 1));
    assert_eq!(bench.stores.sessions.list(&user).await.unwrap(), []);
}

async fn ending_all_ends_every_login_of_that_user(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, sessions) = (bench.user(), bench.user(), &bench.stores.sessions);
    let mut logins = Vec::new();
    for token in ["a", "b"] {
        let record = session(&bench, token, &user);
        logins.push(record.session);
        sessions.create(record).await.unwrap();
    }
    sessions.create(session(&bench, "c", &other)).await.unwrap();
    let now = bench.clock.now();
    let mut woken = bench.stores.wakeup.listen(Topic::Revocations);
    let mut ended = sessions.end_all(user.user(), now).await.unwrap();
    ended.sort_unstable();
    logins.sort_unstable();
    assert_eq!(ended, logins);
    assert!(is_woken(&mut woken).await);
    assert_eq!(sessions.list(&user).await.unwrap(), []);
    assert_eq!(sessions.find(&TokenHash::of("a")).await.unwrap(), None);
    assert_eq!(sessions.rotate(rotation(&bench, "b", 0)).await.unwrap(), Rotated::Unknown);
    assert_eq!(sessions.list(&other).await.unwrap().len(), 1);
    // Each is noted by itself, so that a login that begins at the same moment is not meant.
    let (noted, next) = (|at, session| Revocation { at, user: user.user(), session }, "d");
    let anew = session(&bench, next, &user);
    sessions.create(anew.clone()).await.unwrap();
    let mut told = sessions.revoked(now).await.unwrap();
    told.sort_unstable();
    let mut each = vec![noted(now, None)];
    each.extend(logins.iter().map(|login| noted(now, Some(*login))));
    assert_eq!(told, each);
    assert!(!told.iter().any(|told| told.covers(user.user(), anew.session)));
    sessions.end(&user, anew.session, now).await.unwrap();
    // It is noted also where there is no login.
    bench.clock.advance(MINUTE);
    let later = bench.clock.now();
    assert_eq!(sessions.end_all(user.user(), later).await.unwrap(), []);
    assert_eq!(sessions.revoked(later).await.unwrap(), [noted(later, None)]);
}

async fn revocations_are_told_in_order_and_kept(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, sessions) = (bench.user(), bench.user(), &bench.stores.sessions);
    let mut expected = Vec::new();
    for (token, user) in [("a", &user), ("b", &other), ("c", &user)] {
        let record = session(&bench, token, user);
        sessions.create(record.clone()).await.unwrap();
        bench.clock.advance(MINUTE);
        let now = bench.clock.now();
        sessions.end(user, record.session, now).await.unwrap();
        let session = Some(record.session);
        expected.push(Revocation { at: now, user: user.user(), session });
    }
    assert_eq!(sessions.revoked(expected[0].at).await.unwrap(), expected);
    assert_eq!(sessions.revoked(expected[1].at).await.unwrap(), expected[1..]);
    assert_eq!(sessions.revoked(bench.clock.now().plus(MINUTE)).await.unwrap(), []);
    bench.clock.advance(REVOCATIONS_KEPT - MINUTE);
    sessions.end_all(user.user(), bench.clock.now()).await.unwrap();
    let told = sessions.revoked(expected[2].at).await.unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
}
