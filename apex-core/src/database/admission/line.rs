//! Those who wait with one priority: users in turn, each user's requests in their order.

use super::Grant;
use crate::id::UserId;
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) grant: oneshot::Sender<Grant>,
}

/// The requests of one priority. Work in nobody's name counts as one user's.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Whose turn is next; everyone in it waits for something.
    turns: VecDeque<Option<UserId>>,
    requests: HashMap<Option<UserId>, VecDeque<Waiter>>,
    waiting: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn add(&mut self, user: Option<UserId>, waiter: Waiter) {
        let requests = self.requests.entry(user).or_default();
        if requests.is_empty() {
            self.turns.push_back(user);
        }
        requests.push_back(waiter);
        self.waiting += 1;
    }

    /// Whose turn it is among those that `may`, and since when that request has waited.
    pub(super) fn next(&self, may: impl Fn(Option<UserId>) -> bool) -> Option<(usize, Instant)> {
        let turn = self.turns.iter().position(|user| may(*user))?;
        let first = self.requests.get(self.turns.get(turn)?)?.front()?;
        Some((turn, first.since))
    }

    /// Takes the first request of who has that turn; the user's next one comes after everybody else's.
    pub(super) fn take(&mut self, turn: usize) -> Option<(Option<UserId>, Waiter)> {
        let user = self.turns.remove(turn)?;
        let requests = self.requests.get_mut(&user)?;
        let waiter = requests.pop_front()?;
        self.waiting -= 1;
        if requests.is_empty() {
            self.requests.remove(&user);
        } else {
            self.turns.push_back(user);
        }
        Some((user, waiter))
    }

    /// Takes the last request of whose turn is last.
    pub(super) fn shed(&mut self) -> Option<(Option<UserId>, Waiter)> {
        let user = *self.turns.back()?;
        let waiter = self.requests.get_mut(&user)?.pop_back()?;
        self.waiting -= 1;
        self.forget_if_done(user);
        Some((user, waiter))
    }

    /// Takes a request out that nobody waits for any more; says whether it was there.
    pub(super) fn remove(&mut self, user: Option<UserId>, number: u64) -> bool {
        let Some(requests) = self.requests.get_mut(&user) else {
            return false;
        };
        let before = requests.len();
        requests.retain(|waiter| waiter.number != number);
        let there = requests.len() < before;
        if there {
            self.waiting -= 1;
            self.forget_if_done(user);
        }
        there
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        self.turns.clear();
        self.waiting = 0;
        std::mem::take(&mut self.requests).into_values().flatten()
    }

    fn forget_if_done(&mut self, user: Option<UserId>) {
        if self.requests.get(&user).is_some_and(VecDeque::is_empty) {
            self.requests.remove(&user);
            self.turns.retain(|waiting| *waiting != user);
        }
    }
}
