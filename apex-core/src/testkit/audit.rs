use super::bench::Bench;
use super::{Backend, cases};
use crate::auth::{AuditAction, AuditEvent, AuditQuery, Way};
use crate::clock::Clock as _;
use crate::id::{AuditId, CorrelationId, SessionId, UserId};
use std::sync::Arc;
use std::time::Duration;

cases!("audit":
    events_come_back_as_they_were_told,
    an_event_told_again_is_no_change,
    the_record_is_paged_newest_first,
    what_is_old_is_forgotten,
);

/// An event of a moment of its own, so that the order is known.
fn event(bench: &Bench, action: AuditAction, user: Option<UserId>) -> AuditEvent {
    bench.clock.advance(Duration::from_millis(1));
    AuditEvent {
        id: AuditId::new(&*bench.clock),
        at: bench.clock.now(),
        action,
        reason: None,
        way: None,
        user,
        session: None,
        address: None,
        correlation: None,
    }
}

fn all(limit: usize) -> AuditQuery {
    AuditQuery { user: None, before: None, limit }
}

async fn events_come_back_as_they_were_told(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let audit = &bench.stores.audit;
    let mut told = Vec::new();
    for action in AuditAction::ALL {
        told.push(event(&bench, *action, None));
    }
    let ways = [Way::Bearer, Way::Subprotocol, Way::Query, Way::Cookie, Way::Hello];
    for way in ways {
        told.push(AuditEvent {
            reason: Some("token_expired".into()),
            way: Some(way),
            session: Some(SessionId::new(&*bench.clock)),
            address: Some("192.0.2.0/24".into()),
            correlation: Some(CorrelationId::new(&*bench.clock)),
            ..event(&bench, AuditAction::Entry, Some(bench.user().user()))
        });
    }
    audit.append(told.clone()).await.unwrap();
    told.reverse();
    assert_eq!(audit.list(all(100)).await.unwrap(), told);
    audit.append(vec![]).await.unwrap();
}

async fn an_event_told_again_is_no_change(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let audit = &bench.stores.audit;
    let first = event(&bench, AuditAction::Login, None);
    audit.append(vec![first.clone()]).await.unwrap();
    let changed = AuditEvent { action: AuditAction::Logout, ..first.clone() };
    let next = event(&bench, AuditAction::Refresh, None);
    audit.append(vec![changed, next.clone()]).await.unwrap();
    assert_eq!(audit.list(all(10)).await.unwrap(), [next, first]);
}

async fn the_record_is_paged_newest_first(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user().user(), bench.user().user());
    let audit = &bench.stores.audit;
    let mut told = Vec::new();
    for n in 0..10 {
        let user = if n % 2 == 0 { ada } else { bob };
        told.insert(0, event(&bench, AuditAction::Entry, Some(user)));
    }
    audit.append(told.clone()).await.unwrap();
    let mut of_ada = told.clone();
    of_ada.retain(|event| event.user == Some(ada));
    for (user, expected) in [(None, told), (Some(ada), of_ada)] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = audit.list(AuditQuery { user, before, limit: 3 }).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 3);
            before = Some(last.id);
            read.extend(page);
        }
        assert_eq!(read, expected);
    }
    assert_eq!(audit.list(all(0)).await.unwrap().len(), 1, "a page has at least one");
}

async fn what_is_old_is_forgotten(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let audit = &bench.stores.audit;
    let old = event(&bench, AuditAction::Login, None);
    bench.clock.advance(Duration::from_secs(60));
    let young = event(&bench, AuditAction::Login, None);
    audit.append(vec![old.clone(), young.clone()]).await.unwrap();
    assert_eq!(audit.forget(old.at).await.unwrap(), 0, "what is as old stays");
    assert_eq!(audit.forget(young.at).await.unwrap(), 1);
    assert_eq!(audit.list(all(10)).await.unwrap(), [young]);
}
