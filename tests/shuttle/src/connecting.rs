//! Connections that come and go while the hub drains, counts and revokes.

use crate::config::HubConfig;
use crate::hub::{Hub, Notice, Seat};
use crate::share::Shares;
use apex_core::auth::Revocation;
use apex_core::clock::{Clock, SystemClock};
use apex_core::error::Kind;
use apex_core::id::{ConnectionId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::store::memory::{self, MemoryOptions};
use std::future::poll_fn;
use std::sync::Arc;

/// How many come at once, and how many of one user are let in.
const COME: usize = 3;
const PER_USER: usize = 2;

fn hub() -> Hub {
    let config = HubConfig { per_user: PER_USER, ..HubConfig::default() };
    let stores = memory::open(MemoryOptions::default(), Arc::new(SystemClock));
    Hub::new(config, Shares::new(stores.limits, PER_USER))
}

fn ada() -> Principal {
    Principal::vouched(UserId::new(&SystemClock), Scopes::USER)
}

fn admitted(hub: &Hub) -> apex_core::error::Result<Seat> {
    hub.admit(ConnectionId::new(&SystemClock), true)
}

async fn noticed(seat: &Seat) -> Notice {
    poll_fn(|cx| seat.poll_notice(cx)).await
}

fn nobody_is_left(hub: &Hub) {
    let left = hub.statistics();
    assert_eq!((left.connections, left.unknown, left.users), (0, 0, 0));
}

/// Whoever is let in is told to go, however late it came, and the hub sees that all have gone.
pub async fn everybody_leaves_a_hub_that_drains() {
    let hub = hub();
    let come = |_| {
        let hub = hub.clone();
        tokio::spawn(async move {
            match admitted(&hub) {
                Ok(seat) => {
                    seat.identify(&ada()).unwrap();
                    assert!(matches!(noticed(&seat).await, Notice::Drain(_)));
                }
                Err(refused) => assert_eq!(refused.kind(), Kind::Draining),
            }
        })
    };
    let comers: Vec<_> = (0..COME).map(come).collect();
    let draining = tokio::spawn({
        let hub = hub.clone();
        async move {
            hub.drain();
            hub.emptied().await;
        }
    });
    draining.await.unwrap();
    for comer in comers {
        comer.await.unwrap();
    }
    nobody_is_left(&hub);
}

/// A user never has more places than the limit, and each place that is given back can be taken again.
pub async fn a_user_has_no_more_places_than_the_limit() {
    let (hub, ada) = (hub(), ada());
    let come = |_| {
        let (hub, ada) = (hub.clone(), ada.clone());
        tokio::spawn(async move {
            let seat = admitted(&hub).unwrap();
            let let_in = seat.identify(&ada).is_ok();
            if let_in {
                tokio::task::yield_now().await;
            }
            (seat, let_in)
        })
    };
    let comers: Vec<_> = (0..COME).map(come).collect();
    let mut seats = Vec::new();
    for comer in comers {
        seats.push(comer.await.unwrap());
    }
    assert_eq!(seats.iter().filter(|(_, let_in)| *let_in).count(), PER_USER);
    let leaving: Vec<_> =
        seats.into_iter().map(|seat| tokio::spawn(async move { drop(seat) })).collect();
    for left in leaving {
        left.await.unwrap();
    }
    nobody_is_left(&hub);
    admitted(&hub).unwrap().identify(&ada).unwrap();
}

/// A connection that comes in while its login is revoked is refused, or told right after.
pub async fn nobody_slips_in_by_a_login_that_is_revoked() {
    let (hub, ada) = (hub(), ada());
    let seat = admitted(&hub).unwrap();
    let revocation = Revocation { at: SystemClock.now(), user: ada.user(), session: None };
    let revoking = tokio::spawn({
        let hub = hub.clone();
        async move { hub.revoke(&revocation) }
    });
    let entering = tokio::spawn(async move {
        match seat.identify(&ada) {
            Ok(()) => assert_eq!(noticed(&seat).await, Notice::Revoked),
            Err(refused) => assert_eq!(refused.kind(), Kind::Unauthenticated),
        }
    });
    revoking.await.unwrap();
    entering.await.unwrap();
    nobody_is_left(&hub);
}
