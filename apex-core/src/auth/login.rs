//! Logins: begun, renewed, ended.

use super::audit::AuditAction;
use super::entry::{Login, Presented};
use super::recorder::Happened;
use super::service::{Auth, Refused};
use super::session::{RefreshHash, Revocation, Rotated, Rotation, SessionRecord};
use super::token::{TokenHash, family_of, random_part, random_token};
use super::user::{Standing, User};
use crate::clock::Timestamp;
use crate::config::{Environment, Secret};
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::{Principal, Scope, Scopes};

/// The name under which the development login makes an operator.
pub const DEVELOPMENT_OPERATOR: &str = "operator";

/// The longest name of the development login.
const MAX_NAME: usize = 64;

/// The longest way of logging in, and the longest subject.
const MAX_METHOD: usize = 64;
const MAX_SUBJECT: usize = 512;

impl Auth {
    /// Lets anyone in under any name: for a developer's machine, and refused elsewhere as if it did not exist. The
    /// name [`DEVELOPMENT_OPERATOR`] gets the rights of an operator.
    ///
    /// # Errors
    /// `not_found` outside development; `bad_request` for a name that is empty, longer than 64 characters or has
    /// control characters.
    pub async fn development_login(&self, name: &str, presented: &Presented) -> Result<Login> {
        const OPERATION: &str = "auth.development_login";
        if self.config.environment != Environment::Development {
            return Err(Error::not_found(OPERATION, "route"));
        }
        let name = name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control)
        {
            return Err(Error::new(
                Kind::BadRequest,
                OPERATION,
                "`user` must be 1 to 64 printable characters",
            ));
        }
        let subject = format!("dev:{name}");
        if name == DEVELOPMENT_OPERATOR {
            let scopes = Scopes::USER.with(Scope::Admin);
            let operator = User { scopes, ..self.new_user(self.clock.now()) };
            self.stores.users.resolve(&subject, operator).await?;
        }
        self.log_in(&subject, "dev", presented).await
    }

    /// Begins a login of the user whom the host has verified, known to it as `subject`; the account is made at the
    /// first one. `method` says how, in a word that the user sees among their logins.
    ///
    /// # Errors
    /// `forbidden` for an account that is barred; `bad_request` for a subject or method that is empty or too long.
    pub async fn log_in(
        &self,
        subject: &str,
        method: &str,
        presented: &Presented,
    ) -> Result<Login> {
        let begun = self.try_log_in(subject, method).await;
        let (user, session) = match &begun {
            Ok(login) => (Some(login.principal.user()), login.principal.session()),
            Err(_) => (None, None),
        };
        let reason = begun.as_ref().err().map(Error::code);
        let (action, presented) = (AuditAction::Login, Some(presented));
        self.recorder.record(Happened { action, reason, presented, user, session });
        begun
    }

    async fn try_log_in(&self, subject: &str, method: &str) -> Result<Login> {
        const OPERATION: &str = "auth.log_in";
        let fits = |text: &str, most| (1..=most).contains(&text.len());
        if !fits(subject, MAX_SUBJECT) || !fits(method, MAX_METHOD) {
            let wrong = "a subject has 1 to 512 bytes, and a method of logging in 1 to 64";
            return Err(Error::new(Kind::BadRequest, OPERATION, wrong));
        }
        let now = self.clock.now();
        let user = self.stores.users.resolve(subject, self.new_user(now)).await?;
        if user.standing != Standing::Active {
            return Err(Error::new(Kind::Forbidden, OPERATION, "this account is disabled"));
        }
        let session = SessionId::new(&*self.clock);
        let ends_at = now.plus(self.config.session_life);
        let expires_at = now.plus(self.config.token_life).min(ends_at);
        let token = self.access_token(user.user, session, user.scopes, now, expires_at)?;
        let family = random_part()?;
        let refresh = next_refresh(family.reveal())?;
        let record = SessionRecord {
            session,
            user: user.user,
            scopes: user.scopes,
            method: method.to_owned(),
            hash: TokenHash::of(token.reveal()),
            expires_at,
            refresh: Some(RefreshHash {
                family: TokenHash::of(family.reveal()),
                current: TokenHash::of(refresh.reveal()),
            }),
            created_at: now,
            renewed_at: now,
            lapses_at: now.plus(self.config.idle_life).max(expires_at).min(ends_at),
            ends_at,
        };
        let principal = Principal::from_session(record.user, record.scopes, session);
        let lapses_at = record.lapses_at;
        self.stores.sessions.create(record).await?;
        Ok(Login { token, principal, expires_at, refresh, lapses_at })
    }

    /// An account that begins now.
    pub(super) fn new_user(&self, now: Timestamp) -> User {
        User {
            user: UserId::new(&*self.clock),
            scopes: Scopes::USER,
            created_at: now,
            standing: Standing::Active,
        }
    }

    /// Renews a login: both of its tokens are replaced. A refresh token that was used before ends its login, since
    /// nobody knows which of its two holders is the thief.
    ///
    /// # Errors
    /// `unauthenticated` for a token that is unknown, used or lapsed, or whose account is barred.
    pub async fn refresh(&self, refresh: &Secret<String>, presented: &Presented) -> Result<Login> {
        let presented = Some(presented);
        match self.try_refresh(refresh).await {
            Ok(login) => {
                let (user, session) = (login.principal.user(), login.principal.session());
                let done = Happened::done(AuditAction::Refresh, user);
                self.recorder.record(Happened { presented, session, ..done });
                Ok(login)
            }
            Err(Refused { error, reason, user, session }) => {
                let action =
                    if reason == REUSED { AuditAction::Reuse } else { AuditAction::Refresh };
                let reason = Some(reason);
                self.recorder.record(Happened { action, reason, presented, user, session });
                Err(error)
            }
        }
    }

    async fn try_refresh(&self, refresh: &Secret<String>) -> Result<Login, Refused> {
        let unknown = || Refused::because("refresh_unknown");
        let family = family_of(refresh.reveal()).ok_or_else(unknown)?;
        let now = self.clock.now();
        // The token has to be known before the login is: a signed one carries the login's own id and scopes, so it is
        // made by what the store knows now, and verified against what it knows then.
        let presented =
            RefreshHash { family: TokenHash::of(family), current: TokenHash::of(refresh.reveal()) };
        let next = next_refresh(family)?;
        let stand_in = random_token()?;
        let rotation = Rotation {
            presented,
            refresh: TokenHash::of(next.reveal()),
            token: TokenHash::of(stand_in.reveal()),
            token_life: self.config.token_life,
            idle_life: self.config.idle_life,
            now,
        };
        let record = match self.stores.sessions.rotate(rotation).await? {
            Rotated::Renewed(record) => record,
            Rotated::Reused(ended) => {
                let (user, session) = (ended.user, Some(ended.session));
                self.revocations.note(Revocation { at: now, user, session });
                return Err(Refused::because(REUSED).of(user, session));
            }
            Rotated::Unknown => return Err(unknown()),
        };
        let (user, session) = (record.user, record.session);
        self.check_user(user).await?;
        let expires_at = record.expires_at;
        let token = if self.signs_tokens() {
            self.access_token(user, session, record.scopes, now, expires_at)?
        } else {
            stand_in
        };
        Ok(Login {
            token,
            principal: Principal::from_session(user, record.scopes, session),
            expires_at,
            refresh: next,
            lapses_at: record.lapses_at,
        })
    }

    /// Ends the login that an entry came from.
    ///
    /// # Errors
    /// `not_found` for an entry without a login, or one that has ended.
    pub async fn log_out(&self, principal: &Principal, presented: &Presented) -> Result<()> {
        let session =
            principal.session().ok_or_else(|| Error::not_found("auth.log_out", "session"))?;
        self.end_session(principal, session, presented).await
    }

    /// Ends a login of the user's.
    ///
    /// # Errors
    /// `not_found` for one that is not the user's, or has ended.
    pub async fn end_session(
        &self,
        principal: &Principal,
        session: SessionId,
        presented: &Presented,
    ) -> Result<()> {
        let (now, user) = (self.clock.now(), principal.user());
        self.stores.sessions.end(principal, session, now).await?;
        self.revocations.note(Revocation { at: now, user, session: Some(session) });
        self.recorder.record(Happened {
            presented: Some(presented),
            session: Some(session),
            ..Happened::done(AuditAction::Logout, user)
        });
        Ok(())
    }

    /// The user's logins that have not lapsed, newest first.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    pub async fn sessions(&self, principal: &Principal) -> Result<Vec<SessionRecord>> {
        let now = self.clock.now();
        let mut sessions = self.stores.sessions.list(principal).await?;
        sessions.retain(|session| session.lapses_at > now);
        Ok(sessions)
    }

    /// A token that lets in.
    fn access_token(
        &self,
        user: UserId,
        session: SessionId,
        scopes: Scopes,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Secret<String>> {
        #[cfg(feature = "jwt")]
        if let Some(tokens) = &self.parts.tokens {
            return tokens.access(user, session, scopes, now, expires_at);
        }
        let _ = (user, session, scopes, now, expires_at);
        random_token()
    }

    fn signs_tokens(&self) -> bool {
        #[cfg(feature = "jwt")]
        return self.parts.tokens.is_some();
        #[cfg(not(feature = "jwt"))]
        false
    }
}

/// The record's word for a refresh token that was used before.
const REUSED: &str = "refresh_reused";

/// The next refresh token of a family.
fn next_refresh(family: &str) -> Result<Secret<String>> {
    let secret = random_token()?;
    Ok(Secret::new(format!("{family}.{}", secret.reveal())))
}
