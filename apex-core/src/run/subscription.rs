use super::live::{Live, Watch};
use super::log::{Page, RunLog, RunView};
use super::snapshot::Snapshot;
use super::state::RunState;
use super::tail::{Answer, Ask, Found, Tail, Waiting};
use super::wakeup::{Topic, Wakeup, Woken};
use crate::error::Result;
use crate::event::Recorded;
use crate::id::{Epoch, RunId};
use crate::principal::Principal;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// The most events that one delivery holds.
pub(super) const PAGE: usize = 256;

/// How long a reader trusts that no wake-up was lost before it looks by itself.
pub(super) const LOOK: Duration = Duration::from_secs(20);

/// Where a reader is: the last event that it has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The life of the log that it read; `None` for a reader that has read nothing.
    pub epoch: Option<Epoch>,
    /// The last number; 0 for none.
    pub after: u64,
}

/// Why a reader cannot simply go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// What follows its position is no longer kept.
    Trimmed,
    /// The log has begun a new life, or never had that position.
    Epoch,
}

/// What a subscription brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// The next recorded events, in order, without a hole.
    Events(Vec<Recorded>),
    /// A volatile event.
    Live(Recorded),
    /// The rest cannot be given; this is where the run stands, and what follows comes after `head`.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The life of the log from here on.
        epoch: Epoch,
        /// The last number that the snapshot covers.
        head: u64,
        /// Where the run stands; boxed, since almost every delivery is another.
        snapshot: Box<Snapshot>,
    },
    /// The terminal event has been delivered (or covered by a reset); nothing follows.
    End(RunState),
}

/// One reader of one run: backlog, then tail, without a race and without a copy of its own. It reads the log after
/// its cursor whenever it is woken (or every 20 s), so a slow reader costs the writer nothing; those of one user that are
/// woken at once, with the same [`Live`], read it once.
#[derive(Debug)]
pub struct Subscription {
    log: Arc<dyn RunLog>,
    tail: Arc<Tail>,
    principal: Principal,
    run: RunId,
    epoch: Epoch,
    cursor: u64,
    woken: Woken,
    /// The last wake-up that it has answered.
    waited_at: u64,
    /// The wake-up after which it reads; `None` where nobody woke it.
    woken_by: Option<u64>,
    live: Watch,
    look: Look,
    /// The task that waits, and whether it is woken by what is recorded.
    task: Option<Waker>,
    listening: bool,
    held: Option<Recorded>,
    behind: bool,
    reading: Option<Reading>,
    /// Since when it waits for what another reads.
    waiting: Option<Waiting>,
    /// Whether the last delivery was all there is, and the task is woken by what comes.
    caught_up: bool,
    opening_reset: Option<Delivery>,
}

/// What it has asked the log.
enum Reading {
    Page(BoxFuture<'static, Result<Answer>>),
    /// Where the run stands, since the rest cannot be given; or that it has ended.
    View(BoxFuture<'static, Result<RunView>>),
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Page(_) => "Page",
            Self::View(_) => "View",
        })
    }
}

impl Subscription {
    /// Begins to read after `position`. The view says where the run stood at that moment; when the position cannot
    /// be gone on from, the first delivery is a [`Delivery::Reset`].
    ///
    /// # Errors
    /// `not_found` for a run that is not this principal's.
    pub async fn open(
        log: Arc<dyn RunLog>,
        wakeup: &dyn Wakeup,
        live: &Live,
        principal: Principal,
        run: RunId,
        position: Position,
    ) -> Result<(RunView, Self)> {
        // Listening begins before the first look: what happens in between wakes the first wait.
        let woken = wakeup.listen(Topic::Run(run));
        let waited_at = woken.last();
        let watch = live.watch(run);
        let view = log.view(&principal, run).await?;
        let epoch = position.epoch.unwrap_or(view.epoch);
        let reason = ResetReason::of((epoch, position.after), &Kept::from(&view));
        let opening_reset = reason.map(|reason| reset(reason, &view));
        let subscription = Self {
            log,
            tail: live.tail(run, &principal),
            principal,
            run,
            epoch: view.epoch,
            cursor: if reason.is_some() { view.head } else { position.after },
            woken,
            waited_at,
            woken_by: None,
            live: watch,
            look: Look::new(),
            task: None,
            listening: false,
            held: None,
            behind: true,
            reading: None,
            waiting: None,
            caught_up: false,
            opening_reset,
        };
        Ok((view, subscription))
    }

