use super::row::{Columns, int, key};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Transaction};
use crate::error::Result;
use crate::id::{AttemptId, RunId, StepId, UserId};
use crate::money::{Usage, Usd};
use crate::principal::{Principal, Scope};
use crate::store::PAGE_ITEMS;
use crate::thread::{Cursor, Paged, page};
use crate::usage::{
    Attempt, AttemptOutcome, GroupBy, Total, UsageQuery, UsageStore, attempt_taken, check_batch,
};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Attempts in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresUsageStore {
    database: Database,
}

impl PostgresUsageStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl UsageStore for PostgresUsageStore {
    async fn record(&self, principal: &Principal, attempts: Vec<Attempt>) -> Result<()> {
        check_batch(&attempts)?;
        let (user, attempts) = (principal.user(), &attempts);
        self.database
            .transact(Access::of_a_run("usage.record"), |transaction| {
                Box::pin(async move {
                    for attempt in attempts {
                        record(transaction, user, attempt).await?;
                    }
                    Ok(())
                })
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
        let max = max.min(PAGE_ITEMS);
        let after = match cursor {
            Some(cursor) => Cursor::decode(cursor, "usage.attempts")?,
            None => Cursor { order: i64::MAX, id: [0xff; 16] },
        };
        let wanted: [&(dyn ToSql + Sync); 5] = [
            &key(principal.user().as_bytes()),
            &run.map(|run| key(run.as_bytes())),
            &after.order,
            &Uuid::from_bytes(after.id),
            &(max as i64 + 1),
        ];
        let access = Access::of(principal, "usage.attempts");
        let rows = self.database.fetch(access, PAGE, &wanted).await?;
        let found = rows.iter().map(attempt_of).collect::<Result<_>>()?;
        Ok(page(found, max, |attempt: &Attempt| Cursor {
            order: attempt.at.as_millis(),
            id: *attempt.attempt.as_bytes(),
        }))
    }

    async fn totals(&self, principal: &Principal, query: &UsageQuery) -> Result<Vec<Total>> {
        principal.require(Scope::Read, "usage.totals")?;
        let wanted: [&(dyn ToSql + Sync); 4] = [
            &key(principal.user().as_bytes()),
            &query.run.map(|run| key(run.as_bytes())),
            &query.from.map_or(i64::MIN, Timestamp::as_millis),
            &query.before.map(Timestamp::as_millis),
        ];
        let sql = match query.by {
            GroupBy::All => BY_NOTHING,
            GroupBy::Model => BY_MODEL,
            GroupBy::Outcome => BY_OUTCOME,
            GroupBy::Run => BY_RUN,
            GroupBy::Step => BY_STEP,
            GroupBy::Day => BY_DAY,
        };
        let rows = self.database.fetch(Access::of(principal, "usage.totals"), sql, &wanted).await?;
        rows.iter().map(total_of).collect()
    }

    async fn forget(&self, principal: &Principal, before: Timestamp) -> Result<u64> {
        principal.require(Scope::Run, "usage.forget")?;
        let user = principal.user();
        self.database
            .write(Access::of(principal, "usage.forget"), |transaction| {
                Box::pin(async move {
                    let own: [&(dyn ToSql + Sync); 2] =
                        [&key(user.as_bytes()), &before.as_millis()];
                    transaction.execute(FORGET, &own).await
                })
            })
            .await
    }
}

macro_rules! columns {
    () => {
        "attempt, run, step, number, at, took_ms, provider, model, outcome, reason, request, service_tier, \
         cache_write_tokens, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost_usd::text, estimated"
    };
}

/// The sums of each group, in the order of their names.
macro_rules! totals {
    ($group:literal) => {
        concat!(
            "SELECT ",
            $group,
            " COLLATE \"C\" AS name, count(*), count(*) - count(cost_usd), ",
            "least(sum(input_tokens), 9223372036854775807)::bigint, ",
            "least(sum(cached_tokens), 9223372036854775807)::bigint, ",
            "least(sum(output_tokens), 9223372036854775807)::bigint, ",
            "least(sum(reasoning_tokens), 9223372036854775807)::bigint, ",
            "coalesce(sum(cost_usd), 0)::text FROM usage_attempt WHERE owner = $1 ",
            "AND ($2::uuid IS NULL OR run = $2) AND at >= $3 AND ($4::bigint IS NULL OR at < $4) ",
            "GROUP BY name ORDER BY name"
        )
    };
}

const BY_NOTHING: &str = totals!("''");
const BY_MODEL: &str = totals!("(provider || ':' || model)");
const BY_OUTCOME: &str = totals!("outcome");
const BY_RUN: &str = totals!("coalesce(run::text, '')");
const BY_STEP: &str = totals!("coalesce(run::text || ':s' || step, '')");
const BY_DAY: &str = totals!("to_char(to_timestamp(at / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD')");

const INSERT: &str = "INSERT INTO usage_attempt (attempt, owner, run, step, number, at, took_ms, provider, model, \
     outcome, reason, request, service_tier, cache_write_tokens, input_tokens, cached_tokens, output_tokens, \
     reasoning_tokens, cost_usd, estimated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
     $15, $16, $17, $18, $19::text::numeric, $20) ON CONFLICT (attempt) DO NOTHING";
const OWN: &str = "SELECT owner = $2 FROM usage_attempt WHERE attempt = $1";
const PAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM usage_attempt WHERE owner = $1 AND ($2::uuid IS NULL OR run = $2) AND (at, attempt) < ($3, $4) \
     ORDER BY at DESC, attempt DESC LIMIT $5"
);
const FORGET: &str = "DELETE FROM usage_attempt WHERE owner = $1 AND at < $2";

