use super::bell::Bell;
use super::log::{Page, RunLog};
use super::subscription::PAGE;
use crate::error::{Error, Result};
use crate::event::Recorded;
use crate::id::{Epoch, RunId, UserId};
use crate::principal::{Principal, Scopes};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::task::Waker;

/// The latest events of one run that one user's readers in this process have read. They read for one another: of many
/// that are woken at once one reads the log, and all pass on the same bytes.
///
/// What a reader is given here was read by the same user with the same rights. That there is nothing more it is told only
/// by a look that began after the wake-up that it answers, so that no wake-up is answered with what was known before it.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Known>);

/// Held by the reader that reads for all; whoever waits for what it finds goes on when it is let go.
pub(super) struct Turn(Arc<Tail>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut known = self.0.0.lock();
        known.looking = false;
        let waiting = std::mem::take(&mut known.waiting);
        drop(known);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// What a reader finds that asks.
pub(super) enum Found {
    /// What is known already, or that somebody has just read in vain.
    Answer(Result<Answer>),
    /// It reads, for all.
    Turn(Turn),
    /// Somebody reads; the task is woken when that is over.
    Wait,
}

/// Since when a reader waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// The last look that had begun when it asked.
    before: u64,
    /// The look whose end wakes it.
    woken_after: Option<u64>,
}

impl Waiting {
    /// Another task waits from now on.
    pub(super) fn forget_task(&mut self) {
        self.woken_after = None;
    }
}

/// What a reader asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    /// The log's life that it reads.
    pub(super) epoch: Epoch,
    /// The last event that it has.
    pub(super) after: u64,
    /// The wake-up that it answers; `None` for one that nobody woke, to whom nothing tells how old an answer may be.
    pub(super) woken: Option<u64>,
}

/// What a reader is told.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) page: Page,
    /// Whether there was nothing more when it was woken.
    pub(super) complete: bool,
}

#[derive(Debug, Default)]
struct Known {
    epoch: Option<Epoch>,
    /// At most a page, without holes.
    events: VecDeque<Recorded>,
    head: u64,
    oldest: u64,
    /// How many looks have begun.
    begun: u64,
    /// Whether somebody has the turn, and who waits for it.
    looking: bool,
    waiting: Vec<Waker>,
    /// The last look that saw the end of the log.
    looked: Look,
    /// After which event it looked, and what it was told, where it brought no event.
    nothing: Option<(u64, Page)>,
    /// The last look that failed, and how.
    failed: Option<(Look, Error)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Look {
    number: u64,
    /// The last wake-up before it.
    woken: u64,
}

impl Look {
    /// Whether it began after that which is asked about; `before` is the last look that had begun by then.
    fn answers(self, ask: Ask, before: u64) -> bool {
        self.number > before || ask.woken.is_some_and(|woken| self.woken >= woken)
    }
}

impl Tail {
    /// What a reader finds; `waiting` is kept by it from when it asks until it has an answer.
    pub(super) fn find(
        self: &Arc<Self>,
        ask: Ask,
        waiting: &mut Option<Waiting>,
        task: &Waker,
    ) -> Found {
        let mut known = self.0.lock();
        let begun = known.begun;
        let waits = waiting.get_or_insert(Waiting { before: begun, woken_after: None });
        if let Some(answer) = known.answer(ask, waits.before) {
            return Found::Answer(answer);
        }
        if !known.looking {
            known.looking = true;
            known.begun += 1;
            return Found::Turn(Turn(Arc::clone(self)));
        }
        if waits.woken_after.replace(begun) != Some(begun) {
            known.waiting.push(task.clone());
        }
        Found::Wait
    }

