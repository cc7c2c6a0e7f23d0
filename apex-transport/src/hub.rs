//! Who is connected to this node: limits, draining, statistics. A [`Seat`] is one connection's place; dropping it, on
//! whatever path, gives the place back.

use crate::config::HubConfig;
use crate::protocol::Draining;
use crate::share::Shares;
use apex_core::auth::Revocation;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::{ConnectionId, SessionId, UserId};
use apex_core::principal::Principal;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const OPERATION: &str = "hub.admit";

/// How long a client that found this node full is told to wait.
const COME_BACK: Duration = Duration::from_secs(5);

/// How long an ended login is remembered: longer than a ticket that it bought can live and an entry can take.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Who is connected to this node.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

/// How many are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HubStatistics {
    /// Connections.
    pub connections: usize,
    /// Of them, those that have not said who they are.
    pub unknown: usize,
    /// Users with at least one connection.
    pub users: usize,
    /// Connections since the start.
    pub admitted: u64,
    /// Refusals for want of room since the start.
    pub refused: u64,
    /// Whether the node is draining.
    pub draining: bool,
}

#[derive(Debug)]
struct Inner {
    config: HubConfig,
    shares: Shares,
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    seats: HashMap<ConnectionId, Taken>,
    users: HashMap<UserId, usize>,
    unknown: usize,
    admitted: u64,
    refused: u64,
    draining: Option<Draining>,
    revoked: Revoked,
}

/// What was revoked lately: an entry that was verified just before must not slip in just after.
#[derive(Debug, Default)]
struct Revoked {
    sessions: HashMap<SessionId, Instant>,
    users: HashMap<UserId, (Instant, Revocation)>,
    sweep_at: usize,
}

impl Revoked {
    fn add(&mut self, revocation: &Revocation) {
        let now = Instant::now();
        // Swept whenever it has doubled: bounded by what ends within the time, at a constant cost for each.
        if self.sessions.len() + self.users.len() >= self.sweep_at {
            self.sessions.retain(|_, at| now.duration_since(*at) < REMEMBERED);
            self.users.retain(|_, (at, _)| now.duration_since(*at) < REMEMBERED);
            self.sweep_at = 2 * (self.sessions.len() + self.users.len()) + 64;
        }
        match revocation.session {
            Some(session) => drop(self.sessions.insert(session, now)),
            None => drop(self.users.insert(revocation.user, (now, *revocation))),
        }
    }

    /// Whether an entry whose verification began at that moment is worth nothing. A user whose logins have all ended
    /// may log in again.
    fn covers(&self, principal: &Principal, began: Instant) -> bool {
        let session = principal.session().and_then(|session| self.sessions.get(&session));
        let user = self.users.get(&principal.user());
        session.is_some_and(|at| at.elapsed() < REMEMBERED)
            || user.is_some_and(|(told, all)| match principal.session() {
                Some(session) => all.covers(principal.user(), session),
                None => began <= *told,
            })
    }
}

#[derive(Debug)]
struct Taken {
    user: Option<UserId>,
    session: Option<SessionId>,
    /// Whether it has presented nothing so far.
    silent: bool,
    admitted: Instant,
    mailbox: Arc<Mailbox>,
}

/// What the hub tells a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Drain(Draining),
    Revoked,
}

/// The last notice that a connection has not read; a revocation is not replaced.
#[derive(Debug, Default)]
struct Mailbox {
    notice: Mutex<Option<Notice>>,
    reader: AtomicWaker,
}

impl Mailbox {
    fn put(&self, notice: Notice) {
        let mut place = self.notice.lock();
        if *place != Some(Notice::Revoked) {
            *place = Some(notice);
        }
        drop(place);
        self.reader.wake();
    }
}

impl Hub {
    pub(crate) fn new(config: HubConfig, shares: Shares) -> Self {
        Self(Arc::new(Inner {
            config,
            shares,
            state: Mutex::new(State::default()),
            left: Notify::new(),
        }))
    }

    /// How many are connected.
    #[must_use]
    pub fn statistics(&self) -> HubStatistics {
        let state = self.0.state.lock();
        HubStatistics {
            connections: state.seats.len(),
            unknown: state.unknown,
            users: state.users.len(),
            admitted: state.admitted,
            refused: state.refused,
            draining: state.draining.is_some(),
        }
    }

