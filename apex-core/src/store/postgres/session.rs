use super::row::{Columns, json, key};
use crate::auth::{
    REVOCATIONS_KEPT, RefreshHash, Revocation, Rotated, Rotation, SessionRecord, SessionStore,
    TokenHash,
};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Transaction};
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Principal;
use crate::run::{Topic, Wakeup};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Logins in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresSessionStore {
    database: Database,
    wakeup: Arc<dyn Wakeup>,
}

impl PostgresSessionStore {
    pub(super) fn new(database: Database, wakeup: Arc<dyn Wakeup>) -> Self {
        Self { database, wakeup }
    }
}

#[async_trait]
impl SessionStore for PostgresSessionStore {
    async fn create(&self, session: SessionRecord) -> Result<()> {
        let access = Access::user(session.user, "session.create");
        let (hash, refresh) = (session.hash, session.refresh);
        let new: [&(dyn ToSql + Sync); 12] = [
            &key(session.session.as_bytes()),
            &key(session.user.as_bytes()),
            &json(&session.scopes)?,
            &session.method,
            &hash.as_bytes().as_slice(),
            &session.expires_at.as_millis(),
            &refresh.as_ref().map(|refresh| refresh.family.as_bytes().as_slice()),
            &refresh.as_ref().map(|refresh| refresh.current.as_bytes().as_slice()),
            &session.created_at.as_millis(),
            &session.renewed_at.as_millis(),
            &session.lapses_at.as_millis(),
            &session.ends_at.as_millis(),
        ];
        self.database.once(access, CREATE, &new).await?;
        Ok(())
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>> {
        let access = Access::system("session.find");
        let rows = self.database.fetch(access, BY_TOKEN, &[&hash.as_bytes().as_slice()]).await?;
        rows.first().map(session_of).transpose()
    }

    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>> {
        let access = Access::system("session.session");
        let rows = self.database.fetch(access, BY_ID, &[&key(session.as_bytes())]).await?;
        rows.first().map(session_of).transpose()
    }

    async fn rotate(&self, rotation: Rotation) -> Result<Rotated> {
        let rotated = self
            .database
            .write(Access::system("session.rotate"), |transaction| {
                Box::pin(async move { rotate(transaction, &rotation).await })
            })
            .await?;
        if matches!(rotated, Rotated::Reused(_)) {
            self.wakeup.wake(Topic::Revocations);
        }
        Ok(rotated)
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let access = Access::of(principal, "session.list");
        let rows = self.database.fetch(access, LIST, &[&key(principal.user().as_bytes())]).await?;
        rows.iter().map(session_of).collect()
    }

    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()> {
        let user = principal.user();
        self.database
            .write(Access::of(principal, "session.end"), |transaction| {
                Box::pin(async move {
                    let own: [&(dyn ToSql + Sync); 2] =
                        [&key(session.as_bytes()), &key(user.as_bytes())];
                    if transaction.execute(END, &own).await? == 0 {
                        return Err(Error::not_found("session.end", "session"));
                    }
                    revoke(transaction, Revocation { at: now, user, session: Some(session) }).await
                })
            })
            .await?;
        self.wakeup.wake(Topic::Revocations);
        Ok(())
    }

    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>> {
        let ended = self
            .database
            .write(Access::user(user, "session.end_all"), |transaction| {
                Box::pin(async move {
                    let whose: [&(dyn ToSql + Sync); 2] = [&key(user.as_bytes()), &now.as_millis()];
                    let ended = transaction.query(END_ALL, &whose).await?;
                    revoke(transaction, Revocation { at: now, user, session: None }).await?;
                    let ended = ended.iter().map(|row| Columns::of(row).id(SessionId::from_bytes));
                    ended.collect::<Result<_>>()
                })
            })
            .await?;
        self.wakeup.wake(Topic::Revocations);
        Ok(ended)
    }

    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>> {
        let access = Access::system("session.revoked");
        let rows = self.database.fetch(access, REVOKED, &[&since.as_millis()]).await?;
        let revocation_of = |row| {
            let mut columns = Columns::of(row);
            Ok(Revocation {
                at: columns.time()?,
                user: columns.id(UserId::from_bytes)?,
                session: columns.optional_id(SessionId::from_bytes)?,
            })
        };
        rows.iter().map(revocation_of).collect()
    }
}

const CREATE: &str = "WITH lapsed AS (DELETE FROM session WHERE owner = $2 AND lapses_at <= $9) \
     INSERT INTO session (session, owner, scopes, method, hash, expires_at, family, refresh, created_at, renewed_at, \
     lapses_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const RENEW: &str = "UPDATE session SET hash = $2, expires_at = $3, refresh = $4, renewed_at = $5, lapses_at = $6 \
     WHERE session = $1";
const END: &str = "DELETE FROM session WHERE session = $1 AND owner = $2";
const END_ALL: &str = "WITH ended AS (DELETE FROM session WHERE owner = $1 RETURNING session), \
     noted AS (INSERT INTO revocation (at, owner, session) SELECT $2, $1, session FROM ended) \
     SELECT session FROM ended";
const REVOKE: &str = "INSERT INTO revocation (at, owner, session) VALUES ($1, $2, $3)";
/// A few at a time, and none that another transaction holds.
const SWEEP: &str = "DELETE FROM revocation WHERE id IN (SELECT id FROM revocation WHERE at < $1 \
     ORDER BY at LIMIT 64 FOR UPDATE SKIP LOCKED)";
const REVOKED: &str = "SELECT at, owner, session FROM revocation WHERE at >= $1 ORDER BY at, id";

macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT session, owner, scopes, method, hash, expires_at, family, refresh, created_at, renewed_at, \
             lapses_at, ends_at FROM session WHERE ",
            $which
        )
    };
}
const BY_ID: &str = select!("session = $1");
const BY_TOKEN: &str = select!("hash = $1");
const BY_FAMILY_LOCKED: &str = select!("family = $1 FOR UPDATE");
const LIST: &str = select!("owner = $1 ORDER BY created_at DESC, session DESC");

