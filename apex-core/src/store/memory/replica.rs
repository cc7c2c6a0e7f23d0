use super::Parts;
use super::run_log::MemoryRunLog;
use crate::clock::Clock;
use crate::id::RunId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Puts a store back to an earlier state.
type PutBack = Box<dyn FnOnce() + Send>;

/// A replica that lags behind stores in memory, and takes their place: a model of a database that fails over.
pub struct Replica {
    clock: Arc<dyn Clock>,
    runs: Arc<MemoryRunLog>,
    stores: Vec<Box<dyn Fn() -> PutBack + Send + Sync>>,
    /// What puts each store back to where the replica is.
    reached: Mutex<Vec<PutBack>>,
}

impl Replica {
    /// A replica that has nothing yet.
    pub(super) fn of(parts: &Parts, clock: Arc<dyn Clock>) -> Self {
        let stores: Vec<Box<dyn Fn() -> PutBack + Send + Sync>> = vec![
            kept(&parts.runs, |runs| &runs.runs),
            kept(&parts.shares.0, |shares| shares),
            kept(&parts.erased, |erased| &erased.0),
            kept(&parts.threads, |threads| &threads.threads),
            kept(&parts.files, |files| &files.files),
            kept(&parts.artifacts, |artifacts| &artifacts.artifacts),
            kept(&parts.tickets, |tickets| &tickets.tickets),
            kept(&parts.sessions, |sessions| &sessions.logins),
            kept(&parts.users, |users| &users.users),
            kept(&parts.audit, |audit| &audit.events),
            kept(&parts.limits, |limits| &limits.state),
            kept(&parts.usage, |usage| &usage.attempts),
            kept(&parts.budgets, |budgets| &budgets.users),
            kept(&parts.notes, |notes| &notes.notes),
        ];
        let replica =
            Self { clock, runs: Arc::clone(&parts.runs), stores, reached: Mutex::default() };
        replica.catch_up();
        replica
    }

    /// Has everything that was written until now; what is written from now on it lacks.
    pub fn catch_up(&self) {
        *self.reached.lock() = self.stores.iter().map(|store| store()).collect();
    }

    /// Takes the place of the stores: what was written since it caught up is lost, whether it was acknowledged or not.
    /// Every log that is still open, and the inboxes, begin a new life, by which writers and readers see that. Says
    /// which runs are lost altogether.
    pub fn promote(&self) -> BTreeSet<RunId> {
        let lost = self.promote_unnoticed();
        self.runs.runs.lock().renew_epochs(&*self.clock);
        lost
    }

    /// As [`Self::promote`], but no epoch changes: what a store must never do, for tests of what notices it.
    pub fn promote_unnoticed(&self) -> BTreeSet<RunId> {
        let before = self.runs.runs.lock().known();
        for put_back in std::mem::take(&mut *self.reached.lock()) {
            put_back();
        }
        self.catch_up();
        let after = self.runs.runs.lock().known();
        &before - &after
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").finish_non_exhaustive()
    }
}

/// Copies the state of a store whenever it is called.
fn kept<S, T>(store: &Arc<S>, state: fn(&S) -> &Mutex<T>) -> Box<dyn Fn() -> PutBack + Send + Sync>
where
    S: Send + Sync + 'static,
    T: Clone + Send + 'static,
{
    let store = Arc::clone(store);
    Box::new(move || {
        let (store, reached) = (Arc::clone(&store), state(&store).lock().clone());
        Box::new(move || *state(&store).lock() = reached)
    })
}

#[cfg(test)]
mod tests {
    use crate::clock::Clock;
    use crate::error::Kind;
    use crate::run::{
        Append, Delivery, Live, LocalWakeup, Position, ResetReason, RunState, Subscription,
    };
    use crate::store::memory::{MemoryOptions, replicated};
    use crate::testkit::{Bench, VirtualClock, thought};
    use std::sync::Arc;

    /// A bench over stores with a replica.
    fn bench() -> (Bench, super::Replica) {
        let clock = Arc::new(VirtualClock::still());
        let wakeup = Arc::new(LocalWakeup::default());
        let stores =
            replicated(MemoryOptions::default(), Arc::clone(&clock) as Arc<dyn Clock>, wakeup);
        (Bench::of(stores.0, clock), stores.1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failover_loses_what_the_replica_lacks_and_everybody_is_told() {
        let (bench, replica) = bench();
        let ada = bench.user();
        let lease = bench.running(&ada).await.lease;
        let (_, mut reader) = Subscription::open(
            Arc::clone(&bench.stores.runs),
            &*bench.stores.wakeup,
            &Live::default(),
            ada.clone(),
            lease.run,
            Position::default(),
        )
        .await
        .unwrap();
        replica.catch_up();
        bench.append(&lease, lease.head, vec![thought(10)], None).await.unwrap();
        while reader.cursor() < lease.head + 1 {
            reader.next().await.unwrap();
        }
        let late = bench.running(&ada).await.lease;
        assert_eq!(replica.promote().into_iter().collect::<Vec<_>>(), [late.run]);
        // The writer has lost the run, in its old place and in the one that it thinks of.
        for after in [lease.head, lease.head + 1] {
            let refused = bench.append(&lease, after, vec![thought(10)], None).await;
            assert_eq!(refused.unwrap_err().kind(), Kind::Fenced);
        }
        let lost = bench.append(&late, late.head, vec![thought(10)], None).await;
        assert_eq!(lost.unwrap_err().kind(), Kind::Fenced);
        match reader.next().await.unwrap() {
            Delivery::Reset { reason, epoch, head, snapshot } => {
                assert_eq!((reason, head), (ResetReason::Epoch, lease.head));
                assert_ne!(epoch, lease.epoch);
                assert_eq!(snapshot.state, RunState::Running);
            }
            other => panic!("{other:?}"),
        }
        // What follows comes under the new epoch.
        bench.pass(2 * crate::run::RunLimits::default().lease).await;
        let again = bench.claim(bench.node(), 10).await.remove(0).lease;
        assert_eq!((again.run, again.head), (lease.run, lease.head));
        assert_ne!(again.epoch, lease.epoch);
        let empty = Append {
            batch: crate::id::BatchId::new(&*bench.clock),
            after: again.head,
            events: Vec::new(),
            checkpoint: None,
            transition: None,
            wake_at: None,
            lapsed: Vec::new(),
        };
        bench.stores.runs.append(&again, empty).await.unwrap();
    }
}
