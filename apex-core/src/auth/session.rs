use super::TokenHash;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{SessionId, UserId};
use crate::principal::{Principal, Scopes};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How long a store keeps what was revoked, at least: longer than any token can live that is not looked up.
pub const REVOCATIONS_KEPT: Duration = Duration::from_secs(25 * 60 * 60);

/// A login as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// Who logged in.
    pub user: UserId,
    /// What they may do.
    pub scopes: Scopes,
    /// How they logged in, such as `dev` or `oidc:google`.
    pub method: String,
    /// The digest of the token that lets in.
    pub hash: TokenHash,
    /// When that token runs out.
    pub expires_at: Timestamp,
    /// The digests of the token that renews it; `None` for a login that cannot be renewed.
    pub refresh: Option<RefreshHash>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last renewed.
    pub renewed_at: Timestamp,
    /// When it is over unless it is renewed before.
    pub lapses_at: Timestamp,
    /// When it is over for good.
    pub ends_at: Timestamp,
}

/// The digests of a refresh token. Its first part names the family and stays; the whole is another one after every
/// renewal. Whoever shows the family's part with anything but the current whole has a token that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshHash {
    /// The digest of the part that stays.
    pub family: TokenHash,
    /// The digest of the whole token that is good now.
    pub current: TokenHash,
}

/// A renewal: what was presented, and what is to take its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The digests of the refresh token that was presented.
    pub presented: RefreshHash,
    /// The digest of the next whole refresh token.
    pub refresh: TokenHash,
    /// The digest of the next token that lets in.
    pub token: TokenHash,
    /// How long that one is good.
    pub token_life: Duration,
    /// How long the login may then stay without a renewal.
    pub idle_life: Duration,
    /// What time it is.
    pub now: Timestamp,
}

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotated {
    /// The login as it is now.
    Renewed(SessionRecord),
    /// The token had been used before, by its owner or by a thief: the login has been ended and its end noted as a
    /// [`Revocation`].
    Reused(SessionRecord),
    /// There is no such login, or its time is over.
    Unknown,
}

impl Rotation {
    /// What comes of this renewal of a login that has the presented family; for stores, within their atomic step.
    #[must_use]
    pub fn decide(&self, known: SessionRecord) -> Rotated {
        let Some(refresh) = known.refresh else {
            return Rotated::Unknown;
        };
        if known.lapses_at <= self.now || known.ends_at <= self.now {
            return Rotated::Unknown;
        }
        if refresh.current != self.presented.current {
            return Rotated::Reused(known);
        }
        Rotated::Renewed(SessionRecord {
            hash: self.token,
            expires_at: self.now.plus(self.token_life).min(known.ends_at),
            refresh: Some(RefreshHash { current: self.refresh, ..refresh }),
            renewed_at: self.now,
            // Not before its token: what is dropped from the store must be worth nothing.
            lapses_at: self.now.plus(self.idle_life.max(self.token_life)).min(known.ends_at),
            ..known
        })
    }
}

/// The end of a login before its time, or of all logins of a user: what every node has to hear of, since tokens and
/// connections outlive a look into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revocation {
    /// When, by the clock of whoever ended it.
    pub at: Timestamp,
    /// Whose.
    pub user: UserId,
    /// The login; `None` for everything of the user's that is not a login which the store keeps. Those are named one
    /// by one.
    pub session: Option<SessionId>,
}

/// How far the clocks of nodes may be apart.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

impl Revocation {
    /// Whether this is the end of a login of the user's. One that `session` does not name has ended when it began well
    /// before: the next login may begin at the same moment, and on a node whose clock is behind.
    #[must_use]
    pub fn covers(&self, user: UserId, session: SessionId) -> bool {
        match self.session {
            Some(ended) => ended == session,
            None => {
                let made_at = session.made_at();
                self.user == user && made_at.is_none_or(|made| made.plus(CLOCKS_DIFFER) < self.at)
            }
        }
    }
}

/// Keeps logins, and for a while which of them were revoked. A revocation wakes
/// [`Topic::Revocations`](crate::run::Topic::Revocations).
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Keeps a login; ones of that user which have lapsed at its beginning are dropped.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn create(&self, session: SessionRecord) -> Result<()>;

    /// The login with that token, also one that has run out.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn find(&self, hash: &TokenHash) -> Result<Option<SessionRecord>>;

    /// A login by its id, also one that has run out.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn session(&self, session: SessionId) -> Result<Option<SessionRecord>>;

    /// Renews the login whose family was presented, or ends it, as [`Rotation::decide`] says, in one atomic step: of
    /// any number of callers with the same token one renews it, and the next one ends it.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn rotate(&self, rotation: Rotation) -> Result<Rotated>;

    /// The user's logins, newest first.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionRecord>>;

    /// Ends a login of the user's and notes that it was revoked.
    ///
    /// # Errors
    /// `not_found`.
    async fn end(&self, principal: &Principal, session: SessionId, now: Timestamp) -> Result<()>;

    /// Ends every login of a user's and notes each as revoked, and everything else of the user's too: there may be
    /// tokens that are not looked up. Gives the logins.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionId>>;

    /// What was revoked at `since` or later, in order of time. A store keeps it for [`REVOCATIONS_KEPT`] at least and
    /// drops what is older with a later revocation.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn revoked(&self, since: Timestamp) -> Result<Vec<Revocation>>;
}
