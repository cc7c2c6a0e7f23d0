use super::audit::{AuditAction, AuditEvent, AuditStore};
use super::burst::Bursts;
use super::config::AddressMask;
use super::entry::Presented;
use crate::clock::{Clock, Timestamp};
use crate::error::correlation;
use crate::id::{AuditId, SessionId, UserId};
use crate::limit::Rate;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Events that may wait for the store; the oldest give way, and are counted.
const WAITING: usize = 8_192;

/// The most events of one write.
const BATCH: usize = 256;

/// How many refusals of nobody in particular are kept: a flood of them is counted, not written down one by one.
const ANONYMOUS: Rate = Rate { burst: 2_000, refill: Duration::from_millis(50) };

/// How long after a failure the store is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How often what is too old is dropped.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// Writes down what happens at the door, without making anyone wait for it: logs and metrics at once, the store in
/// the background.
#[derive(Debug, Clone)]
pub(super) struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn AuditStore>,
    clock: Arc<dyn Clock>,
    mask: AddressMask,
    life: Duration,
    bursts: Bursts,
    queue: Mutex<Queue>,
    emptied: Notify,
    began: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<AuditEvent>,
    writing: bool,
    swept: Option<Instant>,
    /// When nobody in particular may be refused again as often as [`ANONYMOUS`] says.
    full_at: i64,
}

/// What is to be written down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Happened<'a> {
    pub(super) action: AuditAction,
    pub(super) reason: Option<&'static str>,
    pub(super) presented: Option<&'a Presented>,
    pub(super) user: Option<UserId>,
    pub(super) session: Option<SessionId>,
}

impl Happened<'_> {
    /// Something done, by and about a user.
    pub(super) fn done(action: AuditAction, user: UserId) -> Self {
        Self { action, reason: None, presented: None, user: Some(user), session: None }
    }
}

impl Recorder {
    pub(super) fn new(
        store: Arc<dyn AuditStore>,
        clock: Arc<dyn Clock>,
        mask: AddressMask,
        life: Duration,
        bursts: Bursts,
    ) -> Self {
        let (queue, emptied, began) = (Mutex::default(), Notify::new(), Instant::now());
        Self(Arc::new(Inner { store, clock, mask, life, bursts, queue, emptied, began }))
    }

    pub(super) fn record(&self, happened: Happened<'_>) {
        let Inner { clock, mask, bursts, .. } = &*self.0;
        let address = happened.presented.and_then(|presented| presented.address);
        let event = AuditEvent {
            id: AuditId::new(&**clock),
            at: clock.now(),
            action: happened.action,
            reason: happened.reason.map(str::to_owned),
            way: happened.presented.map(|presented| presented.way),
            user: happened.user,
            session: happened.session,
            address: address.and_then(|address| mask.apply(address)),
            correlation: happened
                .presented
                .and_then(|presented| presented.correlation)
                .or_else(correlation::current),
        };
        let action = event.action.as_str();
        let outcome = happened.reason.unwrap_or("done");
        let way = event.way.map_or("none", super::Way::as_str);
        let labels = [("action", action), ("way", way), ("outcome", outcome)];
        metrics::counter!("apex_door_total", &labels).increment(1);
        tracing::info!(
            target: "apex::audit",
            id = %event.id,
            action,
            way,
            outcome,
            user = event.user.map(tracing::field::display),
            session = event.session.map(tracing::field::display),
            address = event.address.as_deref(),
            correlation = event.correlation.map(tracing::field::display),
        );
        bursts.note(&event);
        self.queue(event);
    }

    fn queue(&self, event: AuditEvent) {
        let mut queue = self.0.queue.lock();
        if event.reason.is_some() && event.user.is_none() {
            let now = i64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(i64::MAX);
            match ANONYMOUS.take(1, queue.full_at, now) {
                Ok(full_at) => queue.full_at = full_at,
                Err(_) => return metrics::counter!("apex_audit_lost_total").increment(1),
            }
        }
        if queue.events.len() >= WAITING {
            queue.events.pop_front();
            metrics::counter!("apex_audit_lost_total").increment(1);
        }
        queue.events.push_back(event);
        if queue.writing {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            queue.writing = true;
            runtime.spawn(self.clone().write());
        }
    }

    /// Waits until what has happened so far is in the store, at most `longest`; says whether it is.
    pub(super) async fn written(&self, longest: Duration) -> bool {
        let writing = async {
            loop {
                let emptied = self.0.emptied.notified();
                if !self.0.queue.lock().writing {
                    return;
                }
                emptied.await;
            }
        };
        tokio::time::timeout(longest, writing).await.is_ok()
    }

    async fn write(self) {
        while let Some(batch) = self.next() {
            while let Err(error) = self.0.store.append(batch.clone()).await {
                tracing::warn!(%error, "the record of the door cannot be written; it is tried again");
                metrics::counter!("apex_audit_failures_total").increment(1);
                tokio::time::sleep(PAUSE).await;
            }
            self.sweep().await;
        }
        self.0.emptied.notify_waiters();
    }

    fn next(&self) -> Option<Vec<AuditEvent>> {
        let mut queue = self.0.queue.lock();
        let count = queue.events.len().min(BATCH);
        queue.writing = count > 0;
        (count > 0).then(|| queue.events.drain(..count).collect())
    }

    async fn sweep(&self) {
        {
            let mut queue = self.0.queue.lock();
            if queue.swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
                return;
            }
            queue.swept = Some(Instant::now());
        }
        let before: Timestamp = self.0.clock.now().minus(self.0.life);
        if let Err(error) = self.0.store.forget(before).await {
            tracing::warn!(%error, "old entries of the record of the door could not be dropped");
        }
    }
}
