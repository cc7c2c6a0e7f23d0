//! Who may have a session, decided before the pool of connections: so many places, a share of them for each user,
//! users in turn, and three priorities. It does no IO and knows no connection.
//!
//! Whoever is let in holds a [`Place`]; whoever has to wait does so for a bounded time in a bounded line. A higher
//! priority goes first, but once a request of a lower one has waited for long, every fourth place is its. When the
//! line is full, a newcomer takes the room of the last request of a lower priority, or is refused.

#[cfg(test)]
mod tests;

use super::access::{Access, Priority};
use super::config::DatabaseConfig;
use crate::error::{Error, Kind, Result};
use crate::id::UserId;
use crate::resilience::Line;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// While a request of a lower priority has waited for long, every so manieth place is for such a one.
const TURN_OF_THE_AGED: u32 = 4;

/// What a waiting request is told.
type Grant = Result<Place, Refused>;

/// A request that waits.
#[derive(Debug)]
struct Waiter {
    since: Instant,
    grant: oneshot::Sender<Grant>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The line is full.
    Full,
    /// This user's part of the line is full.
    UserFull,
    /// It waited for as long as it may.
    TooLong,
    /// It waited for as long as it may while the user held a whole share.
    UserTooLong,
    /// The database is being closed.
    Closed,
}

impl Refused {
    fn error(self, operation: &'static str, rules: &Rules) -> Error {
        let (kind, message, reason) = match self {
            Self::Full => (
                Kind::PoolExhausted,
                "too many requests wait for a database session; try again",
                "full",
            ),
            Self::TooLong => (
                Kind::PoolExhausted,
                "no database session became free in time; try again",
                "too_long",
            ),
            Self::UserFull => (
                Kind::RateLimited,
                "too many of this user's requests wait for a database session; try again",
                "user_full",
            ),
            Self::UserTooLong => (
                Kind::RateLimited,
                "this user's database sessions stayed in use; try again",
                "user_too_long",
            ),
            Self::Closed => {
                (Kind::Draining, "the database is being closed; another node will serve", "closed")
            }
        };
        metrics::counter!("apex_database_refused_total", "reason" => reason).increment(1);
        Error::new(kind, operation, message)
            .with("connections", rules.places)
            .with_retry_after(rules.wait)
    }
}

/// The limits.
#[derive(Debug, Clone, Copy)]
struct Rules {
    places: usize,
    share: usize,
    queue: usize,
    queue_per_user: usize,
    wait: Duration,
    age: Duration,
    preempt: Duration,
}

/// Gives out the places.
#[derive(Debug)]
pub(super) struct Admission {
    rules: Rules,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    rules: Rules,
    free: usize,
    /// The least first, as [`Priority::ALL`].
    lines: [Line<Waiter>; 3],
    users: HashMap<UserId, Book>,
    next_number: u64,
    /// Places that went to higher priorities while a request of a lower one had waited for long.
    passed_over: u32,
    closed: bool,
}

/// What a user has; forgotten when it is nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Book {
    holds: usize,
    waits: usize,
}

