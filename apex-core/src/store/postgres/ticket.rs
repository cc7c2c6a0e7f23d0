use super::inbox::lock_user;
use super::row::{Columns, json, key};
use crate::auth::{TicketRecord, TicketStore, TokenHash, too_many_tickets};
use crate::clock::Timestamp;
use crate::database::{Access, Database, Transaction};
use crate::error::Result;
use crate::id::{SessionId, UserId};
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Tickets in PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresTicketStore {
    database: Database,
}

impl PostgresTicketStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[async_trait]
impl TicketStore for PostgresTicketStore {
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most_unused: usize) -> Result<()> {
        let access = Access::user(ticket.user, "ticket.issue");
        let ticket = &ticket;
        self.database
            .write(access, |transaction| Box::pin(issue(transaction, ticket, now, most_unused)))
            .await
    }

    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>> {
        let rows = self
            .database
            .once(Access::system("ticket.redeem"), REDEEM, &[&hash.as_bytes().as_slice()])
            .await?;
        rows.first().map(ticket_of).transpose()
    }
}

/// A few at a time, and none that another transaction holds: nobody waits for the sweep.
const SWEEP: &str = "DELETE FROM ticket WHERE hash IN (SELECT hash FROM ticket WHERE expires_at <= $1 \
     ORDER BY expires_at LIMIT 64 FOR UPDATE SKIP LOCKED)";
const UNUSED: &str =
    "SELECT count(*), min(expires_at) FROM ticket WHERE owner = $1 AND expires_at > $2";
const INSERT: &str = "INSERT INTO ticket (hash, owner, scopes, session, audience, origin, \
     expires_at, credential_expires_at, address) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const REDEEM: &str = "DELETE FROM ticket WHERE hash = $1 RETURNING hash, owner, scopes, session, \
     audience, origin, address, expires_at, credential_expires_at";

async fn issue(
    transaction: &Transaction<'_>,
    ticket: &TicketRecord,
    now: Timestamp,
    most_unused: usize,
) -> Result<()> {
    let (owner, now_millis) = (key(ticket.user.as_bytes()), now.as_millis());
    lock_user(transaction, ticket.user, "ticket.issue").await?;
    transaction.execute(SWEEP, &[&now_millis]).await?;
    let row = transaction.query_one(UNUSED, &[&owner, &now_millis]).await?;
    let mut columns = Columns::of(&row);
    let (unused, lapses) = (columns.count()?, columns.optional_time()?);
    if unused >= most_unused as u64 {
        return Err(too_many_tickets(most_unused, lapses, now));
    }
    let new: [&(dyn ToSql + Sync); 9] = [
        &ticket.hash.as_bytes().as_slice(),
        &owner,
        &json(&ticket.scopes)?,
        &ticket.session.map(|session| key(session.as_bytes())),
        &ticket.audience,
        &ticket.origin,
        &ticket.expires_at.as_millis(),
        &ticket.credential_expires_at.as_millis(),
        &ticket.address,
    ];
    transaction.execute(INSERT, &new).await?;
    Ok(())
}

fn ticket_of(row: &Row) -> Result<TicketRecord> {
    let mut columns = Columns::of(row);
    Ok(TicketRecord {
        hash: TokenHash::from_bytes(columns.digest()?),
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
