use super::TokenHash;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::Scopes;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A ticket as a store keeps it: it opens one connection once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRecord {
    /// The digest of the ticket.
    pub hash: TokenHash,
    /// Whom it lets in.
    pub user: UserId,
    /// What they may do.
    pub scopes: Scopes,
    /// The login that bought it.
    pub session: Option<SessionId>,
    /// Whom it is meant for, such as `ws`.
    pub audience: String,
    /// The page that bought it, if a page did.
    pub origin: Option<String>,
    /// The address that bought it, where tickets are bound to addresses.
    pub address: Option<String>,
    /// When the ticket itself lapses.
    pub expires_at: Timestamp,
    /// When the credential that bought it runs out; the connection's life.
    pub credential_expires_at: Timestamp,
}

/// Keeps tickets.
#[async_trait]
pub trait TicketStore: fmt::Debug + Send + Sync {
    /// Keeps a ticket, unless the user has `most_unused` that are neither used nor lapsed at `now`.
    ///
    /// # Errors
    /// `rate_limited` at the limit; `unavailable`, `storage_failed`.
    async fn issue(&self, ticket: TicketRecord, now: Timestamp, most_unused: usize) -> Result<()>;

    /// Takes a ticket out, in one atomic step: of any number of callers exactly one gets it. Lapsed ones are given
    /// out too; the caller checks.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn redeem(&self, hash: &TokenHash) -> Result<Option<TicketRecord>>;
}

/// The refusal of one ticket more, until the first of those that there are lapses.
pub(crate) fn too_many_tickets(limit: usize, lapses: Option<Timestamp>, now: Timestamp) -> Error {
    let refused = Error::new(
        Kind::RateLimited,
        "ticket.issue",
        "too many of your tickets are unused; use one, or wait until they lapse",
    )
    .with("limit", limit);
    match lapses {
        Some(lapses) => refused.with_retry_after(lapses.since(now)),
        None => refused,
    }
}
