//! Who the user is: logins, tickets, and the [`Auth`] that turns a credential into an [`Entry`].
//!
//! Tokens and tickets are 32 random bytes, shown once and kept only as SHA-256, so that a look into the store lets
//! nobody in.

mod service;
mod token;

pub use service::{Auth, AuthConfig, Credential, Entry, Login, Presented, Ticket, Way};
pub use token::TokenHash;

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::{Principal, Scopes};
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

/// A login as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// Who logged in.
    pub user: UserId,
    /// What they may do.
    pub scopes: Scopes,
    /// The digest of the token.
    pub hash: TokenHash,
    /// When it began.
    pub created_at: Timestamp,
    /// When it runs out.
    pub expires_at: Timestamp,
}

/// Keeps logins.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Keeps a login; ones of that user which have run out at its beginning are dropped.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn create(&self, session: SessionRecord) -> Result<()>;

    /// The login with that token, also one that has run out.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>>;

    /// The user's logins, newest first.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>>;

    /// Ends a login of the user's.
    ///
    /// # Errors
    /// `not_found`.
    async fn end(&self, principal: &Principal, session: SessionId) -> Result<()>;
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct User {
    /// Its id.
    pub user: UserId,
    /// Who it is elsewhere, such as `dev:ada`.
    pub subject: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is barred.
    pub disabled: bool,
}

/// Keeps accounts.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync {
    /// The account of a subject; `new` is kept when there is none.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn resolve(&self, new: User) -> Result<User>;

    /// One account.
    ///
    /// # Errors
    /// `not_found`.
    async fn user(&self, user: UserId) -> Result<User>;
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
