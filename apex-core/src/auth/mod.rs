//! Who the user is: logins, tickets, accounts, and the [`Auth`] that turns a credential into an [`Entry`].
//!
//! Tokens and tickets are 32 random bytes, shown once and kept only as SHA-256, so that a look into the store lets
//! nobody in.

mod audit;
mod service;
mod session;
mod ticket;
mod token;
mod user;

pub use audit::{AuditAction, AuditEvent, AuditQuery, AuditStore};
pub use service::{
    Auth, AuthConfig, Credential, DEVELOPMENT_OPERATOR, Entry, Login, Presented, Ticket, Way,
};
pub use session::{
    REVOCATIONS_KEPT, RefreshHash, Revocation, Rotated, Rotation, SessionRecord, SessionStore,
};
pub(crate) use ticket::too_many_tickets;
pub use ticket::{TicketRecord, TicketStore};
pub use token::TokenHash;
pub(crate) use user::subject_taken;
pub use user::{Standing, User, UserChange, UserStore};