    /// Begins to drain: every client is told to resume elsewhere and closed soon after, and nobody new is admitted.
    pub fn drain(&self) {
        let config = &self.0.config;
        let draining = Draining {
            after_ms: millis(config.drain_after),
            jitter_ms: millis(config.drain_jitter),
        };
        let mut state = self.0.state.lock();
        state.draining = Some(draining);
        for taken in state.seats.values() {
            taken.mailbox.put(Notice::Drain(draining));
        }
    }

    /// Closes the connections that came by a login which has ended, or all of a user's, and keeps out those that are
    /// about to come in by it.
    pub fn revoke(&self, revocation: &Revocation) {
        let mut state = self.0.state.lock();
        state.revoked.add(revocation);
        for taken in state.seats.values() {
            let ended = taken.user.is_some_and(|user| match taken.session {
                Some(session) => revocation.covers(user, session),
                None => revocation.session.is_none() && revocation.user == user,
            });
            if ended {
                taken.mailbox.put(Notice::Revoked);
            }
        }
    }

    /// Takes a place for a connection in the user's share over all nodes; it goes with the connection's [`Seat`].
    pub(crate) async fn share(&self, id: ConnectionId, principal: &Principal) -> Result<()> {
        let taken = self.0.shares.take(id, principal.user()).await;
        if taken.is_err() {
            self.0.state.lock().refused += 1;
        }
        taken
    }

