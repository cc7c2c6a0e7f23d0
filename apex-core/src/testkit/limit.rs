use super::bench::Bench;
use super::{Backend, cases};
use crate::id::HolderId;
use crate::limit::{Grant, LimitKey, Place, Rate};
use std::sync::Arc;
use std::time::Duration;

cases!("limit":
    no_more_hold_than_may,
    of_a_hundred_callers_as_many_get_a_place_as_there_are,
    what_is_not_renewed_lapses,
    what_was_lost_comes_back_where_there_is_room,
    a_rate_gives_its_burst_and_then_one_each_refill,
    of_a_hundred_takers_as_many_get_one_as_there_are,
);

const LIFE: Duration = Duration::from_secs(60);
/// Short enough to wait for: some stores go by a clock that no test moves.
const SHORT: Duration = Duration::from_secs(1);

fn place(bench: &Bench, key: &LimitKey, most: usize) -> Place {
    Place { key: key.clone(), holder: HolderId::new(&*bench.clock), most }
}

fn key(bench: &Bench) -> LimitKey {
    LimitKey::new("connections", bench.user().user()).unwrap()
}

fn is_refused(grant: Grant, most: Duration) -> bool {
    matches!(grant, Grant::Refused { retry_after } if retry_after <= most && !retry_after.is_zero())
}

async fn no_more_hold_than_may(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (limits, key, other) = (&bench.stores.limits, key(&bench), key(&bench));
    let first = place(&bench, &key, 2);
    assert_eq!(limits.hold(&first, LIFE).await.unwrap(), Grant::Granted);
    assert_eq!(limits.hold(&first, LIFE).await.unwrap(), Grant::Granted, "it counts once");
    let second = place(&bench, &key, 2);
    assert_eq!(limits.hold(&second, LIFE).await.unwrap(), Grant::Granted);
    let third = place(&bench, &key, 2);
    assert!(is_refused(limits.hold(&third, LIFE).await.unwrap(), LIFE));
    let elsewhere = place(&bench, &other, 2);
    assert_eq!(limits.hold(&elsewhere, LIFE).await.unwrap(), Grant::Granted);
    for _ in 0..2 {
        limits.release(&first).await.unwrap();
    }
    assert_eq!(limits.hold(&third, LIFE).await.unwrap(), Grant::Granted);
    assert!(is_refused(limits.hold(&first, LIFE).await.unwrap(), LIFE));
    let fewer = Place { most: 1, ..second.clone() };
    assert_eq!(limits.hold(&fewer, LIFE).await.unwrap(), Grant::Granted, "it is held already");
    let lost = limits.renew(&[first.clone(), second, third], LIFE).await.unwrap();
    assert_eq!(lost, [first]);
}

async fn of_a_hundred_callers_as_many_get_a_place_as_there_are(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let key = key(&bench);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (limits, place) = (Arc::clone(&bench.stores.limits), place(&bench, &key, 7));
            tokio::spawn(async move { limits.hold(&place, LIFE).await.unwrap() == Grant::Granted })
        })
        .collect();
    let mut granted = 0;
    for caller in callers {
        granted += usize::from(caller.await.unwrap());
    }
    assert_eq!(granted, 7);
}

async fn what_is_not_renewed_lapses(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (limits, key) = (&bench.stores.limits, key(&bench));
    let (crashed, alive) = (place(&bench, &key, 2), place(&bench, &key, 2));
    limits.hold(&crashed, SHORT).await.unwrap();
    limits.hold(&alive, SHORT).await.unwrap();
    assert_eq!(limits.renew(std::slice::from_ref(&alive), LIFE).await.unwrap(), []);
    bench.pass(SHORT).await;
    let next = place(&bench, &key, 2);
    assert_eq!(limits.hold(&next, LIFE).await.unwrap(), Grant::Granted);
    let lost = limits.renew(&[crashed.clone(), alive, next], LIFE).await.unwrap();
    assert_eq!(lost, [crashed], "others have its place");
}

async fn what_was_lost_comes_back_where_there_is_room(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (limits, key) = (&bench.stores.limits, key(&bench));
    let places = [place(&bench, &key, 2), place(&bench, &key, 2)];
    // The store has never heard of them, as after it has lost its memory.
    assert_eq!(limits.renew(&places, LIFE).await.unwrap(), []);
    let next = place(&bench, &key, 2);
    assert!(is_refused(limits.hold(&next, LIFE).await.unwrap(), LIFE));
    assert_eq!(limits.renew(&[], LIFE).await.unwrap(), []);
}

async fn a_rate_gives_its_burst_and_then_one_each_refill(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (limits, key, other) = (&bench.stores.limits, key(&bench), key(&bench));
    let rate = Rate { burst: 3, refill: SHORT };
    assert_eq!(limits.take(&key, rate, 2).await.unwrap(), Grant::Granted);
    assert_eq!(limits.take(&key, rate, 1).await.unwrap(), Grant::Granted);
    assert!(is_refused(limits.take(&key, rate, 1).await.unwrap(), SHORT));
    assert!(is_refused(limits.take(&key, rate, 2).await.unwrap(), 2 * SHORT));
    assert_eq!(limits.take(&other, rate, 3).await.unwrap(), Grant::Granted);
    bench.pass(SHORT).await;
    assert_eq!(limits.take(&key, rate, 1).await.unwrap(), Grant::Granted);
    assert!(is_refused(limits.take(&other, rate, 3).await.unwrap(), 2 * SHORT));
    let never = limits.take(&self::key(&bench), rate, 4).await.unwrap();
    assert!(is_refused(never, SHORT), "more than its burst");
}

async fn of_a_hundred_takers_as_many_get_one_as_there_are(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (key, rate) = (key(&bench), Rate { burst: 7, refill: Duration::from_secs(600) });
    let takers: Vec<_> = (0..100)
        .map(|_| {
            let (limits, key) = (Arc::clone(&bench.stores.limits), key.clone());
            tokio::spawn(async move { limits.take(&key, rate, 1).await.unwrap() == Grant::Granted })
        })
        .collect();
    let mut granted = 0;
    for taker in takers {
        granted += usize::from(taker.await.unwrap());
    }
    assert_eq!(granted, 7);
}
