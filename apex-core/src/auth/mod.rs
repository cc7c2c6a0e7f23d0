//! Who the user is: logins, tickets, accounts, and the [`Auth`] that turns a credential into an [`Entry`].
//!
//! Tokens and tickets are 32 random bytes, shown once and kept only as SHA-256, so that a look into the store lets
//! nobody in. With the feature `jwt` access tokens may be signed instead, and be verified without a look: what was
//! revoked is then asked for, by [`SessionStore::revoked`].
//!
//! Everything that happens here goes on record: to the [`AuditStore`], to the log under the target `apex::audit`, and
//! to the counter `apex_door_total`. No credential and no digest of one is in any of them.

mod account;
mod audit;
mod burst;
mod config;
mod entry;
#[cfg(feature = "jwt")]
pub mod jwt;
mod login;
#[cfg(feature = "oidc")]
pub mod oidc;
mod recorder;
mod revoked;
mod service;
#[cfg(feature = "jwt")]
mod service_token;
mod session;
mod ticket;
mod token;
#[cfg(feature = "jwt")]
mod tokens;
mod user;

pub use account::Changed;
pub use audit::{AuditAction, AuditEvent, AuditQuery, AuditStore};
pub use burst::BurstPolicy;
pub use config::{AddressMask, AuthConfig};
pub use entry::{Credential, Door, Entry, Login, Presented, Ticket, Way};
pub use login::DEVELOPMENT_OPERATOR;
pub use revoked::RevocationWatch;
pub use service::{Auth, AuthParts, AuthStores};
#[cfg(feature = "jwt")]
pub use service_token::{ServiceEntry, ServiceTokens};
pub use session::{
    REVOCATIONS_KEPT, RefreshHash, Revocation, Rotated, Rotation, SessionRecord, SessionStore,
};
pub(crate) use ticket::too_many_tickets;
pub use ticket::{TicketRecord, TicketStore};
pub use token::TokenHash;
#[cfg(feature = "jwt")]
pub use tokens::{TokenAuthority, TrustedIssuer};
pub(crate) use user::subject_taken;
pub use user::{Standing, User, UserChange, UserStore};
