use super::line::Line;
use crate::id::UserId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);

/// How many may wait.
const MOST_WAITING: usize = 10_000;

/// How much a dependency takes within any minute; absent for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaceLimits {
    /// How many calls.
    pub calls: Option<u32>,
    /// How many tokens, or whatever calls are weighed by. A call that weighs more than all counts as all.
    pub weight: Option<u64>,
}

/// Lets calls to a dependency begin at the pace that it bears, users in turn: one with a hundred calls in the line
/// does not make another wait for more than one of them at a time.
///
/// It limits what begins within a minute; a [`Bulkhead`](super::Bulkhead) limits what is under way. `governor` keeps
/// no line, and who comes first is served first.
#[derive(Debug)]
pub struct Pace {
    limits: PaceLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    line: Line<Arc<Notify>>,
    next_number: u64,
    /// What began within the last minute, and its weight.
    begun: VecDeque<(Instant, u64)>,
    weight: u64,
    /// Until when nothing may begin.
    closed: Option<Instant>,
}

impl Pace {
    /// A pace.
    #[must_use]
    pub fn new(limits: PaceLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Lets nothing begin for this long, because the dependency said so.
    pub fn close(&self, wait: Duration) {
        let mut state = self.state.lock();
        state.closed = Instant::now().checked_add(wait).max(state.closed);
    }

    /// How long nothing may begin.
    #[must_use]
    pub fn closed_for(&self) -> Option<Duration> {
        let left = self.state.lock().closed?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// The calls that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().line.len()
    }

    /// Begins a call if it need not wait; says whether it has.
    pub fn try_begin(&self, weight: u64) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let may = state.line.len() == 0 && state.wait(&self.limits, weight, now).is_none();
        if may {
            state.begin(&self.limits, weight, now);
        }
        may
    }

    /// Waits for the turn of a call and begins it, within `patience`.
    ///
    /// # Errors
    /// How long it might have taken still, as far as that can be told.
    pub async fn begin(
        &self,
        user: Option<UserId>,
        weight: u64,
        patience: Duration,
    ) -> Result<(), Duration> {
        if self.try_begin(weight) {
            return Ok(());
        }
        let until = Instant::now() + patience;
        let turn = self.line_up(user).ok_or(MINUTE)?;
        loop {
            let now = Instant::now();
            let wait = match self.look(&turn, weight, now) {
                Look::Begun => return Ok(()),
                Look::First(wait) => Some(wait),
                Look::Waits => None,
            };
            if now >= until {
                return Err(wait.unwrap_or(MINUTE));
            }
            let look = wait.map_or(until, |wait| until.min(now + wait));
            tokio::select! {
                () = turn.told.notified() => {}
                () = sleep_until(look) => {}
            }
        }
    }

    fn line_up(&self, user: Option<UserId>) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        if state.line.len() >= MOST_WAITING {
            return None;
        }
        let (number, told) = (state.next_number, Arc::new(Notify::new()));
        state.next_number += 1;
        state.line.add(user, number, Arc::clone(&told));
        Some(Turn { state: &self.state, user, number, told })
    }

    fn look(&self, turn: &Turn<'_>, weight: u64, now: Instant) -> Look {
        let mut state = self.state.lock();
        if state.line.first().is_none_or(|(number, _)| *number != turn.number) {
            return Look::Waits;
        }
        if let Some(wait) = state.wait(&self.limits, weight, now) {
            return Look::First(wait);
        }
        state.line.take(0);
        state.begin(&self.limits, weight, now);
        state.tell_first();
        Look::Begun
    }
}

enum Look {
    Begun,
    /// It is first in the line, and this is how long until it may begin.
    First(Duration),
    Waits,
}

/// A call's place in the line; dropping it leaves the line.
struct Turn<'a> {
    state: &'a Mutex<State>,
    user: Option<UserId>,
    number: u64,
    told: Arc<Notify>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.line.remove(self.user, self.number) {
            state.tell_first();
        }
    }
}

impl State {
    fn tell_first(&self) {
        if let Some((_, told)) = self.line.first() {
            told.notify_one();
        }
    }

    /// How long until a call of this weight may begin, if not now.
    fn wait(&mut self, limits: &PaceLimits, weight: u64, now: Instant) -> Option<Duration> {
        while let Some((at, weight)) = self.begun.front()
            && *at + MINUTE <= now
        {
            self.weight = self.weight.saturating_sub(*weight);
            self.begun.pop_front();
        }
        let closed = self.closed.map(|closed| closed.saturating_duration_since(now));
        let over = |begun: &Instant| (*begun + MINUTE).saturating_duration_since(now);
        let calls = limits.calls.and_then(|most| {
            let gone = self.begun.len().checked_sub(most.max(1) as usize)?;
            self.begun.get(gone).map(|(at, _)| over(at))
        });
        let weighs = limits.weight.and_then(|most| {
            let room = most.saturating_sub(weight.min(most));
            let mut left = self.weight;
            let enough = self.begun.iter().take_while(|(_, weight)| {
                let goes_on = left > room;
                left = left.saturating_sub(*weight);
                goes_on
            });
            enough.last().map(|(at, _)| over(at))
        });
        [closed, calls, weighs].into_iter().flatten().max().filter(|wait| !wait.is_zero())
    }

