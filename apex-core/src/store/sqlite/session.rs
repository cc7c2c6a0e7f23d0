use super::database::Database;
use super::row::{Columns, json};
use crate::auth::{
    REVOCATIONS_KEPT, RefreshHash, Revocation, Rotated, Rotation, SessionRecord, SessionStore,
    TokenHash,
};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Principal;
use crate::run::Topic;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
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
                    .prepare_cached("DELETE FROM session WHERE user = ?1 AND lapses_at <= ?2")?
                    .execute(params![session.user.as_bytes(), session.created_at.as_millis()])?;
                connection.prepare_cached(INSERT)?.execute(params![
                    session.session.as_bytes(),
                    session.user.as_bytes(),
                    json(&session.scopes)?,
                    session.method,
                    session.hash.as_bytes(),
                    session.expires_at.as_millis(),
                    session.refresh.as_ref().map(|refresh| *refresh.family.as_bytes()),
                    session.refresh.as_ref().map(|refresh| *refresh.current.as_bytes()),
                    session.created_at.as_millis(),
                    session.renewed_at.as_millis(),
                    session.lapses_at.as_millis(),
                    session.ends_at.as_millis(),
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
                    .prepare_cached(BY_TOKEN)?
                    .query_row([hash.as_bytes()], session_of)
                    .optional()?)
            })
            .await
    }

    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>> {
        self.database
            .read("session.session", move |connection| {
                Ok(connection
                    .prepare_cached(BY_ID)?
                    .query_row([session.as_bytes()], session_of)
                    .optional()?)
            })
            .await
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated> {
        self.database
            .write("session.rotate", move |connection, wakes| {
                let known = connection
                    .prepare_cached(BY_FAMILY)?
                    .query_row([rotation.presented.family.as_bytes()], session_of)
                    .optional()?;
                let rotated = known.map_or(Rotated::Unknown, |known| rotation.decide(known));
                match &rotated {
                    Rotated::Renewed(record) => {
                        connection.prepare_cached(RENEW)?.execute(params![
                            record.session.as_bytes(),
                            record.hash.as_bytes(),
                            record.expires_at.as_millis(),
                            record.refresh.as_ref().map(|refresh| *refresh.current.as_bytes()),
                            record.renewed_at.as_millis(),
                            record.lapses_at.as_millis(),
                        ])?;
                    }
                    Rotated::Reused(record) => {
                        connection
                            .prepare_cached("DELETE FROM session WHERE session = ?1")?
                            .execute([record.session.as_bytes()])?;
                        let (user, session) = (record.user, Some(record.session));
                        let revocation = Revocation { at: rotation.now, user, session };
                        revoke(connection, wakes, revocation)?;
                    }
                    Rotated::Unknown => {}
                }
                Ok(rotated)
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

    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()> {
        let user = principal.user();
        self.database
            .write("session.end", move |connection, wakes| {
                let ended = connection
                    .prepare_cached("DELETE FROM session WHERE session = ?1 AND user = ?2")?
                    .execute(params![session.as_bytes(), user.as_bytes()])?;
                if ended == 0 {
                    return Err(Error::not_found("session.end", "session").into());
                }
                revoke(connection, wakes, Revocation { at: now, user, session: Some(session) })?;
                Ok(())
            })
            .await
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>> {
        self.database
            .write("session.end_all", move |connection, wakes| {
                let ended = connection
                    .prepare_cached("DELETE FROM session WHERE user = ?1 RETURNING session")?
                    .query_map([user.as_bytes()], |row| Columns::of(row).id(SessionId::from_bytes))?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                for session in ended.iter().copied().map(Some).chain([None]) {
                    revoke(connection, wakes, Revocation { at: now, user, session })?;
                }
                Ok(ended)
            })
            .await
    }

    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        self.database
            .read("session.revoked", move |connection| {
                let mut statement = connection.prepare_cached(REVOKED)?;
                let found = statement.query_map([since.as_millis()], |row| {
                    let mut columns = Columns::of(row);
                    Ok(Revocation {
                        at: columns.time()?,
                        user: columns.id(UserId::from_bytes)?,
                        session: columns.optional_id(SessionId::from_bytes)?,
                    })
                })?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }
}

fn revoke(
    connection: &Connection,
    wakes: &mut Vec<Topic>,
    revocation: Revocation,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM revocation WHERE at < ?1")?
        .execute([revocation.at.minus(REVOCATIONS_KEPT).as_millis()])?;
    connection
        .prepare_cached("INSERT INTO revocation (at, user, session) VALUES (?1, ?2, ?3)")?
        .execute(params![
            revocation.at.as_millis(),
            revocation.user.as_bytes(),
            revocation.session.as_ref().map(SessionId::as_bytes),
        ])?;
    wakes.push(Topic::Revocations);
    Ok(())
}

const INSERT: &str = "INSERT INTO session (session, user, scopes, method, hash, expires_at, family, \
     refresh, created_at, renewed_at, lapses_at, ends_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const RENEW: &str = "UPDATE session SET hash = ?2, expires_at = ?3, refresh = ?4, renewed_at = ?5, \
     lapses_at = ?6 WHERE session = ?1";
const REVOKED: &str = "SELECT at, user, session FROM revocation WHERE at >= ?1 ORDER BY at, id";

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT session, user, scopes, method, hash, expires_at, family, refresh, created_at, \
             renewed_at, lapses_at, ends_at FROM session WHERE ",
            $which
        )
    };
}
const BY_ID: &str = select!("session = ?1");
const BY_TOKEN: &str = select!("hash = ?1");
const BY_FAMILY: &str = select!("family = ?1");
const LIST: &str = select!("user = ?1 ORDER BY created_at DESC, session DESC");

fn session_of(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    let mut columns = Columns::of(row);
    Ok(SessionRecord {
        session: columns.id(SessionId::from_bytes)?,
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        method: columns.value()?,
        hash: columns.id(TokenHash::from_bytes)?,
        expires_at: columns.time()?,
        refresh: {
            let family = columns.optional_id(TokenHash::from_bytes)?;
            let current = columns.optional_id(TokenHash::from_bytes)?;
            family.zip(current).map(|(family, current)| RefreshHash { family, current })
        },
        created_at: columns.time()?,
        renewed_at: columns.time()?,
        lapses_at: columns.time()?,
        ends_at: columns.time()?,
    })
}
