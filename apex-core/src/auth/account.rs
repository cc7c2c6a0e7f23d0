//! What a host or an operator does to accounts.

use super::audit::{AuditAction, AuditEvent, AuditQuery};
use super::recorder::Happened;
use super::service::Auth;
use super::session::Revocation;
use super::user::{Standing, User, UserChange};
use crate::error::{Error, Kind, Result};
use crate::id::UserId;
use crate::principal::{Principal, Scopes};

/// What came of a change to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The account as it is now.
    pub user: User,
    /// What ended with the change, for whoever keeps connections here; other nodes hear of it by themselves.
    pub revoked: Vec<Revocation>,
}

impl Auth {
    /// Vouches for a user whom the host has verified, by the host's own name for them. The account is made at the
    /// first call.
    ///
    /// # Errors
    /// `forbidden` for an account that is barred; `unavailable`, `storage_failed`.
    pub async fn vouch(&self, name: &str) -> Result<Principal> {
        let new = User {
            user: UserId::new(&*self.clock),
            scopes: Scopes::USER,
            created_at: self.clock.now(),
            standing: Standing::Active,
        };
        let user = self.stores.users.resolve(&format!("host:{name}"), new).await?;
        if user.standing != Standing::Active {
            return Err(Error::new(Kind::Forbidden, "auth.vouch", "this account is disabled"));
        }
        Ok(Principal::vouched(user.user, user.scopes))
    }

    /// Bars an account and ends all of its logins, or lets it in again.
    ///
    /// # Errors
    /// `not_found` for an account that is not there or erased.
    pub async fn disable_user(&self, user: UserId, disabled: bool) -> Result<Changed> {
        let change = UserChange { disabled: Some(disabled), ..UserChange::default() };
        let changed = self.stores.users.change(user, change).await?;
        let reason = if disabled { "disabled" } else { "enabled" };
        self.recorder.record(Happened {
            reason: Some(reason),
            ..Happened::done(AuditAction::Disable, user)
        });
        let revoked = if disabled { self.end_all_sessions(user).await? } else { Vec::new() };
        Ok(Changed { user: changed, revoked })
    }

    /// Says what a user may do, from their next login on; the logins that there are end.
    ///
    /// # Errors
    /// `not_found` for an account that is not there or erased.
    pub async fn set_scopes(&self, user: UserId, scopes: Scopes) -> Result<Changed> {
        let change = UserChange { scopes: Some(scopes), ..UserChange::default() };
        let changed = self.stores.users.change(user, change).await?;
        let revoked = self.end_all_sessions(user).await?;
        Ok(Changed { user: changed, revoked })
    }

    /// Erases an account with all that its database keeps of the user ([`UserStore::erase`](super::UserStore::erase)),
    /// and ends all of its logins. A host that keeps a part elsewhere erases it there.
    ///
    /// # Errors
    /// `not_found` for an account that is not there.
    pub async fn erase_user(&self, user: UserId) -> Result<Vec<Revocation>> {
        self.stores.users.erase(user).await?;
        self.recorder.record(Happened::done(AuditAction::Erase, user));
        let revoked = self.end_all_sessions(user).await?;
        // What was on its way into the store when the account was marked is there by now.
        self.stores.users.erase(user).await?;
        Ok(revoked)
    }

    /// Ends every login of a user's, on all nodes. Gives what was revoked, for whoever keeps connections here.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    pub async fn end_all_sessions(&self, user: UserId) -> Result<Vec<Revocation>> {
        let now = self.clock.now();
        let ended = self.stores.sessions.end_all(user, now).await?;
        let each = ended.into_iter().map(Some).chain([None]);
        let revoked: Vec<_> = each.map(|session| Revocation { at: now, user, session }).collect();
        for revocation in &revoked {
            self.revocations.note(*revocation);
        }
        self.recorder.record(Happened::done(AuditAction::Revocation, user));
        Ok(revoked)
    }

    /// Makes an account known by one more subject.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a subject of another account.
    pub async fn link_user(&self, user: UserId, subject: &str) -> Result<()> {
        let linked = self.stores.users.link(user, subject).await;
        let reason = linked.as_ref().err().map(Error::code);
        self.recorder.record(Happened { reason, ..Happened::done(AuditAction::Link, user) });
        linked
    }

    /// The record of the door, newest first.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEvent>> {
        self.stores.audit.list(query).await
    }
}