    fn begin(&mut self, limits: &PaceLimits, weight: u64, now: Instant) {
        if *limits == PaceLimits::default() {
            return;
        }
        let weight = limits.weight.map_or(0, |most| weight.min(most));
        self.weight = self.weight.saturating_add(weight);
        self.begun.push_back((now, weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn calls(calls: u32) -> PaceLimits {
        PaceLimits { calls: Some(calls), weight: None }
    }

    fn user() -> Option<UserId> {
        Some(UserId::new(&SystemClock))
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn a_user_with_a_hundred_calls_makes_another_wait_for_one_of_them() {
        let pace = Arc::new(Pace::new(calls(1)));
        let began = Arc::new(Mutex::new(Vec::new()));
        let line_up = |who: &'static str, user| {
            let (pace, began) = (Arc::clone(&pace), Arc::clone(&began));
            tokio::spawn(async move {
                pace.begin(user, 0, 3 * LONG).await.unwrap();
                began.lock().push(who);
            })
        };
        let (greedy, modest, third) = (user(), user(), user());
        let mut all: Vec<_> = (0..100).map(|_| line_up("greedy", greedy)).collect();
        tokio::task::yield_now().await;
        all.extend((0..2).map(|_| line_up("modest", modest)));
        tokio::task::yield_now().await;
        all.push(line_up("third", third));
        let since = Instant::now();
        for call in all {
            call.await.unwrap();
        }
        let began = began.lock();
        // The first began before anybody else came, and one was next in the line already.
        assert_eq!(
            began[..7],
            ["greedy", "greedy", "modest", "third", "greedy", "modest", "greedy"]
        );
        assert_eq!(since.elapsed().as_secs(), 102 * 60, "one a minute");
        assert_eq!(pace.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_has_more_than_the_limits() {
        let pace = Pace::new(PaceLimits { calls: Some(10), weight: Some(1_000) });
        let mut begun: Vec<(Instant, u64)> = Vec::new();
        for number in 0..200_u64 {
            let weight = number * 37 % 400;
            pace.begin(user(), weight, LONG).await.unwrap();
            begun.push((Instant::now(), weight));
            tokio::time::sleep(Duration::from_millis(number * 97 % 4_000)).await;
        }
        for (at, _) in &begun {
            let within = begun.iter().filter(|(other, _)| *other <= *at && *other + MINUTE > *at);
            let (calls, weight) =
                within.fold((0, 0), |(calls, all), (_, weight)| (calls + 1, all + weight));
            assert!(calls <= 10 && weight <= 1_000, "{calls} calls that weigh {weight}");
        }
        let took = begun.last().unwrap().0.duration_since(begun[0].0);
        // They weigh 40 minutes together, and one that does not fit waits for those before it to be over.
        assert!(took < 55 * MINUTE, "{took:?}: the pace is not made use of");
    }

    #[tokio::test(start_paused = true)]
    async fn what_weighs_more_than_all_waits_for_an_empty_minute() {
        let pace = Pace::new(PaceLimits { calls: None, weight: Some(100) });
        assert!(pace.try_begin(1));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let since = Instant::now();
        pace.begin(user(), 5_000, LONG).await.unwrap();
        assert_eq!(since.elapsed(), Duration::from_secs(50));
        assert!(!pace.try_begin(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_leaves_the_line_and_the_next_is_told() {
        let pace = Arc::new(Pace::new(calls(1)));
        assert!(pace.try_begin(0));
        let hurried = pace.begin(user(), 0, Duration::from_secs(5));
        assert_eq!(hurried.await, Err(Duration::from_secs(55)));
        assert_eq!(pace.waiting(), 0);
        let dropped = {
            let pace = Arc::clone(&pace);
            tokio::spawn(async move { pace.begin(user(), 0, LONG).await })
        };
        tokio::task::yield_now().await;
        let next = {
            let pace = Arc::clone(&pace);
            tokio::spawn(async move { pace.begin(user(), 0, LONG).await })
        };
        tokio::task::yield_now().await;
        dropped.abort();
        next.await.unwrap().unwrap();
        assert_eq!(pace.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_that_wants_to_be_left_alone_is() {
        let pace = Pace::new(PaceLimits::default());
        pace.close(Duration::from_secs(7));
        pace.close(Duration::from_secs(3));
        assert_eq!(pace.closed_for(), Some(Duration::from_secs(7)));
        assert!(!pace.try_begin(0));
        let since = Instant::now();
        pace.begin(user(), 0, LONG).await.unwrap();
        assert_eq!((since.elapsed(), pace.closed_for()), (Duration::from_secs(7), None));
    }
}
