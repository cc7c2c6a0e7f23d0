//! Those who wait: users in turn, each user's requests in their order.

use crate::id::UserId;
use std::collections::{HashMap, VecDeque};

/// Requests that wait, each with a number and what its owner is told by. Work in nobody's name counts as one user's.
#[derive(Debug)]
pub(crate) struct Line<W> {
    /// Whose turn is next; everyone in it waits for something.
    turns: VecDeque<Option<UserId>>,
    requests: HashMap<Option<UserId>, VecDeque<(u64, W)>>,
    waiting: usize,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), requests: HashMap::new(), waiting: 0 }
    }
}

impl<W> Line<W> {
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn add(&mut self, user: Option<UserId>, number: u64, waiter: W) {
        let requests = self.requests.entry(user).or_default();
        if requests.is_empty() {
            self.turns.push_back(user);
        }
        requests.push_back((number, waiter));
        self.waiting += 1;
    }

    /// Whose turn it is.
    pub(crate) fn first(&self) -> Option<&(u64, W)> {
        self.requests.get(self.turns.front()?)?.front()
    }

    /// Whose turn it is among those that `may`.
    #[cfg(feature = "postgres")]
    pub(crate) fn next(&self, may: impl Fn(Option<UserId>) -> bool) -> Option<(usize, &W)> {
        let turn = self.turns.iter().position(|user| may(*user))?;
        let (_, first) = self.requests.get(self.turns.get(turn)?)?.front()?;
        Some((turn, first))
    }

    /// Takes the first request of who has that turn; the user's next one comes after everybody else's.
    pub(crate) fn take(&mut self, turn: usize) -> Option<(Option<UserId>, W)> {
        let user = self.turns.remove(turn)?;
        let requests = self.requests.get_mut(&user)?;
        let (_, waiter) = requests.pop_front()?;
        self.waiting -= 1;
        if requests.is_empty() {
            self.requests.remove(&user);
        } else {
            self.turns.push_back(user);
        }
        Some((user, waiter))
    }

    /// Takes the last request of whose turn is last.
    #[cfg(feature = "postgres")]
    pub(crate) fn shed(&mut self) -> Option<(Option<UserId>, W)> {
        let user = *self.turns.back()?;
        let (_, waiter) = self.requests.get_mut(&user)?.pop_back()?;
        self.waiting -= 1;
        self.forget_if_done(user);
        Some((user, waiter))
    }

    /// Takes a request out that nobody waits for any more; says whether it was there.
    pub(crate) fn remove(&mut self, user: Option<UserId>, number: u64) -> bool {
        let Some(requests) = self.requests.get_mut(&user) else {
            return false;
        };
        let before = requests.len();
        requests.retain(|(waiter, _)| *waiter != number);
        let there = requests.len() < before;
        if there {
            self.waiting -= 1;
            self.forget_if_done(user);
        }
        there
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.turns.clear();
        self.waiting = 0;
        std::mem::take(&mut self.requests).into_values().flatten().map(|(_, waiter)| waiter)
    }

    fn forget_if_done(&mut self, user: Option<UserId>) {
        if self.requests.get(&user).is_some_and(VecDeque::is_empty) {
            self.requests.remove(&user);
            self.turns.retain(|waiting| *waiting != user);
        }
    }
}
