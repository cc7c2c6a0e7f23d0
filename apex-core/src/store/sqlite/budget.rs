use super::database::Database;
use super::erase;
use super::row::{Columns, int};
use crate::budget::{
    Account, BudgetLimits, BudgetStore, Charge, Granted, Reservation, SETTLED, Used, Window,
};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::id::{ReservationId, UserId};
use crate::money::Usd;
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::sync::Arc;
use std::time::Duration;

/// Budgets in SQLite. Money is added up here: SQLite has no number that holds it.
#[derive(Debug)]
pub(super) struct SqliteBudgetStore {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl SqliteBudgetStore {
    pub(super) fn new(database: Arc<Database>, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl BudgetStore for SqliteBudgetStore {
    async fn reserve(
        &self,
        principal: &Principal,
        reservation: Reservation,
        limits: &BudgetLimits,
        life: Duration,
    ) -> Result<Granted> {
        let (user, limits, clock) = (principal.user(), *limits, Arc::clone(&self.clock));
        self.database
            .write("budget.reserve", move |connection, _| {
                let now = clock.now();
                erase::refuse(connection, user, "budget.reserve")?;
                connection.prepare_cached(LAPSED)?.execute([now.as_millis()])?;
                let account = account(connection, user, now)?;
                let before = reserved(connection, user, now)?;
                let Reservation { id, most } = reservation;
                let known = connection.prepare_cached(KNOWN)?.exists([id.as_bytes()])?;
                let granted = known || account.has_room(before, most, &limits);
                let mut all = before;
                if granted && !known {
                    keep(connection, user, reservation, now.plus(life), false)?;
                    all = before.plus(most);
                }
                Ok(Granted { granted, used: account.used(all) })
            })
            .await
    }

    async fn renew(&self, reservations: &[ReservationId], life: Duration) -> Result<()> {
        let (reservations, clock) = (reservations.to_vec(), Arc::clone(&self.clock));
        self.database
            .write("budget.renew", move |connection, _| {
                let now = clock.now();
                let mut renew = connection.prepare_cached(RENEW)?;
                for id in &reservations {
                    let until = now.plus(life).as_millis();
                    renew.execute(params![id.as_bytes(), now.as_millis(), until])?;
                }
                Ok(())
            })
            .await
    }

    async fn settle(
        &self,
        principal: &Principal,
        reservation: ReservationId,
        charge: Charge,
    ) -> Result<()> {
        let (user, clock) = (principal.user(), Arc::clone(&self.clock));
        self.database
            .write("budget.settle", move |connection, _| {
                let now = clock.now();
                let settled = Reservation { id: reservation, most: charge };
                if erase::refuse(connection, user, "budget.settle").is_ok()
                    && keep(connection, user, settled, now.plus(SETTLED), true)?
                {
                    put(connection, user, account(connection, user, now)?.charged(charge))?;
                }
                Ok(())
            })
            .await
    }

    async fn used(&self, principal: &Principal) -> Result<[Used; 2]> {
        principal.require(Scope::Read, "budget.used")?;
        let (user, clock) = (principal.user(), Arc::clone(&self.clock));
        self.database
            .read("budget.used", move |connection| {
                let now = clock.now();
                Ok(account(connection, user, now)?.used(reserved(connection, user, now)?))
            })
            .await
    }
}

const LAPSED: &str = "DELETE FROM budget_reservation WHERE until <= ?1";
const KNOWN: &str = "SELECT 1 FROM budget_reservation WHERE reservation = ?1";
const OPEN: &str = "SELECT tokens, usd FROM budget_reservation \
     WHERE user = ?1 AND settled = 0 AND until > ?2";
const KEEP: &str = "INSERT INTO budget_reservation (reservation, user, until, settled, tokens, usd) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (reservation) DO UPDATE SET \
     until = excluded.until, settled = excluded.settled, tokens = excluded.tokens, \
     usd = excluded.usd WHERE settled = 0";
const RENEW: &str = "UPDATE budget_reservation SET until = ?3 \
     WHERE reservation = ?1 AND settled = 0 AND until > ?2";
const ACCOUNT: &str = "SELECT day_since, day_tokens, day_usd, month_since, month_tokens, month_usd \
     FROM budget WHERE user = ?1";
const PUT: &str = "INSERT INTO budget (user, day_since, day_tokens, day_usd, month_since, \
     month_tokens, month_usd) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (user) DO UPDATE SET \
     day_since = excluded.day_since, day_tokens = excluded.day_tokens, day_usd = excluded.day_usd, \
     month_since = excluded.month_since, month_tokens = excluded.month_tokens, \
     month_usd = excluded.month_usd";

/// The user's account as it is at this time.
fn account(connection: &Connection, user: UserId, now: Timestamp) -> rusqlite::Result<Account> {
    let kept = connection
        .prepare_cached(ACCOUNT)?
        .query_row([user.as_bytes()], |row| {
            let mut columns = Columns::of(row);
            let (day, month) = (window(&mut columns)?, window(&mut columns)?);
            Ok(Account { day, month })
        })
        .optional()?;
    Ok(kept.unwrap_or_default().at(now))
}

fn put(connection: &Connection, user: UserId, account: Account) -> rusqlite::Result<()> {
    let Account { day, month } = account;
    connection.prepare_cached(PUT)?.execute(params![
        user.as_bytes(),
        day.since.as_millis(),
        int(day.spent.tokens),
        day.spent.usd.to_string(),
        month.since.as_millis(),
        int(month.spent.tokens),
        month.spent.usd.to_string(),
    ])?;
    Ok(())
}

/// What the user's questions that are under way may use.
fn reserved(connection: &Connection, user: UserId, now: Timestamp) -> rusqlite::Result<Charge> {
    let mut open = connection.prepare_cached(OPEN)?;
    let of = |row: &Row<'_>| charge(&mut Columns::of(row));
    let charges = open.query_map(params![user.as_bytes(), now.as_millis()], of)?;
    let add = |all: Charge, charge: rusqlite::Result<Charge>| Ok(all.plus(charge?));
    charges.into_iter().try_fold(Charge::default(), add)
}

/// Keeps a reservation; false where it is settled already.
fn keep(
    connection: &Connection,
    user: UserId,
    reservation: Reservation,
    until: Timestamp,
    settled: bool,
) -> rusqlite::Result<bool> {
    let Reservation { id, most } = reservation;
    let kept = connection.prepare_cached(KEEP)?.execute(params![
        id.as_bytes(),
        user.as_bytes(),
        until.as_millis(),
        settled,
        int(most.tokens),
        most.usd.to_string(),
    ])?;
    Ok(kept > 0)
}

fn window(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Window> {
    Ok(Window { since: columns.time()?, spent: charge(columns)? })
}

fn charge(columns: &mut Columns<'_, '_>) -> rusqlite::Result<Charge> {
    let tokens = columns.count()?;
    let usd: Option<Usd> = columns.optional_parsed()?;
    Ok(Charge { tokens, usd: usd.unwrap_or_default() })
}