impl Admission {
    pub(super) fn new(config: &DatabaseConfig) -> Self {
        let rules = Rules {
            places: config.connections,
            share: config.share(),
            queue: config.queue(),
            queue_per_user: config.waiting_per_user,
            wait: config.acquire,
            age: config.age,
            preempt: config.preempt,
        };
        let state = State {
            rules,
            free: rules.places,
            lines: Default::default(),
            users: HashMap::new(),
            next_number: 0,
            passed_over: 0,
            closed: false,
        };
        Self { rules, state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a place until the deadline. When critical work has waited for long, `preempt` is called until it
    /// says that someone gave their place.
    ///
    /// # Errors
    /// [`Kind::PoolExhausted`] and [`Kind::RateLimited`] with the time after which to try again;
    /// [`Kind::Draining`] when the database is being closed.
    pub(super) async fn enter(
        &self,
        access: &Access,
        deadline: Instant,
        preempt: impl Fn() -> bool,
    ) -> Result<Place> {
        let refuse = |refused: Refused| refused.error(access.operation, &self.rules);
        let mut waiting = match self.ask(access) {
            Ok(Asked::Let(place)) => return Ok(place),
            Ok(Asked::Wait(waiting)) => waiting,
            Err(refused) => return Err(refuse(refused)),
        };
        let mut granted = Err(());
        // What could give its place may still be on the way to its connection, so this is tried again.
        let mut impatient = access.priority == Priority::Critical;
        while impatient && granted.is_err() && Instant::now() < deadline {
            let patience = deadline.min(Instant::now() + self.rules.preempt);
            granted = timeout_at(patience, &mut waiting.grant).await.map_err(drop);
            impatient = granted.is_err() && !preempt();
        }
        if granted.is_err() {
            granted = timeout_at(deadline, &mut waiting.grant).await.map_err(drop);
        }
        match granted {
            Ok(Ok(Ok(place))) => Ok(place),
            Ok(Ok(Err(refused))) => Err(refuse(refused)),
            Ok(Err(_)) => Err(refuse(Refused::Closed)),
            Err(()) => {
                // A place may come in the very moment in which the wait ends.
                if let Some(Ok(place)) = waiting.give_up() {
                    return Ok(place);
                }
                Err(refuse(self.why_so_long(access)))
            }
        }
    }

    /// Refuses those who wait and everyone who comes.
    pub(super) fn close(&self) {
        let waiters: Vec<Waiter> = {
            let mut state = self.state.lock();
            state.closed = true;
            state.users.values_mut().for_each(|book| book.waits = 0);
            state.users.retain(|_, book| book.holds > 0);
            state.lines.iter_mut().flat_map(Line::drain).collect()
        };
        for waiter in waiters {
            let _ = waiter.grant.send(Err(Refused::Closed));
        }
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.rules.places - self.state.lock().free
    }

    /// How many requests wait, by priority.
    pub(super) fn waiting(&self) -> [usize; 3] {
        self.state.lock().lines.each_ref().map(Line::len)
    }

    fn ask(&self, access: &Access) -> Result<Asked, Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // While there is a free place, those who wait are over their share.
        if state.free > 0 && state.may_hold_more(access.user) {
            state.let_in(access.user);
            return Ok(Asked::Let(self.place(access.user)));
        }
        if let Some(user) = access.user
            && state.users.get(&user).is_some_and(|book| book.waits >= self.rules.queue_per_user)
        {
            return Err(Refused::UserFull);
        }
        let mut shed = None;
        if state.waiting() >= self.rules.queue {
            shed = Some(state.shed_below(access.priority).ok_or(Refused::Full)?);
        }
        let (grant, granted) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        let waiter = Waiter { since: Instant::now(), grant };
        state.line(access.priority).add(access.user, number, waiter);
        state.note_waiting(access.user, true);
        drop(state);
        if let Some(shed) = shed {
            let _ = shed.grant.send(Err(Refused::Full));
        }
        Ok(Asked::Wait(Waiting {
            state: Arc::clone(&self.state),
            user: access.user,
            priority: access.priority,
            number,
            grant: granted,
        }))
    }

    fn place(&self, user: Option<UserId>) -> Place {
        Place { state: Arc::clone(&self.state), user }
    }

    fn why_so_long(&self, access: &Access) -> Refused {
        if self.state.lock().may_hold_more(access.user) {
            Refused::TooLong
        } else {
            Refused::UserTooLong
        }
    }
}

impl State {
    fn may_hold_more(&self, user: Option<UserId>) -> bool {
        let holds = user.and_then(|user| self.users.get(&user)).map_or(0, |book| book.holds);
        user.is_none() || holds < self.rules.share
    }

    fn waiting(&self) -> usize {
        self.lines.iter().map(Line::len).sum()
    }