async fn record(transaction: &Transaction<'_>, user: UserId, attempt: &Attempt) -> Result<()> {
    let (id, owner) = (key(attempt.attempt.as_bytes()), key(user.as_bytes()));
    let usage = &attempt.usage;
    let new: [&(dyn ToSql + Sync); 20] = [
        &id,
        &owner,
        &attempt.run.map(|run| key(run.as_bytes())),
        &attempt.step.map(|step| i64::from(step.0)),
        &i64::from(attempt.number),
        &attempt.at.as_millis(),
        &int(attempt.took_ms),
        &attempt.provider,
        &attempt.model,
        &attempt.outcome.word(),
        &attempt.reason,
        &attempt.request,
        &attempt.service_tier,
        &int(attempt.cache_write_tokens),
        &int(usage.input_tokens),
        &int(usage.cached_tokens),
        &int(usage.output_tokens),
        &int(usage.reasoning_tokens),
        &usage.cost_usd.map(|cost| cost.to_string()),
        &attempt.estimated,
    ];
    if transaction.execute(INSERT, &new).await? == 0 {
        let known = transaction.query_one(OWN, &[&id, &owner]).await?;
        if !Columns::of(&known).value::<bool>()? {
            return Err(attempt_taken());
        }
    }
    Ok(())
}

fn attempt_of(row: &Row) -> Result<Attempt> {
    let mut columns = Columns::of(row);
    Ok(Attempt {
        attempt: columns.id(AttemptId::from_bytes)?,
        run: columns.optional_id(RunId::from_bytes)?,
        step: columns.optional_small()?.map(StepId),
        number: columns.small()?,
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

fn total_of(row: &Row) -> Result<Total> {
    let mut columns = Columns::of(row);
    let group = columns.value()?;
    let (attempts, unpriced_attempts) = (columns.count()?, columns.count()?);
    let mut usage = Usage {
        input_tokens: columns.count()?,
        cached_tokens: columns.count()?,
        output_tokens: columns.count()?,
        reasoning_tokens: columns.count()?,
        cost_usd: None,
    };
    let priced_cost_usd: Usd = columns.optional_parsed()?.unwrap_or(Usd::ZERO);
    usage.cost_usd = (unpriced_attempts == 0).then_some(priced_cost_usd);
    Ok(Total { group, attempts, unpriced_attempts, usage, priced_cost_usd })
}
