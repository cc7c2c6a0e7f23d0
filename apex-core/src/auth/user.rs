use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::id::UserId;
use crate::principal::Scopes;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An account. It knows nothing about the person but the subjects under which they are known elsewhere, which the
/// store keeps beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub user: UserId,
    /// What the user may do, by whatever way they come in.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it may be used.
    pub standing: Standing,
}

/// Whether an account may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Active,
    /// It is barred, until it is made active again.
    Disabled,
    /// It was erased; the id stays known so that nobody comes in by it.
    Erased,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Active, Self::Disabled, Self::Erased];

    /// Its name, as on the wire and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Erased => "erased",
        }
    }

    /// The standing of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == name)
    }
}

/// What is to change about an account; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserChange {
    /// What the user may do.
    pub scopes: Option<Scopes>,
    /// Whether the account is barred.
    pub disabled: Option<bool>,
}

impl UserChange {
    /// The account with the change; for stores.
    ///
    /// # Errors
    /// `not_found` for one that was erased.
    pub fn apply(self, user: User) -> Result<User> {
        if user.standing == Standing::Erased {
            return Err(Error::not_found("user.change", "user"));
        }
        Ok(User {
            scopes: self.scopes.unwrap_or(user.scopes),
            standing: match self.disabled {
                Some(true) => Standing::Disabled,
                Some(false) => Standing::Active,
                None => user.standing,
            },
            ..user
        })
    }
}

/// Keeps accounts, and by which subjects they are known elsewhere: `dev:ada`, `host:4711`, or an issuer and its
/// subject of OpenID Connect. Whoever asks here acts for the host, not for a user.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync {
    /// The account of a subject; `new` is kept under it when there is none.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn resolve(&self, subject: &str, new: User) -> Result<User>;

    /// Makes an account known by one more subject; again is no change.
    ///
    /// # Errors
    /// `not_found` for an account that is not there or erased; `conflict` for a subject of another account.
    async fn link(&self, user: UserId, subject: &str) -> Result<()>;

    /// The subjects of an account, in the order of the alphabet.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn subjects(&self, user: UserId) -> Result<Vec<String>>;

    /// One account, also a disabled or erased one.
    ///
    /// # Errors
    /// `not_found`.
    async fn user(&self, user: UserId) -> Result<User>;

    /// Changes an account; how it is afterwards.
    ///
    /// # Errors
    /// `not_found`, also for one that was erased.
    async fn change(&self, user: UserId, change: UserChange) -> Result<User>;

    /// Erases an account for good: its subjects are forgotten and may make new accounts, it has no scopes left, and
    /// its id stays as [`Standing::Erased`]. Everything else that the same database keeps of the user goes with it, in
    /// one transaction: conversations and to whom they are shared, runs also under way, files, results, usage, tickets.
    /// What is begun in the user's name afterwards is `not_found`. Not so logins, which
    /// [`SessionStore::end_all`](super::SessionStore::end_all) ends, and the record of the door, which goes with its age.
    /// Again drops what was still being written meanwhile.
    ///
    /// # Errors
    /// `not_found`.
    async fn erase(&self, user: UserId) -> Result<()>;
}

/// The refusal to link what belongs to another account.
pub(crate) fn subject_taken() -> Error {
    Error::new(
        Kind::Conflict,
        "user.link",
        "this login belongs to another account; log in by it, or unlink it there first",
    )
}
