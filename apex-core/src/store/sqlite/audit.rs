use super::database::Database;
use super::row::Columns;
use crate::auth::{AuditAction, AuditEvent, AuditQuery, AuditStore, Way};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{AuditId, CorrelationId, SessionId, UserId};
use crate::store::PAGE_ITEMS;
use async_trait::async_trait;
use rusqlite::{Row, params};
use std::sync::Arc;

/// The most events that are dropped at a time, so that other writes do not wait long.
const SWEEP: usize = 10_000;

/// The record of the door, in SQLite.
#[derive(Debug)]
pub(super) struct SqliteAuditStore {
    database: Arc<Database>,
}

impl SqliteAuditStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl AuditStore for SqliteAuditStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<()> {
        self.database
            .write("audit.append", move |connection, _| {
                let mut insert = connection.prepare_cached(INSERT)?;
                for event in &events {
                    insert.execute(params![
                        event.id.as_bytes(),
                        event.at.as_millis(),
                        event.action.as_str(),
                        event.reason,
                        event.way.map(Way::as_str),
                        event.user.as_ref().map(UserId::as_bytes),
                        event.session.as_ref().map(SessionId::as_bytes),
                        event.address,
                        event.correlation.as_ref().map(CorrelationId::as_bytes),
                    ])?;
                }
                Ok(())
            })
            .await
    }

    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditEvent>> {
        self.database
            .read("audit.list", move |connection| {
                let limit = query.limit.clamp(1, PAGE_ITEMS) as i64;
                let before = query.before.map_or([u8::MAX; 16], |before| *before.as_bytes());
                let mut statement;
                let found = if let Some(user) = query.user {
                    statement = connection.prepare_cached(OF_USER)?;
                    statement.query_map(params![before, limit, user.as_bytes()], event_of)?
                } else {
                    statement = connection.prepare_cached(OF_ALL)?;
                    statement.query_map(params![before, limit], event_of)?
                };
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn forget(&self, before: Timestamp) -> Result<usize> {
        self.database
            .write("audit.forget", move |connection, _| {
                Ok(connection
                    .prepare_cached(
                        "DELETE FROM audit WHERE id IN \
                         (SELECT id FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)",
                    )?
                    .execute(params![before.as_millis(), SWEEP as i64])?)
            })
            .await
    }
}

const INSERT: &str = "INSERT INTO audit (id, at, action, reason, way, user, session, address, \
     correlation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
const OF_ALL: &str = "SELECT id, at, action, reason, way, user, session, address, correlation \
     FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
const OF_USER: &str = "SELECT id, at, action, reason, way, user, session, address, correlation \
     FROM audit WHERE user = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2";

fn event_of(row: &Row<'_>) -> rusqlite::Result<AuditEvent> {
    let mut columns = Columns::of(row);
    Ok(AuditEvent {
        id: columns.id(AuditId::from_bytes)?,
        at: columns.time()?,
        action: columns.named(AuditAction::named)?,
        reason: columns.value()?,
        way: columns.value::<Option<String>>()?.as_deref().and_then(Way::named),
        user: columns.optional_id(UserId::from_bytes)?,
        session: columns.optional_id(SessionId::from_bytes)?,
        address: columns.value()?,
        correlation: columns.optional_id(CorrelationId::from_bytes)?,
    })
}
