use super::{
    Balance, BudgetLimits, BudgetPolicy, BudgetStore, Charge, Period, Reservation, Used, exhausted,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::id::ReservationId;
use crate::principal::Principal;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long a reservation holds without a renewal, and how often there is one.
const LIFE: Duration = Duration::from_secs(60);
const RENEW: Duration = Duration::from_secs(20);

/// The reservations that are renewed at once.
const AT_ONCE: usize = 500;

/// The waits between tries while the store is away.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The budgets of all users, as one process uses them: it renews what it has reserved for as long as that is open,
/// and settles behind the back of who spent, so that nobody waits for it.
///
/// While the store is away nothing new is reserved, so no more can wait to be settled than was reserved by then. What
/// still waits when this is dropped lapses, and is logged.
pub struct Budgets {
    inner: Arc<Inner>,
    workers: [JoinHandle<()>; 2],
}

struct Inner {
    store: Arc<dyn BudgetStore>,
    clock: Arc<dyn Clock>,
    policy: Arc<dyn BudgetPolicy>,
    open: Mutex<HashSet<ReservationId>>,
    settlements: mpsc::UnboundedSender<Settlement>,
    /// How many were to be settled, and how many are.
    taken: watch::Sender<u64>,
    settled: watch::Sender<u64>,
}

struct Settlement {
    principal: Principal,
    id: ReservationId,
    charge: Charge,
}

impl Budgets {
    /// The budgets under this policy, at work on the Tokio runtime that this is called in.
    #[must_use]
    pub fn new(
        store: Arc<dyn BudgetStore>,
        policy: Arc<dyn BudgetPolicy>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (settlements, waiting) = mpsc::unbounded_channel();
        let (taken, settled) = (watch::Sender::new(0), watch::Sender::new(0));
        let open = Mutex::default();
        let inner = Arc::new(Inner { store, clock, policy, open, settlements, taken, settled });
        let workers = [
            tokio::spawn(settle(Arc::clone(&inner), waiting)),
            tokio::spawn(renew(Arc::clone(&inner))),
        ];
        Self { inner, workers }
    }

    /// Reserves what a question may use at most, in the name of whose run asks it.
    ///
    /// # Errors
    /// `budget_exhausted` where it does not fit, with what is left and when it renews; what the policy and the store
    /// say: without them nothing is spent.
    pub async fn reserve(&self, principal: &Principal, most: Charge) -> Result<Reserved> {
        let inner = &self.inner;
        let limits = inner.policy.limits(principal).await?;
        let id = ReservationId::new(&*inner.clock);
        let asked = Reservation { id, most };
        // One whose answer is lost, or is not waited for, lapses.
        let granted = inner.store.reserve(principal, asked, &limits, LIFE).await?;
        if !granted.granted {
            return Err(exhausted(&granted.used, &limits, most, inner.clock.now()));
        }
        inner.open.lock().insert(id);
        let (inner, principal) = (Arc::clone(inner), principal.clone());
        Ok(Reserved { inner, principal, id, most, open: true })
    }

    /// Counts a reservation of a process that was lost as used so far, unless that has settled it itself.
    pub fn charge(&self, principal: &Principal, id: ReservationId, charge: Charge) {
        self.inner.settle(principal.clone(), id, charge);
    }

    /// What is left of each period that has a limit.
    ///
    /// # Errors
    /// What the policy and the store say.
    pub async fn balances(&self, principal: &Principal) -> Result<Vec<Balance>> {
        let limits = self.inner.policy.limits(principal).await?;
        let used = self.inner.store.used(principal).await?;
        Ok(balances(used, &limits))
    }

    /// Waits until everything that was to be settled so far is, at most as long as said. Says whether it is.
    pub async fn settle(&self, within: Duration) -> bool {
        let target = *self.inner.taken.borrow();
        let mut settled = self.inner.settled.subscribe();
        let reached = settled.wait_for(|settled| *settled >= target);
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }
}

/// What is left of each period that these limits limit.
fn balances(used: [Used; 2], limits: &BudgetLimits) -> Vec<Balance> {
    let limited = |period: Period| limits.of(period) != (None, None);
    used.into_iter()
        .filter(|used| limited(used.period))
        .map(|used| Balance::new(used, limits))
        .collect()
}

impl Drop for Budgets {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
        let waiting = *self.inner.taken.borrow() - *self.inner.settled.borrow();
        if waiting > 0 {
            tracing::error!(waiting, "the process ends before what users spent is settled");
        }
    }
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets")
            .field("policy", &self.inner.policy)
            .field("open", &self.inner.open.lock().len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn settle(&self, principal: Principal, id: ReservationId, charge: Charge) {
        self.open.lock().remove(&id);
        self.taken.send_modify(|taken| *taken += 1);
        // Where nobody settles any more it lapses.
        let _ = self.settlements.send(Settlement { principal, id, charge });
    }
}

/// What is reserved for one question. Dropping it gives all of it back.
pub struct Reserved {
    inner: Arc<Inner>,
    principal: Principal,
    id: ReservationId,
    most: Charge,
    open: bool,
}

impl Reserved {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ReservationId {
        self.id
    }

    /// What it may use at most.
    #[must_use]
    pub fn most(&self) -> Charge {
        self.most
    }

    /// Counts what was used, and gives the rest back.
    pub fn settle(mut self, charge: Charge) {
        self.end(charge);
    }

    fn end(&mut self, charge: Charge) {
        if std::mem::take(&mut self.open) {
            self.inner.settle(self.principal.clone(), self.id, charge);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.end(Charge::default());
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("id", &self.id)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

async fn settle(inner: Arc<Inner>, mut waiting: mpsc::UnboundedReceiver<Settlement>) {
    while let Some(Settlement { principal, id, charge }) = waiting.recv().await {
        let mut pause = PAUSE;
        while let Err(error) = inner.store.settle(&principal, id, charge).await {
            if !error.is_retryable() {
                tracing::error!(user = %principal.user(), ?charge, %error, "what a user spent is not settled");
                break;
            }
            tracing::warn!(%error, "what users spent waits for its store");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        inner.settled.send_modify(|settled| *settled += 1);
    }
}

async fn renew(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(RENEW).await;
        let open: Vec<ReservationId> = inner.open.lock().iter().copied().collect();
        for some in open.chunks(AT_ONCE) {
            if let Err(error) = inner.store.renew(some, LIFE).await {
                tracing::warn!(%error, "reservations could not be renewed");
            }
        }
    }
}
