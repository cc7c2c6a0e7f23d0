use super::database::Database;
use super::row::{Columns, int};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{AttemptId, RunId, StepId};
use crate::money::Usage;
use crate::principal::{Principal, Scope};
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, page};
use crate::usage::{
    Attempt, AttemptOutcome, Summing, Total, UsageQuery, UsageStore, attempt_taken, check_batch,
};
use async_trait::async_trait;
use rusqlite::{Row, params};
use std::sync::Arc;

/// Attempts in SQLite.
#[derive(Debug)]
pub(super) struct SqliteUsageStore {
    database: Arc<Database>,
}

impl SqliteUsageStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl UsageStore for SqliteUsageStore {
    async fn record(&self, principal: &Principal, attempts: Vec<Attempt>) -> Result<()> {
        check_batch(&attempts)?;
        let user = principal.user();
        self.database
            .write("usage.record", move |connection, _| {
                let mut insert = connection.prepare_cached(INSERT)?;
                for attempt in &attempts {
                    let Attempt { attempt: id, usage, .. } = attempt;
                    let added = insert.execute(params![
                        id.as_bytes(),
                        user.as_bytes(),
                        attempt.run.as_ref().map(RunId::as_bytes),
                        attempt.step.map(|step| step.0),
                        attempt.number,
                        attempt.at.as_millis(),
                        int(attempt.took_ms),
                        attempt.provider,
                        attempt.model,
                        attempt.outcome.word(),
                        attempt.reason,
                        attempt.request,
                        attempt.service_tier,
                        int(attempt.cache_write_tokens),
                        int(usage.input_tokens),
                        int(usage.cached_tokens),
                        int(usage.output_tokens),
                        int(usage.reasoning_tokens),
                        usage.cost_usd.map(|cost| cost.to_string()),
                        attempt.estimated,
                    ])?;
                    if added == 0 {
                        let known = params![id.as_bytes(), user.as_bytes()];
                        let own: bool =
                            connection.prepare_cached(OWN)?.query_row(known, |row| row.get(0))?;
                        if !own {
                            return Err(attempt_taken().into());
                        }
                    }
                }
                Ok(())
            })
            .await
    }

    async fn attempts(
        &self,
        principal: &Principal,
        run: Option<RunId>,
        cursor: Option<&str>,
        max: usize,
    ) -> Result<Paged<Attempt>> {
        principal.require(Scope::Read, "usage.attempts")?;
        let (user, max) = (principal.user(), max.min(PAGE_ITEMS));
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, "usage.attempts")?,
            None => Cursor { order: i64::MAX, id: [0xff; 16] },
        };
        self.database
            .read("usage.attempts", move |connection| {
                let mut statement = connection.prepare_cached(PAGE)?;
                let run = run.as_ref().map(RunId::as_bytes);
                let place = params![user.as_bytes(), run, after.order, after.id, max as i64 + 1];
                let found =
                    statement.query_map(place, attempt_of)?.collect::<rusqlite::Result<_>>()?;
                Ok(page(found, max, |attempt: &Attempt| Cursor {
                    order: attempt.at.as_millis(),
                    id: *attempt.attempt.as_bytes(),
                }))
            })
            .await
    }

    /// Added up here: SQLite has no number that holds a cost.
    async fn totals(&self, principal: &Principal, query: &UsageQuery) -> Result<Vec<Total>> {
        principal.require(Scope::Read, "usage.totals")?;
        let (user, query) = (principal.user(), *query);
        self.database
            .read("usage.totals", move |connection| {
                let mut statement = connection.prepare_cached(TAKEN)?;
                let mut rows = statement.query(params![
                    user.as_bytes(),
                    query.run.as_ref().map(RunId::as_bytes),
                    query.from.map_or(i64::MIN, Timestamp::as_millis),
                    query.before.map(Timestamp::as_millis),
                ])?;
                let mut summing = Summing::by(query.by);
                while let Some(row) = rows.next()? {
                    summing.add(&attempt_of(row)?);
                }
                Ok(summing.totals())
            })
            .await
    }

    async fn forget(&self, principal: &Principal, before: Timestamp) -> Result<u64> {
        principal.require(Scope::Run, "usage.forget")?;
        let user = principal.user();
        self.database
            .write("usage.forget", move |connection, _| {
                let gone = connection
                    .prepare_cached("DELETE FROM usage_attempt WHERE user = ?1 AND at < ?2")?
                    .execute(params![user.as_bytes(), before.as_millis()])?;
                Ok(gone as u64)
            })
            .await
    }
}

macro_rules! columns {
    () => {
        "attempt, run, step, number, at, took_ms, provider, model, outcome, reason, request, \
         service_tier, cache_write_tokens, input_tokens, cached_tokens, output_tokens, \
         reasoning_tokens, cost_usd, estimated"
    };
}

const INSERT: &str = "INSERT INTO usage_attempt (attempt, user, run, step, number, at, took_ms, \
     provider, model, outcome, reason, request, service_tier, cache_write_tokens, input_tokens, \
     cached_tokens, output_tokens, reasoning_tokens, cost_usd, estimated) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
     ?20) ON CONFLICT (attempt) DO NOTHING";
const OWN: &str = "SELECT user = ?2 FROM usage_attempt WHERE attempt = ?1";
const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM usage_attempt WHERE user = ?1 AND (?2 IS NULL OR run = ?2) AND (at, attempt) < (?3, ?4) \
     ORDER BY at DESC, attempt DESC LIMIT ?5"
);
const TAKEN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM usage_attempt WHERE user = ?1 AND (?2 IS NULL OR run = ?2) AND at >= ?3 \
     AND (?4 IS NULL OR at < ?4)"
);

fn attempt_of(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let mut columns = Columns::of(row);
    Ok(Attempt {
        attempt: columns.id(AttemptId::from_bytes)?,
        run: columns.optional_id(RunId::from_bytes)?,
        step: columns.value::<Option<u32>>()?.map(StepId),
        number: columns.value()?,
        at: columns.time()?,
        took_ms: columns.count()?,
        provider: columns.value()?,
        model: columns.value()?,
        outcome: columns.named(AttemptOutcome::of_word)?,
        reason: columns.value()?,
        request: columns.value()?,
        service_tier: columns.value()?,
        cache_write_tokens: columns.count()?,
        usage: Usage {
            input_tokens: columns.count()?,
            cached_tokens: columns.count()?,
            output_tokens: columns.count()?,
            reasoning_tokens: columns.count()?,
            cost_usd: columns.optional_parsed()?,
        },
        estimated: columns.value()?,
    })
}