    /// Whether the reader can go on from the position that it opened with.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.opening_reset.is_none()
    }

    /// The last number delivered.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next delivery; waits for it. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the log says; the cursor stays, so that the call can be made again.
    pub async fn next(&mut self) -> Result<Delivery> {
        let asking = Asking(self);
        poll_fn(|cx| asking.0.poll_next(cx)).await
    }

    /// The next delivery; the task is woken when there is one.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery>> {
        if let Some(reset) = self.opening_reset.take() {
            return Poll::Ready(Ok(reset));
        }
        self.caught_up = false;
        self.know_task(cx.waker());
        loop {
            // What was shown before comes before what is recorded now; what was recorded since makes it old news.
            while self.held.is_none()
                && self.reading.is_none()
                && let Poll::Ready(event) = self.live.poll_next(cx)
            {
                self.hold(event);
            }
            if self.held.as_ref().is_some_and(|held| held.seq <= self.cursor)
                && let Some(held) = self.held.take()
            {
                if held.seq == self.cursor {
                    return Poll::Ready(Ok(Delivery::Live(held)));
                }
                continue;
            }
            if !self.behind {
                ready!(self.poll_woken(cx));
            } else if let Some(delivery) = ready!(self.poll_read(cx))? {
                self.caught_up = !self.behind && self.held.is_none() && self.is_waiting();
                return Poll::Ready(Ok(delivery));
            }
        }
    }

    /// Whether what [`Self::poll_next`] brought last was all there is: the task that asked is woken when there is more,
    /// and need not ask again before.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Whether the task is woken by whatever comes. While it reads it is woken, too, but looks at nothing else.
    fn is_waiting(&self) -> bool {
        let woken = self.woken.is_changed() || self.look.timer.is_elapsed();
        self.listening && self.live.is_waiting() && !woken
    }

    /// Remembers which task waits; another one than before has to be made known to all that may wake it.
    fn know_task(&mut self, task: &Waker) {
        if !self.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            self.task = Some(task.clone());
            self.listening = false;
            self.waiting.iter_mut().for_each(Waiting::forget_task);
            self.live.forget_task();
            self.look.armed = false;
        }
    }

    /// Ready when it has to look again.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.look.is_due(cx);
        let woken = self.woken.poll_changed(cx).is_ready();
        self.listening = true;
        if !due && !woken {
            return Poll::Pending;
        }
        let last = self.woken.last();
        self.woken_by = (self.waited_at != last).then_some(last);
        (self.behind, self.waited_at) = (true, last);
        self.look.put_off();
        Poll::Ready(())
    }

    /// Holds an event back that was shown after something recorded, until that has been read.
    fn hold(&mut self, event: Recorded) {
        if event.seq > self.cursor {
            (self.behind, self.woken_by) = (true, None);
        }
        self.held = Some(event);
    }

    /// What follows the cursor; `None` where nothing does.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Delivery>>> {
        loop {
            let answer = match &mut self.reading {
                None => match ready!(self.ask(cx.waker())) {
                    Some(answer) => answer,
                    None => continue,
                },
                Some(Reading::Page(page)) => {
                    let answer = ready!(page.as_mut().poll(cx));
                    self.reading = None;
                    answer
                }
                Some(Reading::View(view)) => {
                    let view = ready!(view.as_mut().poll(cx));
                    self.reading = None;
                    match self.stands(&view?) {
                        Some(delivery) => return Poll::Ready(Ok(Some(delivery))),
                        None => continue,
                    }
                }
            };
            // What failed is not answered by the same failure again.
            let answer = answer.inspect_err(|_| self.woken_by = None)?;
            if let ControlFlow::Break(delivery) = self.take_in(answer) {
                return Poll::Ready(Ok(delivery));
            }
        }
    }

    /// Asks for what follows: it is known already, or another is about to know it, or the log is read.
    fn ask(&mut self, task: &Waker) -> Poll<Option<Result<Answer>>> {
        let ask = Ask { epoch: self.epoch, after: self.cursor, woken: self.woken_by };
        let found = match self.tail.find(ask, &mut self.waiting, task) {
            Found::Wait => return Poll::Pending,
            Found::Answer(answer) => Some(answer),
            Found::Turn(turn) => {
                let (log, who) = (Arc::clone(&self.log), self.principal.clone());
                let look = turn.look(log, who, self.run, ask, Arc::clone(self.woken.bell()));
                self.reading = Some(Reading::Page(Box::pin(look)));
                None
            }
        };
        self.waiting = None;
        Poll::Ready(found)
    }

    /// What the answer means for the reader; goes on where the log has to say how the run stands.
    fn take_in(&mut self, Answer { page, complete }: Answer) -> ControlFlow<Option<Delivery>> {
        let reason = ResetReason::of((self.epoch, self.cursor), &Kept::from(&page));
        if reason.is_none() {
            if let Some(last) = page.events.last() {
                self.cursor = last.seq;
                // After the terminal event the log says how the run ended.
                self.behind = !complete || last.terminal;
                return ControlFlow::Break(Some(Delivery::Events(page.events)));
            }
            if !page.ended {
                self.behind = false;
                return ControlFlow::Break(None);
            }
        }
        let (log, who, run) = (Arc::clone(&self.log), self.principal.clone(), self.run);
        let view = async move { log.view(&who, run).await };
        self.reading = Some(Reading::View(Box::pin(view)));
        ControlFlow::Continue(())
    }

    /// What it means for the reader that the run stands so. The log may have changed since the page was read that made it
    /// ask: if it has lost what that page told of, it is read again.
    fn stands(&mut self, view: &RunView) -> Option<Delivery> {
        if let Some(reason) = ResetReason::of((self.epoch, self.cursor), &Kept::from(view)) {
            if self.epoch == view.epoch && self.cursor > view.head {
                self.tail.forget();
            }
            (self.epoch, self.cursor) = (view.epoch, view.head);
            return Some(reset(reason, view));
        }
        if view.state.is_terminal() {
            return Some(Delivery::End(view.state));
        }
        self.woken_by = None;
        None
    }
}

