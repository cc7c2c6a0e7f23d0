use super::erase::{Erase, Erased};
use crate::budget::{
    Account, BudgetLimits, BudgetStore, Charge, Granted, Reservation, SETTLED, Used,
};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::id::{ReservationId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Budgets in memory.
#[derive(Debug)]
pub(super) struct MemoryBudgetStore {
    pub(super) users: Mutex<HashMap<UserId, Theirs>>,
    clock: Arc<dyn Clock>,
    erased: Arc<Erased>,
}

/// What is kept of a user.
#[derive(Debug, Clone, Default)]
pub(super) struct Theirs {
    account: Account,
    reservations: HashMap<ReservationId, Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    most: Charge,
    until: Timestamp,
    settled: bool,
}

impl MemoryBudgetStore {
    pub(super) fn new(clock: Arc<dyn Clock>, erased: Arc<Erased>) -> Self {
        Self { users: Mutex::default(), clock, erased }
    }
}

impl Theirs {
    /// As they are at this time, what has lapsed gone.
    fn at(&mut self, now: Timestamp) -> &mut Self {
        self.account = self.account.at(now);
        self.reservations.retain(|_, kept| kept.until > now);
        self
    }

    fn reserved(&self) -> Charge {
        let open = self.reservations.values().filter(|kept| !kept.settled);
        open.fold(Charge::default(), |all, kept| all.plus(kept.most))
    }
}

impl Erase for MemoryBudgetStore {
    fn erase(&self, user: UserId) {
        self.users.lock().remove(&user);
    }
}

#[async_trait]
impl BudgetStore for MemoryBudgetStore {
    async fn reserve(
        &self,
        principal: &Principal,
        reservation: Reservation,
        limits: &BudgetLimits,
        life: Duration,
    ) -> Result<Granted> {
        let (mut users, now) = (self.users.lock(), self.clock.now());
        self.erased.refuse(principal.user(), "budget.reserve")?;
        let theirs = users.entry(principal.user()).or_default().at(now);
        let Reservation { id, most } = reservation;
        let known = theirs.reservations.contains_key(&id);
        let granted = known || theirs.account.has_room(theirs.reserved(), most, limits);
        if granted && !known {
            let kept = Kept { most, until: now.plus(life), settled: false };
            theirs.reservations.insert(id, kept);
        }
        Ok(Granted { granted, used: theirs.account.used(theirs.reserved()) })
    }

    async fn renew(&self, reservations: &[ReservationId], life: Duration) -> Result<()> {
        let (mut users, now) = (self.users.lock(), self.clock.now());
        for theirs in users.values_mut() {
            for id in reservations {
                let open = theirs.reservations.get_mut(id);
                if let Some(kept) = open.filter(|kept| !kept.settled && kept.until > now) {
                    kept.until = now.plus(life);
                }
            }
        }
        Ok(())
    }

    async fn settle(
        &self,
        principal: &Principal,
        reservation: ReservationId,
        charge: Charge,
    ) -> Result<()> {
        let (mut users, now) = (self.users.lock(), self.clock.now());
        if self.erased.refuse(principal.user(), "budget.settle").is_err() {
            return Ok(());
        }
        let theirs = users.entry(principal.user()).or_default().at(now);
        if theirs.reservations.get(&reservation).is_some_and(|kept| kept.settled) {
            return Ok(());
        }
        let kept = Kept { most: charge, until: now.plus(SETTLED), settled: true };
        theirs.reservations.insert(reservation, kept);
        theirs.account = theirs.account.charged(charge);
        Ok(())
    }

    async fn used(&self, principal: &Principal) -> Result<[Used; 2]> {
        principal.require(Scope::Read, "budget.used")?;
        let (mut users, now) = (self.users.lock(), self.clock.now());
        Ok(match users.get_mut(&principal.user()) {
            Some(theirs) => {
                let theirs = theirs.at(now);
                theirs.account.used(theirs.reserved())
            }
            None => Account::default().at(now).used(Charge::default()),
        })
    }
}
