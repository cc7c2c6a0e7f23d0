use super::database::Database;
use super::row::{Columns, json};
use crate::auth::{SessionRecord, SessionStore, TokenHash};
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Principal;
use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Logins in SQLite.
#[derive(Debug)]
pub(super) struct SqliteSessionStore {
    database: Arc<Database>,
}

impl SqliteSessionStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl SessionStore for SqliteSessionStore {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        self.database
            .write("session.create", move |connection, _| {
                connection
                    .prepare_cached("DELETE FROM session WHERE user = ?1 AND expires_at <= ?2")?
                    .execute(params![session.user.as_bytes(), session.created_at.as_millis()])?;
                connection.prepare_cached(INSERT)?.execute(params![
                    session.hash.as_bytes(),
                    session.session.as_bytes(),
                    session.user.as_bytes(),
                    json(&session.scopes)?,
                    session.created_at.as_millis(),
                    session.expires_at.as_millis(),
                ])?;
                Ok(())
            })
            .await
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        let hash = *hash;
        self.database
            .read("session.find", move |connection| {
                Ok(connection
                    .prepare_cached(FIND)?
                    .query_row([hash.as_bytes()], session_of)
                    .optional()?)
            })
            .await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let user = principal.user();
        self.database
            .read("session.list", move |connection| {
                let mut statement = connection.prepare_cached(LIST)?;
                let found = statement.query_map([user.as_bytes()], session_of)?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn end(&self, principal: &Principal, session: SessionId) -> Result<()> {
        let user = principal.user();
        self.database
            .write("session.end", move |connection, _| {
                let ended = connection
                    .prepare_cached("DELETE FROM session WHERE session = ?1 AND user = ?2")?
                    .execute(params![session.as_bytes(), user.as_bytes()])?;
                if ended == 0 {
                    return Err(Error::not_found("session.end", "session").into());
                }
                Ok(())
            })
            .await
    }
}

const INSERT: &str = "INSERT INTO session (hash, session, user, scopes, created_at, expires_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const FIND: &str =
    "SELECT hash, session, user, scopes, created_at, expires_at FROM session WHERE hash = ?1";
const LIST: &str = "SELECT hash, session, user, scopes, created_at, expires_at FROM session \
     WHERE user = ?1 ORDER BY created_at DESC, session DESC";

fn session_of(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let mut columns = Columns::of(row);
    let hash = TokenHash::from_bytes(columns.value()?);
    Ok(SessionRecord {
        session: columns.id(SessionId::from_bytes)?,
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        hash,
        created_at: columns.time()?,
        expires_at: columns.time()?,
    })
}