async fn rotate(transaction: &Transaction<'_>, rotation: &Rotation) -> Result<Rotated> {
    let family = rotation.presented.family;
    let known = transaction.query_opt(BY_FAMILY_LOCKED, &[&family.as_bytes().as_slice()]).await?;
    let Some(known) = known else {
        return Ok(Rotated::Unknown);
    };
    let rotated = rotation.decide(session_of(&known)?);
    match &rotated {
        Rotated::Renewed(record) => {
            let renewed: [&(dyn ToSql + Sync); 6] = [
                &key(record.session.as_bytes()),
                &record.hash.as_bytes().as_slice(),
                &record.expires_at.as_millis(),
                &record.refresh.as_ref().map(|refresh| refresh.current.as_bytes().as_slice()),
                &record.renewed_at.as_millis(),
                &record.lapses_at.as_millis(),
            ];
            transaction.execute(RENEW, &renewed).await?;
        }
        Rotated::Reused(record) => {
            let own: [&(dyn ToSql + Sync); 2] =
                [&key(record.session.as_bytes()), &key(record.user.as_bytes())];
            transaction.execute(END, &own).await?;
            let (user, session) = (record.user, Some(record.session));
            revoke(transaction, Revocation { at: rotation.now, user, session }).await?;
        }
        Rotated::Unknown => {}
    }
    Ok(rotated)
}

async fn revoke(transaction: &Transaction<'_>, revocation: Revocation) -> Result<()> {
    let kept = revocation.at.minus(REVOCATIONS_KEPT).as_millis();
    transaction.execute(SWEEP, &[&kept]).await?;
    let new: [&(dyn ToSql + Sync); 3] = [
        &revocation.at.as_millis(),
        &key(revocation.user.as_bytes()),
        &revocation.session.map(|session| key(session.as_bytes())),
    ];
    transaction.execute(REVOKE, &new).await?;
    Ok(())
}

fn session_of(row: &Row) -> Result<SessionRecord> {
    let mut columns = Columns::of(row);
    Ok(SessionRecord {
        session: columns.id(SessionId::from_bytes)?,
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        method: columns.value()?,
        hash: TokenHash::from_bytes(columns.digest()?),
        expires_at: columns.time()?,
        refresh: {
            let family = columns.optional_digest()?.map(TokenHash::from_bytes);
            let current = columns.optional_digest()?.map(TokenHash::from_bytes);
            family.zip(current).map(|(family, current)| RefreshHash { family, current })
        },
        created_at: columns.time()?,
        renewed_at: columns.time()?,
        lapses_at: columns.time()?,
        ends_at: columns.time()?,
    })
}
