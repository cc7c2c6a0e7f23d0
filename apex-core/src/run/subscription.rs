use super::live::{Live, Watch};
use super::log::{RunLog, RunView};
use super::snapshot::Snapshot;
use super::state::RunState;
use super::tail::{Answer, Ask, Tail};
use super::wakeup::{Topic, Wakeup, Woken};
use crate::error::Result;
use crate::event::Recorded;
use crate::id::{Epoch, RunId};
use crate::principal::Principal;
use serde::{Deserialize, Serialize};
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
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
    held: Option<Recorded>,
    behind: bool,
    opening_reset: Option<Delivery>,
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
        let reason = if position.epoch.is_some_and(|epoch| epoch != view.epoch)
            || position.after > view.head
        {
            Some(ResetReason::Epoch)
        } else if position.after + 1 < view.oldest {
            Some(ResetReason::Trimmed)
        } else {
            None
        };
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
            live: Watch::new(watch),
            look: Look::new(),
            held: None,
            behind: true,
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
        if let Some(reset) = self.opening_reset.take() {
            return Ok(reset);
        }
        loop {
            // What was shown before comes before what is recorded now; what was recorded since makes it old news.
            if self.behind {
                self.take_shown().await;
            }
            if self.held.as_ref().is_some_and(|held| held.seq <= self.cursor)
                && let Some(held) = self.held.take()
            {
                if held.seq == self.cursor {
                    return Ok(Delivery::Live(held));
                }
                continue;
            }
            if self.behind
                && let Some(delivery) = self.read().await?
            {
                return Ok(delivery);
            }
            self.wait().await;
        }
    }

    /// Takes the next volatile event that is there already.
    async fn take_shown(&mut self) {
        if self.held.is_none()
            && let Poll::Ready(event) = poll_fn(|cx| Poll::Ready(self.live.poll_next(cx))).await
        {
            self.hold(event);
        }
    }

    /// Holds an event back that was shown after something recorded, until that has been read.
    fn hold(&mut self, event: Recorded) {
        if event.seq > self.cursor {
            (self.behind, self.woken_by) = (true, None);
        }
        self.held = Some(event);
    }

    async fn read(&mut self) -> Result<Option<Delivery>> {
        let ask = Ask { epoch: self.epoch, after: self.cursor, woken: self.woken_by };
        let (log, who) = (&*self.log, &self.principal);
        let answer = self.tail.read(log, who, self.run, ask, &self.woken).await;
        // What failed is not answered by the same failure again.
        let Answer { page, complete } = answer.inspect_err(|_| self.woken_by = None)?;
        let reason = if page.epoch != self.epoch || page.head < self.cursor {
            Some(ResetReason::Epoch)
        } else if self.cursor + 1 < page.oldest {
            Some(ResetReason::Trimmed)
        } else {
            None
        };
        if let Some(reason) = reason {
            let view = self.log.view(&self.principal, self.run).await?;
            (self.epoch, self.cursor) = (view.epoch, view.head);
            return Ok(Some(reset(reason, &view)));
        }
        if let Some(last) = page.events.last() {
            self.cursor = last.seq;
            // After the terminal event the log says how the run ended.
            self.behind = !complete || last.terminal;
            return Ok(Some(Delivery::Events(page.events)));
        }
        if page.ended {
            let view = self.log.view(&self.principal, self.run).await?;
            return Ok(Some(Delivery::End(view.state)));
        }
        self.behind = false;
        Ok(None)
    }

    async fn wait(&mut self) {
        let due = Instant::now() + LOOK;
        let (live, look, full) = (&mut self.live, &mut self.look, self.held.is_some());
        let shown = poll_fn(|cx| if full { Poll::Pending } else { live.poll_next(cx) });
        tokio::select! {
            biased;
            () = self.woken.changed() => self.look_again(),
            () = poll_fn(|cx| look.poll_due(due, cx)) => self.look_again(),
            event = shown => self.hold(event),
        }
    }

    fn look_again(&mut self) {
        let last = self.woken.last();
        self.woken_by = (self.waited_at != last).then_some(last);
        (self.behind, self.waited_at) = (true, last);
    }
}

/// When a reader looks by itself: one timer for all of its waits, which is not set anew by each, since almost none of
/// them takes so long.
#[derive(Debug)]
struct Look {
    timer: Pin<Box<Sleep>>,
    /// When the timer goes off; it may be too early.
    at: Instant,
    /// Whom it wakes then. To ask it before would be the most expensive part of a wait.
    wakes: Option<Waker>,
}

impl Look {
    fn new() -> Self {
        let at = Instant::now() + LOOK;
        Self { timer: Box::pin(sleep_until(at)), at, wakes: None }
    }

    /// Ready when it is `due`.
    fn poll_due(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= due {
            return Poll::Ready(());
        }
        let armed = self.wakes.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if now >= self.at {
            self.at = due;
            self.timer.as_mut().reset(due);
        } else if armed {
            return Poll::Pending;
        }
        if !armed {
            self.wakes = Some(cx.waker().clone());
        }
        // Out of its turn, too: a timer that is put off would not know whom to wake.
        pin!(unconstrained(self.timer.as_mut())).poll(cx)
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
