use super::database::Database;
use super::row::Columns;
use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::limit::{Grant, LimitKey, LimitStore, Place, Rate};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use std::time::Duration;

/// Limits in SQLite.
#[derive(Debug)]
pub(super) struct SqliteLimitStore {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
}

impl SqliteLimitStore {
    pub(super) fn new(database: Arc<Database>, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }
}

#[async_trait]
impl LimitStore for SqliteLimitStore {
    async fn hold(&self, place: &Place, life: Duration) -> Result<Grant> {
        let (place, clock) = (place.clone(), Arc::clone(&self.clock));
        self.database
            .write("limit.hold", move |connection, _| {
                let now = clock.now();
                sweep(connection, now)?;
                Ok(hold(connection, &place, life, now)?)
            })
            .await
    }

    async fn renew(&self, places: &[Place], life: Duration) -> Result<Vec<Place>> {
        let (places, clock) = (places.to_vec(), Arc::clone(&self.clock));
        self.database
            .write("limit.renew", move |connection, _| {
                let now = clock.now();
                sweep(connection, now)?;
                let mut lost = Vec::new();
                for place in &places {
                    if hold(connection, place, life, now)? != Grant::Granted {
                        lost.push(place.clone());
                    }
                }
                Ok(lost)
            })
            .await
    }

    async fn release(&self, place: &Place) -> Result<()> {
        let place = place.clone();
        self.database
            .write("limit.release", move |connection, _| {
                connection
                    .prepare_cached("DELETE FROM limit_place WHERE key = ?1 AND holder = ?2")?
                    .execute(params![place.key.as_str(), place.holder.as_bytes()])?;
                Ok(())
            })
            .await
    }

    async fn take(&self, key: &LimitKey, rate: Rate, count: u32) -> Result<Grant> {
        let (key, clock) = (key.clone(), Arc::clone(&self.clock));
        self.database
            .write("limit.take", move |connection, _| {
                let now = clock.now().as_millis().saturating_mul(1_000);
                connection
                    .prepare_cached("DELETE FROM limit_rate WHERE full_at <= ?1")?
                    .execute([now])?;
                let full_at = connection
                    .prepare_cached("SELECT full_at FROM limit_rate WHERE key = ?1")?
                    .query_row([key.as_str()], |row| row.get(0))
                    .optional()?;
                match rate.take(count, full_at.unwrap_or(i64::MIN), now) {
                    Ok(next) => {
                        connection.prepare_cached(TAKE)?.execute(params![key.as_str(), next])?;
                        Ok(Grant::Granted)
                    }
                    Err(retry_after) => Ok(Grant::Refused { retry_after }),
                }
            })
            .await
    }
}

const HELD: &str = "SELECT count(*), min(until), count(*) FILTER (WHERE holder = ?2) \
     FROM limit_place WHERE key = ?1";
const HOLD: &str = "INSERT INTO limit_place (key, holder, until) VALUES (?1, ?2, ?3) \
     ON CONFLICT (key, holder) DO UPDATE SET until = excluded.until";
const TAKE: &str = "INSERT INTO limit_rate (key, full_at) VALUES (?1, ?2) \
     ON CONFLICT (key) DO UPDATE SET full_at = excluded.full_at";

/// Drops what has lapsed.
fn sweep(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM limit_place WHERE until <= ?1")?
        .execute([now.as_millis()])?;
    Ok(())
}

/// Takes or keeps a place, after what has lapsed is gone.
fn hold(
    connection: &Connection,
    place: &Place,
    life: Duration,
    now: Timestamp,
) -> rusqlite::Result<Grant> {
    let (key, holder) = (place.key.as_str(), place.holder.as_bytes());
    let (held, first, own) =
        connection.prepare_cached(HELD)?.query_row(params![key, holder], |row| {
            let mut columns = Columns::of(row);
            Ok((columns.count()?, columns.optional_time()?, columns.count()?))
        })?;
    if held >= place.most as u64 && own == 0 {
        return Ok(Grant::Refused { retry_after: first.unwrap_or(now).since(now) });
    }
    let until = now.plus(life).as_millis();
    connection.prepare_cached(HOLD)?.execute(params![key, holder, until])?;
    Ok(Grant::Granted)
}