    /// Forgets what was read: the log has lost some of it. Whoever were given it would be reset for it, again and again.
    pub(super) fn forget(&self) {
        let mut known = self.0.lock();
        known.events.clear();
        known.nothing = None;
    }
}

impl Turn {
    /// Reads the log; `wakeups` are those of the run.
    ///
    /// # Errors
    /// As [`RunLog::read`].
    pub(super) async fn look(
        self,
        log: Arc<dyn RunLog>,
        principal: Principal,
        run: RunId,
        ask: Ask,
        wakeups: Arc<Bell>,
    ) -> Result<Answer> {
        let look = Look { number: self.0.0.lock().begun, woken: wakeups.rung() };
        let read = log.read(&principal, run, ask.after, PAGE).await;
        self.0.0.lock().take(look, ask.after, &read);
        let page = read?;
        let complete = page.events.last().is_none_or(|last| last.seq == page.head);
        Ok(Answer { page, complete })
    }
}

impl Known {
    /// What is known already and good enough; `before` is the last look that had begun when the reader asked.
    fn answer(&self, ask: Ask, before: u64) -> Option<Result<Answer>> {
        let complete = self.looked.answers(ask, before);
        if let Some(page) = self.page(ask) {
            return Some(Ok(Answer { page, complete }));
        }
        if let Some((look, error)) = &self.failed
            && look.answers(ask, before)
        {
            return Some(Err(error.again()));
        }
        let (after, page) = self.nothing.as_ref()?;
        let same = complete && *after == ask.after && page.epoch == ask.epoch;
        same.then(|| Ok(Answer { page: page.clone(), complete }))
    }

    fn page(&self, ask: Ask) -> Option<Page> {
        let first = self.events.front()?.seq;
        let skip = usize::try_from((ask.after + 1).checked_sub(first)?).ok()?;
        // Only the log says how it stands for whom it has been trimmed past: what it has lost since would trim them again
        // and again.
        let trimmed = ask.after + 1 < self.oldest;
        if self.epoch != Some(ask.epoch) || skip >= self.events.len() || trimmed {
            return None;
        }
        let events = self.events.iter().skip(skip).cloned().collect();
        let (head, oldest) = (self.head, self.oldest);
        Some(Page { epoch: ask.epoch, events, head, oldest, ended: false })
    }

    fn take(&mut self, look: Look, after: u64, read: &Result<Page>) {
        let page = match read {
            Ok(page) => page,
            Err(error) => return self.failed = Some((look, error.again())),
        };
        self.failed = None;
        self.keep(page);
        if page.events.last().is_none_or(|last| last.seq == page.head) {
            self.looked = look;
        }
        // Where something follows now, what was told those who were further, or in another life, is out of date.
        self.nothing = page.events.is_empty().then(|| (after, page.clone()));
    }