    /// Waits until nobody is connected.
    pub async fn emptied(&self) {
        loop {
            let left = self.0.left.notified();
            if self.0.state.lock().seats.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Gives a place to a connection whose user is not known yet. One that presents nothing (`silent`) has a share of
    /// its own, so that those who say nothing keep nobody out who has something to show.
    pub(crate) fn admit(&self, id: ConnectionId, silent: bool) -> Result<Seat> {
        let mut state = self.0.state.lock();
        if state.draining.is_some() {
            state.refused += 1;
            return Err(Error::new(
                Kind::Draining,
                OPERATION,
                "this node shuts down; another serves",
            )
            .with_retry_after(self.0.config.drain_after));
        }
        let config = &self.0.config;
        if state.seats.len() >= config.connections || (silent && state.unknown >= config.unknown) {
            state.refused += 1;
            return Err(Error::new(
                Kind::Unavailable,
                OPERATION,
                "this node has no room for another connection",
            )
            .with_retry_after(COME_BACK));
        }
        let mailbox = Arc::new(Mailbox::default());
        let taken = Taken {
            user: None,
            session: None,
            silent,
            admitted: Instant::now(),
            mailbox: Arc::clone(&mailbox),
        };
        state.seats.insert(id, taken);
        state.unknown += usize::from(silent);
        state.admitted += 1;
        metrics::gauge!("apex_connections").increment(1.0);
        Ok(Seat { hub: self.clone(), id, mailbox })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Hub,
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
}

impl Seat {
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Says whose connection it is; again, by which login the same user goes on.
    pub(crate) fn identify(&self, principal: &Principal) -> Result<()> {
        let mut state = self.hub.0.state.lock();
        let began = match state.seats.get(&self.id) {
            Some(taken) if taken.user.is_none() => taken.admitted,
            // Who is in and was revoked has a notice already.
            _ => Instant::now(),
        };
        if state.revoked.covers(principal, began) {
            return Err(Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "the login has ended; log in again",
            ));
        }
        let State { seats, users, unknown, refused, .. } = &mut *state;
        let Some(taken) = seats.get_mut(&self.id) else {
            return Err(Error::internal(OPERATION, "a connection lost its place"));
        };
        if taken.user.is_none() {
            let count = users.entry(principal.user()).or_insert(0);
            if *count >= self.hub.0.config.per_user {
                *refused += 1;
                return Err(Error::new(
                    Kind::TooManyConnections,
                    OPERATION,
                    format!("this user has {count} connections, which is the limit; close one"),
                ));
            }
            *count += 1;
            *unknown -= usize::from(std::mem::take(&mut taken.silent));
            taken.user = Some(principal.user());
        }
        taken.session = principal.session();
        Ok(())
    }

    /// As [`Self::identify`], after it has taken a place in the user's share over all nodes.
    pub(crate) async fn seat(&self, principal: &Principal) -> Result<()> {
        self.hub.share(self.id, principal).await?;
        self.identify(principal)
    }

    /// The next notice of the hub's.
    pub(crate) fn poll_notice(&self, cx: &mut Context<'_>) -> Poll<Notice> {
        self.mailbox.reader.register(cx.waker());
        match self.mailbox.notice.lock().take() {
            Some(notice) => Poll::Ready(notice),
            None => Poll::Pending,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.0.shares.give_back(self.id);
        let mut state = self.hub.0.state.lock();
        if let Some(taken) = state.seats.remove(&self.id) {
            metrics::gauge!("apex_connections").decrement(1.0);
            state.unknown -= usize::from(taken.silent);
            if let Some(user) = taken.user {
                release(&mut state.users, user);
            }
        }
        drop(state);
        self.hub.0.left.notify_waiters();
    }
}

fn release(users: &mut HashMap<UserId, usize>, user: UserId) {
    if let Some(count) = users.get_mut(&user) {
        *count -= 1;
        if *count == 0 {
            users.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apex_core::clock::{SystemClock, Timestamp};
    use apex_core::principal::Scopes;
    use apex_core::store::memory::{self, MemoryOptions};
    use std::task::Waker;

    fn hub() -> Hub {
        let config = HubConfig { connections: 4, unknown: 2, per_user: 2, ..HubConfig::default() };
        let stores = memory::open(MemoryOptions::default(), Arc::new(SystemClock));
        Hub::new(config, Shares::new(stores.limits, 2))
    }

    fn admit(hub: &Hub) -> Result<Seat> {
        hub.admit(ConnectionId::new(&SystemClock), true)
    }

    fn ada() -> Principal {
        Principal::vouched(UserId::new(&SystemClock), Scopes::USER)
    }

    fn notice(seat: &Seat) -> Poll<Notice> {
        seat.poll_notice(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_who_say_nothing_cannot_fill_the_house() {
        let hub = hub();
        let (first, _second) = (admit(&hub).unwrap(), admit(&hub).unwrap());
        assert_eq!(admit(&hub).unwrap_err().kind(), Kind::Unavailable);
        drop(hub.admit(ConnectionId::new(&SystemClock), false).unwrap());
        first.identify(&ada()).unwrap();
        let third = admit(&hub);
        assert!(third.is_ok());
        assert_eq!(hub.statistics().unknown, 2);
        assert_eq!(hub.statistics().refused, 1);
    }

    #[test]
    fn a_user_has_a_share_and_leaving_gives_it_back() {
        let hub = hub();
        let ada = ada();
        let seats: Vec<_> = (0..2)
            .map(|_| {
                let seat = admit(&hub).unwrap();
                seat.identify(&ada).unwrap();
                seat.identify(&ada).unwrap();
                seat
            })
            .collect();
        let third = admit(&hub).unwrap();
        assert_eq!(third.identify(&ada).unwrap_err().kind(), Kind::TooManyConnections);
        drop(seats);
        third.identify(&ada).unwrap();
        drop(third);
        let left = hub.statistics();
        assert_eq!((left.connections, left.unknown, left.users), (0, 0, 0));
    }

    #[test]
    fn a_revocation_closes_what_came_by_it_and_what_is_about_to() {
        let hub = hub();
        let now = Timestamp::from_millis(0);
        let ada = ada();
        let (in_already, about_to) = (admit(&hub).unwrap(), admit(&hub).unwrap());
        in_already.identify(&ada).unwrap();
        let all = Revocation { at: now, user: ada.user(), session: None };
        hub.revoke(&Revocation { session: Some(SessionId::new(&SystemClock)), ..all });
        assert!(notice(&in_already).is_pending());
        hub.revoke(&all);
        assert_eq!(notice(&in_already), Poll::Ready(Notice::Revoked));
        assert_eq!(about_to.identify(&ada).unwrap_err().kind(), Kind::Unauthenticated);
        drop(in_already);
        std::thread::sleep(Duration::from_millis(2));
        admit(&hub).unwrap().identify(&ada).unwrap();
    }

    #[tokio::test]
    async fn draining_reaches_everybody_and_admits_nobody() {
        let hub = hub();
        let seat = admit(&hub).unwrap();
        hub.drain();
        assert!(matches!(notice(&seat), Poll::Ready(Notice::Drain(_))));
        assert!(notice(&seat).is_pending());
        assert_eq!(admit(&hub).unwrap_err().kind(), Kind::Draining);
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.emptied().await }
        });
        drop(seat);
        waiting.await.unwrap();
    }
}