/// What a log still has.
struct Kept {
    epoch: Epoch,
    head: u64,
    oldest: u64,
}

impl From<&RunView> for Kept {
    fn from(view: &RunView) -> Self {
        Self { epoch: view.epoch, head: view.head, oldest: view.oldest }
    }
}

impl From<&Page> for Kept {
    fn from(page: &Page) -> Self {
        Self { epoch: page.epoch, head: page.head, oldest: page.oldest }
    }
}

impl ResetReason {
    /// Why a reader cannot go on that has applied a life of the log up to a number, if it cannot.
    fn of((epoch, after): (Epoch, u64), log: &Kept) -> Option<Self> {
        if epoch != log.epoch || after > log.head {
            Some(Self::Epoch)
        } else if after + 1 < log.oldest {
            Some(Self::Trimmed)
        } else {
            None
        }
    }
}

/// A reader that asks. One that stops asking leaves the turn to read to others.
struct Asking<'a>(&'a mut Subscription);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        (self.0.reading, self.0.waiting) = (None, None);
    }
}

/// When a reader looks by itself: one timer for all of its waits, which is not set anew by each, since almost none of
/// them takes so long. To ask it each time would be the most expensive part of a wait.
#[derive(Debug)]
struct Look {
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off; it may be too early.
    at: Instant,
    /// Whether it knows whom to wake then.
    armed: bool,
    /// When it was asked last, and when it is to look if nothing wakes it before.
    now: Instant,
    due: Instant,
}

impl Look {
    fn new() -> Self {
        let now = Instant::now();
        let at = now + LOOK;
        Self { timer: Box::pin(sleep_until(at)), at, armed: false, now, due: at }
    }

    /// The reader looks now.
    fn put_off(&mut self) {
        self.due = self.now + LOOK;
    }

    /// Whether it is due. The task is woken when it is the next time.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        self.now = Instant::now();
        let due = self.now >= self.due;
        if self.now >= self.at {
            self.at = if due { self.now + LOOK } else { self.due };
            self.timer.as_mut().reset(self.at);
            self.armed = false;
        }
        if !self.armed {
            // Out of its turn, too: a timer that is put off would not know whom to wake.
            self.armed = pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending();
        }
        due
    }
}

fn reset(reason: ResetReason, view: &RunView) -> Delivery {
    Delivery::Reset {
        reason,
        epoch: view.epoch,
        head: view.head,
        snapshot: Box::new(view.snapshot.clone()),
    }
}
