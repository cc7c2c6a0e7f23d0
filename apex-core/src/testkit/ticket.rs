use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{TicketRecord, TokenHash};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::id::{SessionId, UserId};
use crate::principal::Scopes;
use std::sync::Arc;
use std::time::Duration;

cases!("ticket":
    a_ticket_comes_back_as_it_was_issued_once,
    of_a_thousand_callers_one_gets_the_ticket,
    unused_tickets_are_limited_per_user,
    a_lapsed_ticket_is_given_out_or_gone,
);

fn ticket(bench: &Bench, token: &str, user: UserId) -> TicketRecord {
    let now = bench.clock.now();
    TicketRecord {
        hash: TokenHash::of(token),
        user,
        scopes: Scopes::USER,
        session: Some(SessionId::new(&*bench.clock)),
        audience: "ws".into(),
        origin: Some("https://app.example".into()),
        address: Some("192.0.2.7".into()),
        expires_at: now.plus(Duration::from_secs(30)),
        credential_expires_at: now.plus(Duration::from_secs(3_600)),
    }
}

async fn a_ticket_comes_back_as_it_was_issued_once(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (tickets, now) = (&bench.stores.tickets, bench.clock.now());
    let full = ticket(&bench, "a", bench.user().user());
    let bare = TicketRecord {
        session: None,
        origin: None,
        address: None,
        scopes: Scopes::NONE,
        ..ticket(&bench, "b", bench.user().user())
    };
    for record in [full, bare] {
        tickets.issue(record.clone(), now, 32).await.unwrap();
        assert_eq!(tickets.redeem(&record.hash).await.unwrap(), Some(record.clone()));
        assert_eq!(tickets.redeem(&record.hash).await.unwrap(), None);
    }
    assert_eq!(tickets.redeem(&TokenHash::of("unknown")).await.unwrap(), None);
}

async fn of_a_thousand_callers_one_gets_the_ticket(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let record = ticket(&bench, "a", bench.user().user());
    bench.stores.tickets.issue(record.clone(), bench.clock.now(), 32).await.unwrap();
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let tickets = Arc::clone(&bench.stores.tickets);
            tokio::spawn(async move { tickets.redeem(&TokenHash::of("a")).await.unwrap() })
        })
        .collect();
    let mut won = Vec::new();
    for caller in callers {
        won.extend(caller.await.unwrap());
    }
    assert_eq!(won, [record]);
}

async fn unused_tickets_are_limited_per_user(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob, tickets) = (bench.user().user(), bench.user().user(), &bench.stores.tickets);
    let now = bench.clock.now();
    for token in ["1", "2", "3"] {
        tickets.issue(ticket(&bench, token, ada), now, 3).await.unwrap();
    }
    let refused = tickets.issue(ticket(&bench, "4", ada), now, 3).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::RateLimited);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!(tickets.redeem(&TokenHash::of("4")).await.unwrap(), None);
    tickets.issue(ticket(&bench, "5", bob), now, 3).await.unwrap();
    tickets.redeem(&TokenHash::of("1")).await.unwrap().unwrap();
    tickets.issue(ticket(&bench, "6", ada), now, 3).await.unwrap();
    // Those that have lapsed do not count.
    bench.clock.advance(Duration::from_secs(31));
    let now = bench.clock.now();
    for token in ["7", "8", "9"] {
        tickets.issue(ticket(&bench, token, ada), now, 3).await.unwrap();
    }
}

async fn a_lapsed_ticket_is_given_out_or_gone(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let record = ticket(&bench, "a", bench.user().user());
    bench.stores.tickets.issue(record.clone(), bench.clock.now(), 32).await.unwrap();
    bench.clock.advance(Duration::from_secs(31));
    if let Some(found) = bench.stores.tickets.redeem(&record.hash).await.unwrap() {
        assert_eq!(found, record, "its expiry is the caller's to check");
    }
    assert_eq!(bench.stores.tickets.redeem(&record.hash).await.unwrap(), None);
}
