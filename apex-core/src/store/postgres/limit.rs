use super::row::{Columns, key};
use crate::clock::{Clock, Timestamp};
use crate::database::{Access, Database, Transaction};
use crate::error::Result;
use crate::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Limits in PostgreSQL. Whoever judges one holds the lock of its key.
#[derive(Debug)]
pub(super) struct PostgresLimitStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl PostgresLimitStore {
    pub(super) fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl LimitStore for PostgresLimitStore {
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant> {
        let clock = &*self.clock;
        self.database
            .write(Access::system("limit.hold"), |transaction| {
                Box::pin(async move { hold(transaction, place, life, clock.now()).await })
            })
            .await
    }

    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        let clock = &*self.clock;
        // Locks are taken in one order by all.
        let mut ordered: Vec<&Place> = places.iter().collect();
        ordered.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let ordered = &ordered;
        self.database
            .write(Access::system("limit.renew"), |transaction| {
                Box::pin(async move {
                    let mut lost = Vec::new();
                    for place in ordered {
                        if hold(transaction, place, life, clock.now()).await? != Grant::Granted {
                            lost.push((*place).clone());
                        }
                    }
                    Ok(lost)
                })
            })
            .await
    }

    async fn release(&self, place: &Place) -> Result<()> {
        let own: [&(dyn ToSql + Sync); 2] = [&place.key.as_str(), &key(place.holder.as_bytes())];
        self.database.once(Access::system("limit.release"), RELEASE, &own).await?;
        Ok(())
    }

    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant> {
        let clock = &*self.clock;
        self.database
            .write(Access::system("limit.take"), |transaction| {
                Box::pin(async move { take(transaction, key, rate, count, clock).await })
            })
            .await
    }
}

const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':limit:' || $1, 0))";
const LAPSED: &str = "DELETE FROM limit_place WHERE key = $1 AND until <= $2";
const HELD: &str = "SELECT count(*), min(until), count(*) FILTER (WHERE holder = $2) FROM limit_place WHERE key = $1";
const HOLD: &str = "INSERT INTO limit_place (key, holder, until) VALUES ($1, $2, $3) \
     ON CONFLICT (key, holder) DO UPDATE SET until = excluded.until";
const RELEASE: &str = "DELETE FROM limit_place WHERE key = $1 AND holder = $2";
const FULL_AT: &str = "SELECT full_at FROM limit_rate WHERE key = $1";
const TAKE: &str = "INSERT INTO limit_rate (key, full_at) VALUES ($1, $2) \
     ON CONFLICT (key) DO UPDATE SET full_at = excluded.full_at";

/// Takes or keeps a place, after what has lapsed of its key is gone.
async fn hold(
    transaction: &Transaction<'_>,
    place: &Place,
    life: Duration,
    now: Timestamp,
) -> Result<Grant> {
    let (name, holder) = (place.key.as_str(), key(place.holder.as_bytes()));
    transaction.query_one(LOCK, &[&name]).await?;
    transaction.execute(LAPSED, &[&name, &now.as_millis()]).await?;
    let row = transaction.query_one(HELD, &[&name, &holder]).await?;
    let mut columns = Columns::of(&row);
    let (held, first, own) = (columns.count()?, columns.optional_time()?, columns.count()?);
    if held >= place.most as u64 && own == 0 {
        return Ok(Grant::Refused { retry_after: first.unwrap_or(now).since(now) });
    }
    transaction.execute(HOLD, &[&name, &holder, &now.plus(life).as_millis()]).await?;
    Ok(Grant::Granted)
}

async fn take(
    transaction: &Transaction<'_>,
    key: &LimitKey,
    rate: Rate,
    count: u32,
    clock: &dyn Clock,
) -> Result<Grant> {
    let name = key.as_str();
    transaction.query_one(LOCK, &[&name]).await?;
    let now = clock.now().as_millis().saturating_mul(1_000);
    let known = transaction.query_opt(FULL_AT, &[&name]).await?;
    let full_at = known.map_or(Ok(i64::MIN), |row| Columns::of(&row).value())?;
    match rate.take(count, full_at, now) {
        Ok(next) => {
            transaction.execute(TAKE, &[&name, &next]).await?;
            Ok(Grant::Granted)
        }
        Err(retry_after) => Ok(Grant::Refused { retry_after }),
    }
}