    /// Keeps the latest page of the life that was read last.
    fn keep(&mut self, page: &Page) {
        let same_life = self.epoch == Some(page.epoch);
        let known = self.events.back().map_or(0, |last| last.seq);
        if same_life && page.head < known {
            // As where the log has lost something ([`Tail::forget`]).
            self.events.clear();
            self.nothing = None;
            return;
        }
        if same_life && page.events.last().is_none_or(|last| last.seq <= known) {
            // A reader that catches up, while the others are further, or nothing new.
            return;
        }
        if !same_life || page.events.first().is_none_or(|first| first.seq != known + 1) {
            self.events.clear();
        }
        self.events.extend(page.events.iter().cloned());
        let excess = self.events.len().saturating_sub(PAGE);
        self.events.drain(..excess);
        (self.epoch, self.head, self.oldest) = (Some(page.epoch), page.head, page.oldest);
    }
}

/// The tails of the runs that are read in this process.
#[derive(Debug, Default)]
pub(super) struct Tails {
    held: HashMap<(RunId, UserId, Scopes), Weak<Tail>>,
    sweep_at: usize,
}

impl Tails {
    /// The tail that this principal's readers of a run share.
    pub(super) fn of(&mut self, run: RunId, principal: &Principal) -> Arc<Tail> {
        let key = (run, principal.user(), principal.scopes());
        if let Some(tail) = self.held.get(&key).and_then(Weak::upgrade) {
            return tail;
        }
        // Tails that nobody reads any more go whenever the map has doubled.
        if self.held.len() >= self.sweep_at {
            self.held.retain(|_, tail| tail.strong_count() > 0);
            self.sweep_at = 2 * self.held.len() + 16;
        }
        let tail = Arc::default();
        self.held.insert(key, Arc::downgrade(&tail));
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::event::Event;
    use crate::run::{Delivery, Lease, LocalWakeup, Position, Subscription};
    use crate::store::memory::{self, MemoryOptions};
    use crate::testkit::{Bench, Between, Over, VirtualClock};
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    /// A log that takes its time to be read, counts how often it is, may fail, and may lose its end once it was read.
    #[derive(Debug)]
    struct Counted {
        log: Arc<dyn RunLog>,
        reads: AtomicUsize,
        down: AtomicBool,
        loses_its_end: AtomicBool,
    }

    #[async_trait]
    impl Between for Counted {
        fn log(&self) -> &dyn RunLog {
            &*self.log
        }

        async fn read(&self, who: &Principal, run: RunId, after: u64, max: usize) -> Result<Page> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let mut page = self.log.read(who, run, after, max).await;
            if self.loses_its_end.swap(false, Ordering::SeqCst) {
                page = page.map(|page| Page { ended: true, ..page });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            match self.down.load(Ordering::SeqCst) {
                true => Err(Error::new(Kind::Unavailable, "test.read", "away")),
                false => page,
            }
        }
    }

    async fn readers(
        bench: &Bench,
        log: &Arc<Over<Counted>>,
        user: &Principal,
        run: RunId,
        count: usize,
    ) -> Vec<Subscription> {
        let mut readers = Vec::new();
        for _ in 0..count {
            let (log, who) = (Arc::clone(log) as Arc<dyn RunLog>, user.clone());
            let wakeup = &*bench.stores.wakeup;
            let opening =
                Subscription::open(log, wakeup, &bench.live, who, run, Position::default());
            readers.push(opening.await.unwrap().1);
        }
        readers
    }

    fn bench() -> (Bench, Arc<Over<Counted>>) {
        let clock = Arc::new(VirtualClock::still());
        let stores = memory::open(MemoryOptions::default(), clock.clone());
        let log = Arc::clone(&stores.runs);
        let counted = Counted {
            log,
            reads: AtomicUsize::default(),
            down: AtomicBool::default(),
            loses_its_end: AtomicBool::default(),
        };
        (Bench::of(stores, clock), Arc::new(Over(counted)))
    }

    /// A run, and its only reader, who has read all there is.
    async fn up_to_date(bench: &Bench, log: &Arc<Over<Counted>>) -> (Lease, Subscription) {
        let ada = bench.user();
        let lease = bench.running(&ada).await.lease;
        let mut reader = readers(bench, log, &ada, lease.run, 1).await.remove(0);
        while reader.cursor() < lease.head {
            reader.next().await.unwrap();
        }
        (lease, reader)
    }

    fn thought() -> Event {
        crate::testkit::thought(10)
    }

    #[test]
    fn what_a_log_has_lost_is_given_to_nobody() {
        let epoch = Epoch::from_bytes([7; 16]);
        let event = |seq| Recorded { seq, terminal: false, json: bytes::Bytes::from_static(b"{}") };
        let page =
            |events: Vec<Recorded>, head| Ok(Page { epoch, events, head, oldest: 1, ended: false });
        let look = |number| Look { number, woken: 0 };
        let mut known = Known::default();
        known.take(look(1), 0, &page((1..=3).map(event).collect(), 3));
        let from_the_start = Ask { epoch, after: 0, woken: None };
        let answer = known.answer(from_the_start, 1).unwrap().unwrap();
        assert_eq!(answer.page.events.len(), 3);
        // A reader that has the three finds the log shorter than that.
        known.take(look(2), 3, &page(Vec::new(), 1));
        assert!(known.answer(from_the_start, 2).is_none());
        assert!(known.answer(Ask { after: 1, ..from_the_start }, 2).is_none());
    }

    #[test]
    fn what_one_was_told_who_was_too_far_is_told_nobody_who_comes_there() {
        let epoch = Epoch::from_bytes([7; 16]);
        let event = |seq| Recorded { seq, terminal: false, json: bytes::Bytes::from_static(b"{}") };
        let page =
            |events: Vec<Recorded>, head| Ok(Page { epoch, events, head, oldest: 1, ended: false });
        let look = |number| Look { number, woken: 1 };
        let mut known = Known::default();
        // One of the life before has read five events, where this one has three yet.
        known.take(look(1), 5, &page(Vec::new(), 3));
        known.take(look(2), 0, &page((1..=5).map(event).collect(), 6));
        assert!(known.answer(Ask { epoch, after: 5, woken: Some(1) }, 2).is_none());
    }

    #[test]
    fn what_was_read_before_the_log_lost_it_is_forgotten_at_once() {
        let epoch = Epoch::from_bytes([7; 16]);
        let event = |seq| Recorded { seq, terminal: false, json: bytes::Bytes::from_static(b"{}") };
        let events: Vec<Recorded> = (1..=3).map(event).collect();
        let tail = Arc::<Tail>::default();
        let look = Look { number: 0, woken: 1 };
        let ended = |events| Ok(Page { epoch, events, head: 3, oldest: 1, ended: true });
        tail.0.lock().take(look, 0, &ended(events));
        tail.0.lock().take(look, 3, &ended(Vec::new()));
        let found = |after| {
            let ask = Ask { epoch, after, woken: Some(1) };
            tail.find(ask, &mut None, Waker::noop())
        };
        assert!(matches!(found(1), Found::Answer(_)) && matches!(found(3), Found::Answer(_)));
        tail.forget();
        assert!(matches!(found(1), Found::Turn(_)) && matches!(found(3), Found::Turn(_)));
    }

    #[test]
    fn whom_the_log_was_trimmed_past_asks_the_log_itself() {
        let epoch = Epoch::from_bytes([7; 16]);
        let event = |seq| Recorded { seq, terminal: false, json: bytes::Bytes::from_static(b"{}") };
        let page = |range: std::ops::RangeInclusive<u64>, oldest| {
            let (head, events) = (*range.end(), range.map(event).collect());
            Ok(Page { epoch, events, head, oldest, ended: false })
        };
        let look = |number| Look { number, woken: 0 };
        let mut known = Known::default();
        known.take(look(1), 0, &page(1..=8, 1));
        known.take(look(2), 8, &page(9..=10, 9));
        let ask = |after| Ask { epoch, after, woken: None };
        assert!(known.answer(ask(3), 2).is_none());
        assert_eq!(known.answer(ask(8), 2).unwrap().unwrap().page.events.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_readers_of_one_user_read_the_log_once_an_event() {
        let (bench, log) = bench();
        let (ada, eve) = (bench.user(), bench.user());
        let lease = bench.running(&ada).await.lease;
        let mut readers = readers(&bench, &log, &ada, lease.run, 100).await;
        let mut last = lease.head;
        for reader in &mut readers {
            while reader.cursor() < last {
                reader.next().await.unwrap();
            }
        }
        log.0.reads.store(0, Ordering::SeqCst);
        for _ in 0..20 {
            bench.append(&lease, last, vec![thought()], None).await.unwrap();
            last += 1;
            let next = readers.iter_mut().map(|reader| async {
                match reader.next().await.unwrap() {
                    Delivery::Events(events) => {
                        assert_eq!(events[0].seq, last);
                        events[0].json.as_ptr().addr()
                    }
                    other => panic!("{other:?}"),
                }
            });
            let shown = futures_util::future::join_all(next).await;
            assert!(shown.iter().all(|place| *place == shown[0]), "the bytes are not shared");
        }
        let reads = log.0.reads.load(Ordering::SeqCst);
        // The hundred first looks of those whom nobody woke are part of it.
        assert!(reads <= 20 + 2, "{reads} reads of 20 events");
        let (log, wakeup) = (log as Arc<dyn RunLog>, &*bench.stores.wakeup);
        let position = Position::default();
        let other = Subscription::open(log, wakeup, &bench.live, eve, lease.run, position).await;
        assert_eq!(other.unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_all_who_wait_and_asked_about_again() {
        let (bench, log) = bench();
        let ada = bench.user();
        let lease = bench.running(&ada).await.lease;
        let mut readers = readers(&bench, &log, &ada, lease.run, 100).await;
        log.0.down.store(true, Ordering::SeqCst);
        let failed = readers.iter_mut().map(|reader| reader.next());
        for told in futures_util::future::join_all(failed).await {
            assert_eq!(told.unwrap_err().kind(), Kind::Unavailable);
        }
        assert!(log.0.reads.load(Ordering::SeqCst) <= 3, "{log:?}");
        log.0.down.store(false, Ordering::SeqCst);
        for reader in &mut readers {
            assert!(matches!(reader.next().await.unwrap(), Delivery::Events(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_woken_while_it_reads_has_to_ask_again() {
        let (bench, log) = bench();
        let (lease, mut reader) = up_to_date(&bench, &log).await;
        let append = async {
            for n in 0..2 {
                // The second comes while the first is read.
                tokio::time::sleep(Duration::from_micros(500) * (10 - 9 * n)).await;
                let at = lease.head + u64::from(n);
                bench.append(&lease, at, vec![thought()], None).await.unwrap();
            }
        };
        let (next, ()) = tokio::join!(reader.next(), append);
        next.unwrap();
        assert_eq!(reader.cursor(), lease.head + 1);
        assert!(!reader.is_caught_up());
        reader.next().await.unwrap();
        assert_eq!(reader.cursor(), lease.head + 2);
        assert!(reader.is_caught_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_whose_end_the_log_has_lost_goes_on() {
        let (bench, log) = bench();
        let (lease, mut reader) = up_to_date(&bench, &log).await;
        log.0.loses_its_end.store(true, Ordering::SeqCst);
        let append = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bench.append(&lease, lease.head, vec![thought()], None).await.unwrap();
        };
        let (next, ()) = tokio::join!(reader.next(), append);
        assert!(matches!(next.unwrap(), Delivery::Events(_)));
        assert!(!log.0.loses_its_end.load(Ordering::SeqCst), "nobody has looked");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_unwoken_is_not_told_what_was_known_before() {
        let (bench, log) = bench();
        let ada = bench.user();
        let lease = bench.running(&ada).await.lease;
        // Wake-ups that never come: every reader has to look by itself.
        let deaf = LocalWakeup::default();
        let mut readers = Vec::new();
        for _ in 0..3 {
            let (log, who) = (Arc::clone(&log) as Arc<dyn RunLog>, ada.clone());
            let position = Position { epoch: None, after: lease.head };
            let opening = Subscription::open(log, &deaf, &bench.live, who, lease.run, position);
            readers.push(opening.await.unwrap().1);
        }
        for last in lease.head..lease.head + 3 {
            let next = readers.iter_mut().map(|reader| async {
                assert!(matches!(reader.next().await.unwrap(), Delivery::Events(_)));
                assert_eq!(reader.cursor(), last + 1);
            });
            let append = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                bench.append(&lease, last, vec![thought()], None).await.unwrap();
            };
            let began = tokio::time::Instant::now();
            tokio::join!(futures_util::future::join_all(next), append);
            assert!(began.elapsed() < Duration::from_secs(21));
        }
    }
}
