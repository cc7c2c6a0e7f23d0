//! Telling the living from the dead: each node says every second that it lives, by the database's clock, and the
//! others take over what one that has been silent for too long had.

use super::clock::DatabaseClock;
use super::row::{Columns, key};
use crate::database::{Access, Database, Priority};
use crate::error::{Error, Result};
use crate::id::NodeId;
use crate::run::{Topic, Wakeup};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;

/// How often a node says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// After how long a silent node is dead, in milliseconds. What it does then is fenced off.
const SILENCE: i64 = 5_000;

/// For how long a node must have lived without a gap before it judges others: after the server was away all of them
/// have been silent.
const STEADY: Duration = Duration::from_secs(3);

/// After so many beats what nobody needs any more is removed.
const SWEEP: u32 = 10;

/// Says that this node lives; with `$2`, buries those that do not and makes their runs claimable.
const LIVE: &str = "WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now), \
     me AS (INSERT INTO node (node, seen_at) SELECT $1, now FROM clock \
     ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at), \
     dead AS (DELETE FROM node USING clock WHERE $2 AND node <> $1 AND seen_at < now - $3 RETURNING node), \
     lost AS (UPDATE run SET lease_until = 0 FROM dead WHERE holder = dead.node AND holder IS NOT NULL RETURNING 1) \
     SELECT now, (SELECT count(*) FROM lost) FROM clock";
/// Content that nobody is writing any more, and content that was removed an hour ago; a little at a time.
const SWEEP_CONTENT: &str = "DELETE FROM content WHERE content IN (SELECT content FROM content \
     WHERE (writer IS NOT NULL AND NOT EXISTS (SELECT FROM node WHERE node = writer)) \
     OR removed_at < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 3600000 \
     LIMIT 8 FOR UPDATE SKIP LOCKED)";
const SWEEP_PLACES: &str = "DELETE FROM limit_place WHERE (key, holder) IN (SELECT key, holder FROM limit_place \
     WHERE until <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED)";
const SWEEP_RATES: &str = "DELETE FROM limit_rate WHERE key IN (SELECT key FROM limit_rate \
     WHERE full_at <= $1 LIMIT 1000 FOR UPDATE SKIP LOCKED)";

/// Whether another one lives.
const OTHERS: &str = "SELECT EXISTS (SELECT FROM node WHERE node <> $1 \
     AND seen_at > (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2)";

/// Says that this node lives until it is dropped.
#[derive(Debug)]
pub(super) struct Liveness(JoinHandle<()>);

impl Drop for Liveness {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a beat says.
struct Beat {
    /// The database's time, in milliseconds.
    now: i64,
    took: Duration,
    /// The runs that became claimable.
    lost: i64,
}

impl Liveness {
    /// Enters the node, and tells the database's time.
    pub(super) async fn enter(database: &Database, node: NodeId) -> Result<DatabaseClock> {
        let beat = beat(database, node, false).await?;
        Ok(DatabaseClock::new(beat.now, beat.took))
    }

    pub(super) fn keep(
        database: Database,
        node: NodeId,
        clock: Arc<DatabaseClock>,
        wakeup: Arc<dyn Wakeup>,
    ) -> Self {
        Self(tokio::spawn(async move {
            let (mut steady_since, mut beats) = (Instant::now(), 0_u32);
            loop {
                tokio::time::sleep(BEAT).await;
                match beat(&database, node, steady_since.elapsed() >= STEADY).await {
                    Ok(beat) => {
                        clock.set(beat.now, beat.took);
                        if beat.lost > 0 {
                            tracing::warn!(
                                runs = beat.lost,
                                "a node died; its runs go on elsewhere"
                            );
                            wakeup.wake(Topic::Work);
                        }
                        beats = beats.wrapping_add(1);
                        if beats.is_multiple_of(SWEEP) {
                            sweep(&database, beat.now).await;
                        }
                    }
                    Err(error) => {
                        steady_since = Instant::now();
                        tracing::warn!(%error, "this node could not say that it lives");
                    }
                }
            }
        }))
    }
}

/// Whether another node than this one was heard of lately.
pub(super) async fn others(database: &Database, node: NodeId) -> Result<bool> {
    let me: [&(dyn ToSql + Sync); 2] = [&key(node.as_bytes()), &SILENCE];
    let rows = database.fetch(Access::system("node.others"), OTHERS, &me).await?;
    rows.first().map_or(Ok(false), |row| Columns::of(row).value())
}

async fn beat(database: &Database, node: NodeId, judges: bool) -> Result<Beat> {
    let access = Access::system("node.live").priority(Priority::Critical);
    let asked = Instant::now();
    let me: [&(dyn ToSql + Sync); 3] = [&key(node.as_bytes()), &judges, &SILENCE];
    let rows = database.once(access, LIVE, &me).await?;
    let row = rows.first().ok_or_else(|| Error::internal("node.live", "the clock is silent"))?;
    let mut columns = Columns::of(row);
    Ok(Beat { now: columns.value()?, took: asked.elapsed(), lost: columns.value()? })
}

async fn sweep(database: &Database, now: i64) {
    let access = Access::system("node.sweep").priority(Priority::Low);
    let swept = async {
        database.once(access, SWEEP_CONTENT, &[]).await?;
        database.once(access, SWEEP_PLACES, &[&now]).await?;
        database.once(access, SWEEP_RATES, &[&now.saturating_mul(1_000)]).await
    };
    if let Err(error) = swept.await {
        tracing::debug!(%error, "a sweep waits for the next time");
    }
}