    fn line(&mut self, priority: Priority) -> &mut Line<Waiter> {
        let [low, normal, critical] = &mut self.lines;
        match priority {
            Priority::Low => low,
            Priority::Normal => normal,
            Priority::Critical => critical,
        }
    }

    fn let_in(&mut self, user: Option<UserId>) {
        self.free -= 1;
        if let Some(user) = user {
            self.users.entry(user).or_default().holds += 1;
        }
    }

    fn note_waiting(&mut self, user: Option<UserId>, more: bool) {
        let Some(user) = user else {
            return;
        };
        let book = self.users.entry(user).or_default();
        book.waits = if more { book.waits + 1 } else { book.waits.saturating_sub(1) };
        self.forget_if_done(user);
    }

    fn forget_if_done(&mut self, user: UserId) {
        if self.users.get(&user).is_some_and(|book| book.holds == 0 && book.waits == 0) {
            self.users.remove(&user);
        }
    }

    fn shed_below(&mut self, priority: Priority) -> Option<Waiter> {
        let lower = Priority::ALL.into_iter().filter(|lower| *lower < priority);
        for lower in lower {
            if let Some((user, waiter)) = self.line(lower).shed() {
                self.note_waiting(user, false);
                return Some(waiter);
            }
        }
        None
    }

    /// Takes those out of the lines who get a place now.
    fn admit(&mut self) -> Vec<(Option<UserId>, Waiter)> {
        let mut admitted = Vec::new();
        while self.free > 0
            && let Some((user, waiter)) = self.next()
        {
            self.note_waiting(user, false);
            self.let_in(user);
            admitted.push((user, waiter));
        }
        admitted
    }

    fn next(&mut self) -> Option<(Option<UserId>, Waiter)> {
        if self.waiting() == 0 {
            return None;
        }
        let may = |user| self.may_hold_more(user);
        let mut candidates =
            Priority::ALL.into_iter().rev().zip(self.lines.iter().rev()).filter_map(
                |(priority, line)| {
                    line.next(may).map(|(turn, waiter)| (priority, turn, waiter.since))
                },
            );
        let (first, turn, _) = candidates.next()?;
        let now = Instant::now();
        let aged = candidates
            .filter(|(_, _, since)| now.duration_since(*since) >= self.rules.age)
            .min_by_key(|(_, _, since)| *since);
        let (priority, turn) = match aged {
            None => (first, turn),
            Some((priority, turn, _)) if self.passed_over + 1 >= TURN_OF_THE_AGED => {
                self.passed_over = 0;
                (priority, turn)
            }
            Some(_) => {
                self.passed_over += 1;
                (first, turn)
            }
        };
        self.line(priority).take(turn)
    }
}

enum Asked {
    Let(Place),
    Wait(Waiting),
}

/// A request in the line. Dropping it takes it out; a place that was given to it in the meantime goes on to the next.
struct Waiting {
    state: Arc<Mutex<State>>,
    user: Option<UserId>,
    priority: Priority,
    number: u64,
    grant: oneshot::Receiver<Grant>,
}

impl Waiting {
    fn leave(&self) {
        let mut state = self.state.lock();
        if state.line(self.priority).remove(self.user, self.number) {
            state.note_waiting(self.user, false);
        }
    }

    fn give_up(mut self) -> Option<Grant> {
        self.leave();
        self.grant.try_recv().ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The right to one connection; dropping it gives it to who is next.
#[derive(Debug)]
pub(super) struct Place {
    state: Arc<Mutex<State>>,
    user: Option<UserId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let admitted = {
            let mut state = self.state.lock();
            state.free += 1;
            if let Some(user) = self.user {
                if let Some(book) = state.users.get_mut(&user) {
                    book.holds = book.holds.saturating_sub(1);
                }
                state.forget_if_done(user);
            }
            state.admit()
        };
        for (user, waiter) in admitted {
            // When nobody waits for it any more, the place comes back here and goes on.
            let _ = waiter.grant.send(Ok(Self { state: Arc::clone(&self.state), user }));
        }
    }
}
