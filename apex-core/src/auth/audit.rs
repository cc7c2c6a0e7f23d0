use super::Way;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{AuditId, CorrelationId, SessionId, UserId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that happened at the door. It carries no credential, and no digest of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditEvent {
    /// Its id; appending it again is no change.
    pub id: AuditId,
    /// When it happened.
    pub at: Timestamp,
    /// What was done or tried.
    pub action: AuditAction,
    /// Why it was refused, as a code of the catalogue or a name such as `reused`; `None` where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By which way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Whom it is about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The login that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The client's address, as far as the host wants it kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Ties it to logs and to the answer that the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationId>,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident $text:literal),* $(,)?) => {
        /// What was done or tried.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum AuditAction {
            $($(#[$doc])* $name,)*
        }

        impl AuditAction {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name, as on the wire and in stores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

actions! {
    /// A user logged in.
    Login "login",
    /// A login was renewed.
    Refresh "refresh",
    /// A used refresh token was presented, and its login ended.
    Reuse "reuse",
    /// A ticket was issued.
    TicketIssue "ticket_issue",
    /// A ticket was redeemed.
    TicketRedeem "ticket_redeem",
    /// A client came in by a credential other than a ticket.
    Entry "entry",
    /// A login was ended by its user.
    Logout "logout",
    /// Logins were revoked by the host or an operator.
    Revocation "revocation",
    /// A token for another service was issued.
    ServiceToken "service_token",
    /// An account was linked to another subject.
    Link "link",
    /// An account was barred or let in again.
    Disable "disable",
    /// An account was erased.
    Erase "erase",
}

impl AuditAction {
    /// The action of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.as_str() == name)
    }
}

/// Which events of the record are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what is about this user.
    pub user: Option<UserId>,
    /// Only what is older than this event: the last one of the page before.
    pub before: Option<AuditId>,
    /// The most events in the answer, 1 to 1,000.
    pub limit: usize,
}

/// Keeps the record of what happened at the door. Its ids are in order of time, which is the order of the record.
#[async_trait]
pub trait AuditStore: fmt::Debug + Send + Sync {
    /// Adds events, all or none; one that is there already stays as it is.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn append(&self, events: Vec<AuditEvent>) -> Result<()>;

    /// Events, newest first.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditEvent>>;

    /// Drops what is older than `before`, a bounded number at a time; how many went.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn forget(&self, before: Timestamp) -> Result<usize>;
}
