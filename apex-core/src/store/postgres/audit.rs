use super::row::{Columns, key};
use crate::auth::{AuditAction, AuditEvent, AuditQuery, AuditStore, Way};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Priority};
use crate::error::Result;
use crate::id::{AuditId, CorrelationId, SessionId, UserId};
use crate::store::PAGE_ITEMS;
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The most events that are dropped at a time.
const SWEEP: i64 = 10_000;

/// The record of the door, in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresAuditStore {
    database: Database,
}

impl PostgresAuditStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl AuditStore for PostgresAuditStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<()> {
        let events = &events;
        self.database
            .write(Access::system("audit.append"), |transaction| {
                Box::pin(async move {
                    for event in events {
                        let new: [&(dyn ToSql + Sync); 9] = [
                            &key(event.id.as_bytes()),
                            &event.at.as_millis(),
                            &event.action.as_str(),
                            &event.reason,
                            &event.way.map(Way::as_str),
                            &event.user.map(|user| key(user.as_bytes())),
                            &event.session.map(|session| key(session.as_bytes())),
                            &event.address,
                            &event.correlation.map(|id| key(id.as_bytes())),
                        ];
                        transaction.execute(INSERT, &new).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditEvent>> {
        let access = Access::system("audit.list");
        let limit = query.limit.clamp(1, PAGE_ITEMS) as i64;
        let before = query.before.map_or(Uuid::max(), |before| key(before.as_bytes()));
        let rows = match query.user {
            Some(user) => {
                let user = key(user.as_bytes());
                self.database.fetch(access, OF_USER, &[&before, &limit, &user]).await?
            }
            None => self.database.fetch(access, OF_ALL, &[&before, &limit]).await?,
        };
        rows.iter().map(event_of).collect()
    }

    async fn forget(&self, before: Timestamp) -> Result<usize> {
        let access = Access::system("audit.forget").priority(Priority::Low);
        let gone = self
            .database
            .write(access, |transaction| {
                Box::pin(async move {
                    transaction.execute(FORGET, &[&before.as_millis(), &SWEEP]).await
                })
            })
            .await?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
    }
}

const INSERT: &str = "INSERT INTO audit (id, at, action, reason, way, owner, session, address, correlation) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING";
const OF_ALL: &str = "SELECT id, at, action, reason, way, owner, session, address, correlation FROM audit \
     WHERE id < $1 ORDER BY id DESC LIMIT $2";
const OF_USER: &str = "SELECT id, at, action, reason, way, owner, session, address, correlation FROM audit \
     WHERE owner = $3 AND id < $1 ORDER BY id DESC LIMIT $2";
const FORGET: &str = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2 \
     FOR UPDATE SKIP LOCKED)";

fn event_of(row: &Row) -> Result<AuditEvent> {
    let mut columns = Columns::of(row);
    Ok(AuditEvent {
        id: columns.id(AuditId::from_bytes)?,
        at: columns.time()?,
        action: columns.named(AuditAction::named)?,
        reason: columns.value()?,
        way: columns.value::<Option<&str>>()?.and_then(Way::named),
        user: columns.optional_id(UserId::from_bytes)?,
        session: columns.optional_id(SessionId::from_bytes)?,
        address: columns.value()?,
        correlation: columns.optional_id(CorrelationId::from_bytes)?,
    })
}
