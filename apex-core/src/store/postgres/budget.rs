use super::row::{Columns, int, key};
use crate::budget::{
    Account, BudgetLimits, BudgetStore, Charge, Granted, Reservation, SETTLED, Used, Window,
};
use crate::clock::{Clock, Timestamp};
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::{ReservationId, UserId};
use crate::money::Usd;
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Budgets in PostgreSQL. Whoever judges one holds its row.
#[derive(Debug)]
pub(super) struct PostgresBudgetStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl PostgresBudgetStore {
    pub(super) fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl BudgetStore for PostgresBudgetStore {
    async fn reserve(
        &self,
        principal: &Principal,
        reservation: Reservation,
        limits: &BudgetLimits,
        life: Duration,
    ) -> Result<Granted> {
        let (user, clock) = (principal.user(), &*self.clock);
        self.database
            .transact(Access::of_a_run("budget.reserve"), |transaction| {
                Box::pin(async move {
                    let account = locked(transaction, user).await?;
                    let account =
                        account.ok_or_else(|| Error::not_found("budget.reserve", "user"))?;
                    let now = clock.now();
                    let account = account.at(now);
                    let owner = key(user.as_bytes());
                    transaction.execute(LAPSED, &[&owner, &now.as_millis()]).await?;
                    let open = transaction.query_one(OPEN, &[&owner, &now.as_millis()]).await?;
                    let before = charge(&mut Columns::of(&open))?;
                    let Reservation { id, most } = reservation;
                    let id = key(id.as_bytes());
                    let known = transaction.query_opt(KNOWN, &[&id]).await?.is_some();
                    let granted = known || account.has_room(before, most, limits);
                    let mut all = before;
                    if granted && !known {
                        keep(transaction, user, reservation, now.plus(life), false).await?;
                        all = before.plus(most);
                    }
                    Ok(Granted { granted, used: account.used(all) })
                })
            })
            .await
    }

    async fn renew(&self, reservations: &[ReservationId], life: Duration) -> Result<()> {
        let ids: Vec<Uuid> = reservations.iter().map(|id| key(id.as_bytes())).collect();
        let now = self.clock.now();
        let until: [&(dyn ToSql + Sync); 3] = [&ids, &now.as_millis(), &now.plus(life).as_millis()];
        self.database.once(Access::of_a_run("budget.renew"), RENEW, &until).await.map(drop)
    }

    async fn settle(
        &self,
        principal: &Principal,
        reservation: ReservationId,
        charge: Charge,
    ) -> Result<()> {
        let (user, clock) = (principal.user(), &*self.clock);
        let settled = Reservation { id: reservation, most: charge };
        self.database
            .transact(Access::of_a_run("budget.settle"), |transaction| {
                Box::pin(async move {
                    let Some(account) = locked(transaction, user).await? else {
                        return Ok(());
                    };
                    let now = clock.now();
                    if keep(transaction, user, settled, now.plus(SETTLED), true).await? {
                        put(transaction, user, account.at(now).charged(charge)).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn used(&self, principal: &Principal) -> Result<[Used; 2]> {
        principal.require(Scope::Read, "budget.used")?;
        let (owner, now) = (key(principal.user().as_bytes()), self.clock.now());
        let access = Access::of(principal, "budget.used");
        let rows = self.database.fetch(access, USED, &[&owner, &now.as_millis()]).await?;
        let Some(row) = rows.first() else {
            return Ok(Account::default().at(now).used(Charge::default()));
        };
        let mut columns = Columns::of(row);
        let account = account(&mut columns)?;
        Ok(account.at(now).used(charge(&mut columns)?))
    }
}

/// Takes the row's lock, and makes the row where there is none; nothing for a user who was erased.
const LOCK: &str = "INSERT INTO budget (owner, day_since, day_tokens, day_usd, month_since, month_tokens, month_usd) \
     SELECT $1, 0, 0, 0, 0, 0, 0 WHERE NOT EXISTS \
     (SELECT 1 FROM account WHERE account = $1 AND standing = 'erased') \
     ON CONFLICT (owner) DO UPDATE SET day_since = budget.day_since \
     RETURNING day_since, day_tokens, day_usd::text, month_since, month_tokens, month_usd::text";
const LAPSED: &str = "DELETE FROM budget_reservation WHERE owner = $1 AND until <= $2";
const KNOWN: &str = "SELECT 1 FROM budget_reservation WHERE reservation = $1";
const OPEN: &str = "SELECT least(coalesce(sum(tokens), 0), 9223372036854775807)::bigint, \
     coalesce(sum(usd), 0)::text FROM budget_reservation \
     WHERE owner = $1 AND NOT settled AND until > $2";
const KEEP: &str = "INSERT INTO budget_reservation (reservation, owner, until, settled, tokens, usd) \
     VALUES ($1, $2, $3, $4, $5, $6::text::numeric) ON CONFLICT (reservation) DO UPDATE SET \
     until = excluded.until, settled = excluded.settled, tokens = excluded.tokens, usd = excluded.usd \
     WHERE NOT budget_reservation.settled";
const RENEW: &str = "UPDATE budget_reservation SET until = $3 \
     WHERE reservation = ANY($1) AND NOT settled AND until > $2";
const PUT: &str = "UPDATE budget SET day_since = $2, day_tokens = $3, day_usd = $4::text::numeric, \
     month_since = $5, month_tokens = $6, month_usd = $7::text::numeric WHERE owner = $1";
const USED: &str = "SELECT day_since, day_tokens, day_usd::text, month_since, month_tokens, month_usd::text, \
     open.tokens, open.usd FROM budget, LATERAL \
     (SELECT least(coalesce(sum(tokens), 0), 9223372036854775807)::bigint AS tokens, \
     coalesce(sum(usd), 0)::text AS usd FROM budget_reservation \
     WHERE owner = $1 AND NOT settled AND until > $2) AS open WHERE budget.owner = $1";

/// Waits until nobody else judges the user's budget, and holds it to the end of the transaction.
async fn locked(transaction: &Transaction<'_>, user: UserId) -> Result<Option<Account>> {
    let row: Option<Row> = transaction.query_opt(LOCK, &[&key(user.as_bytes())]).await?;
    row.map(|row| account(&mut Columns::of(&row))).transpose()
}

async fn put(transaction: &Transaction<'_>, user: UserId, account: Account) -> Result<()> {
    let Account { day, month } = account;
    let new: [&(dyn ToSql + Sync); 7] = [
        &key(user.as_bytes()),
        &day.since.as_millis(),
        &int(day.spent.tokens),
        &day.spent.usd.to_string(),
        &month.since.as_millis(),
        &int(month.spent.tokens),
        &month.spent.usd.to_string(),
    ];
    transaction.execute(PUT, &new).await.map(drop)
}

/// Keeps a reservation; false where it is settled already.
async fn keep(
    transaction: &Transaction<'_>,
    user: UserId,
    reservation: Reservation,
    until: Timestamp,
    settled: bool,
) -> Result<bool> {
    let Reservation { id, most } = reservation;
    let new: [&(dyn ToSql + Sync); 6] = [
        &key(id.as_bytes()),
        &key(user.as_bytes()),
        &until.as_millis(),
        &settled,
        &int(most.tokens),
        &most.usd.to_string(),
    ];
    Ok(transaction.execute(KEEP, &new).await? > 0)
}

fn account(columns: &mut Columns<'_>) -> Result<Account> {
    let (day, month) = (window(columns)?, window(columns)?);
    Ok(Account { day, month })
}

fn window(columns: &mut Columns<'_>) -> Result<Window> {
    Ok(Window { since: columns.time()?, spent: charge(columns)? })
}

fn charge(columns: &mut Columns<'_>) -> Result<Charge> {
    let tokens = columns.count()?;
    let usd: Option<Usd> = columns.optional_parsed()?;
    Ok(Charge { tokens, usd: usd.unwrap_or_default() })
}
