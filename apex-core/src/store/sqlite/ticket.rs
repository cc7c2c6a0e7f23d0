use super::database::Database;
use super::row::{Columns, json};
use crate::auth::{TicketRecord, TicketStore, TokenHash, too_many_tickets};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{SessionId, UserId};
use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Row, params};
use std::sync::Arc;

/// Tickets in SQLite.
#[derive(Debug)]
pub(super) struct SqliteTicketStore {
    database: Arc<Database>,
}

impl SqliteTicketStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl TicketStore for SqliteTicketStore {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most_unused: usize) -> Result<()> {
        self.database
            .write("ticket.issue", move |connection, _| {
                connection
                    .prepare_cached("DELETE FROM ticket WHERE expires_at <= ?1")?
                    .execute([now.as_millis()])?;
                let (unused, lapses) = connection.prepare_cached(UNUSED)?.query_row(
                    [ticket.user.as_bytes()],
                    |row| {
                        let mut columns = Columns::of(row);
                        Ok((columns.count()?, columns.optional_time()?))
                    },
                )?;
                if unused >= most_unused as u64 {
                    return Err(too_many_tickets(most_unused, lapses, now).into());
                }
                connection.prepare_cached(INSERT)?.execute(params![
                    ticket.hash.as_bytes(),
                    ticket.user.as_bytes(),
                    json(&ticket.scopes)?,
                    ticket.session.as_ref().map(SessionId::as_bytes),
                    ticket.audience,
                    ticket.origin,
                    ticket.expires_at.as_millis(),
                    ticket.credential_expires_at.as_millis(),
                    ticket.address,
                ])?;
                Ok(())
            })
            .await
    }

    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        let hash = *hash;
        self.database
            .write("ticket.redeem", move |connection, _| {
                Ok(connection
                    .prepare_cached(REDEEM)?
                    .query_row([hash.as_bytes()], ticket_of)
                    .optional()?)
            })
            .await
    }
}

const INSERT: &str = "INSERT INTO ticket (hash, user, scopes, session, audience, origin, \
     expires_at, credential_expires_at, address) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const UNUSED: &str = "SELECT count(*), min(expires_at) FROM ticket WHERE user = ?1";
const REDEEM: &str = "DELETE FROM ticket WHERE hash = ?1 RETURNING hash, user, scopes, session, \
     audience, origin, address, expires_at, credential_expires_at";

fn ticket_of(row: &Row<'_>) -> rusqlite::Result<TicketRecord> {
    let mut columns = Columns::of(row);
    Ok(TicketRecord {
        hash: TokenHash::from_bytes(columns.value()?),
        user: columns.id(UserId::from_bytes)?,
        scopes: columns.json()?,
        session: columns.optional_id(SessionId::from_bytes)?,
        audience: columns.value()?,
        origin: columns.value()?,
        address: columns.value()?,
        expires_at: columns.time()?,
        credential_expires_at: columns.time()?,
    })
}
