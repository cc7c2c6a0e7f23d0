use super::audit::{AuditAction, AuditStore};
use super::burst::Bursts;
use super::config::AuthConfig;
use super::entry::{Credential, Door, Entry, Presented, Ticket};
use super::recorder::{Happened, Recorder};
use super::revoked::{RevocationWatch, Revocations};
use super::session::SessionStore;
use super::ticket::{TicketRecord, TicketStore};
use super::token::{TokenHash, random_token};
use super::user::{Standing, UserStore};
use crate::clock::{Clock, Timestamp};
use crate::config::{Environment, Secret};
use crate::error::{Error, ErrorLog, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::limit::{Grant, LimitKey, LimitStore};
use crate::principal::Principal;
use std::sync::Arc;
use std::time::Duration;

/// The audience of tickets that open a WebSocket.
const DEFAULT_AUDIENCE: &str = "ws";

/// Where what [`Auth`] needs is kept.
#[derive(Debug, Clone)]
pub struct AuthStores {
    /// Tickets.
    pub tickets: Arc<dyn TicketStore>,
    /// Logins.
    pub sessions: Arc<dyn SessionStore>,
    /// Accounts.
    pub users: Arc<dyn UserStore>,
    /// What happens at the door.
    pub audit: Arc<dyn AuditStore>,
    /// How fast tickets are bought.
    pub limits: Arc<dyn LimitStore>,
}

/// What a host may add to [`Auth`].
#[derive(Debug, Clone, Default)]
pub struct AuthParts {
    /// Makes access tokens signed ones, which every node verifies by itself. Without it they are random ones, which
    /// are looked up.
    #[cfg(feature = "jwt")]
    pub tokens: Option<super::TokenAuthority>,
    /// Other issuers whose tokens let their users in.
    #[cfg(feature = "jwt")]
    pub issuers: Vec<super::TrustedIssuer>,
    /// The services that may call one another, and operators' routes.
    #[cfg(feature = "jwt")]
    pub services: Option<super::ServiceTokens>,
    /// The providers that users log in with.
    #[cfg(feature = "oidc")]
    pub providers: Vec<super::oidc::OidcProvider>,
    /// What tells the host of bursts, as notices; the builder of a whole Apex says it.
    pub alerts: Option<Arc<ErrorLog>>,
}

/// Turns credentials into entries.
#[derive(Debug, Clone)]
pub struct Auth {
    pub(super) stores: AuthStores,
    #[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "they are about signed tokens"))]
    pub(super) parts: AuthParts,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: AuthConfig,
    pub(super) recorder: Recorder,
    pub(super) revocations: Revocations,
}

/// A credential that was refused, and what the record says about it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) reason: &'static str,
    pub(super) user: Option<UserId>,
    pub(super) session: Option<SessionId>,
}

impl Refused {
    /// A credential that is not good; the client is not told why.
    pub(super) fn because(reason: &'static str) -> Self {
        let error = Error::new(
            Kind::Unauthenticated,
            "auth.authenticate",
            "the credential is unknown, used or not good here; get a new one",
        );
        Self { error, reason, user: None, session: None }
    }

    /// A credential that was good and has run out.
    pub(super) fn expired() -> Self {
        let error = Error::new(
            Kind::TokenExpired,
            "auth.authenticate",
            "the login has run out; renew it, or log in again",
        );
        Self { error, reason: "token_expired", user: None, session: None }
    }

    pub(super) fn of(self, user: UserId, session: Option<SessionId>) -> Self {
        Self { user: Some(user), session, ..self }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { reason: error.code(), error, user: None, session: None }
    }
}

impl Auth {
    /// Auth over the given stores.
    #[must_use]
    pub fn new(
        stores: AuthStores,
        parts: AuthParts,
        clock: Arc<dyn Clock>,
        config: AuthConfig,
    ) -> Self {
        let bursts = Bursts::new(config.bursts, parts.alerts.clone());
        let recorder = Recorder::new(
            Arc::clone(&stores.audit),
            Arc::clone(&clock),
            config.addresses,
            config.audit_life,
            bursts,
        );
        let revocations = Revocations::new(Arc::clone(&stores.sessions), Arc::clone(&clock));
        Self { stores, parts, clock, config, recorder, revocations }
    }

    /// Where this process runs.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.config.environment
    }

    /// Lets a user in, or says why not.
    ///
    /// # Errors
    /// `unauthenticated` for whatever is unknown, used or wrong (one answer for all); `token_expired` for a login
    /// that has run out; `unavailable` when the store is down: it never lets in by default.
    pub async fn authenticate(
        &self,
        credential: &Credential,
        presented: &Presented,
    ) -> Result<Entry> {
        let (action, verified) = match credential {
            Credential::Token(token) => (AuditAction::Entry, self.by_token(token, presented).await),
            Credential::Ticket(ticket) => {
                (AuditAction::TicketRedeem, self.by_ticket(ticket, presented).await)
            }
        };
        let presented = Some(presented);
        match verified {
            Ok(entry) => {
                let lasts = presented.is_some_and(|presented| presented.door == Door::Connection);
                if lasts || action == AuditAction::TicketRedeem {
                    let (user, session) = (entry.principal.user(), entry.principal.session());
                    self.recorder.record(Happened {
                        presented,
                        session,
                        ..Happened::done(action, user)
                    });
                }
                Ok(entry)
            }
            Err(Refused { error, reason, user, session }) => {
                let reason = Some(reason);
                self.recorder.record(Happened { action, reason, presented, user, session });
                Err(error)
            }
        }
    }

    /// Writes down a refusal that was decided elsewhere, such as for a request that cannot be read.
    pub fn note_refusal(&self, error: &Error, presented: &Presented) {
        self.recorder.record(Happened {
            action: AuditAction::Entry,
            reason: Some(error.code()),
            presented: Some(presented),
            user: None,
            session: None,
        });
    }

    /// Issues a ticket for a user who is in. It carries the expiry of the credential that bought it, and is bound to
    /// the page and, where the host wants it, the address that bought it.
    ///
    /// # Errors
    /// `rate_limited` with too many unused ones, or bought too fast; `forbidden` where tickets are bound to addresses
    /// and the client's is not known.
    pub async fn issue_ticket(
        &self,
        entry: &Entry,
        audience: Option<&str>,
        presented: &Presented,
    ) -> Result<Ticket> {
        let issued = self.try_issue(entry, audience, presented).await;
        self.recorder.record(Happened {
            reason: issued.as_ref().err().map(Error::code),
            presented: Some(presented),
            session: entry.principal.session(),
            ..Happened::done(AuditAction::TicketIssue, entry.principal.user())
        });
        issued
    }

    async fn try_issue(
        &self,
        entry: &Entry,
        audience: Option<&str>,
        presented: &Presented,
    ) -> Result<Ticket> {
        const OPERATION: &str = "auth.issue_ticket";
        let user = entry.principal.user();
        let rate = LimitKey::new("tickets", user)?;
        let granted = self.stores.limits.take(&rate, self.config.ticket_rate, 1).await?;
        if let Grant::Refused { retry_after } = granted {
            let slow = "tickets are bought too fast; one is enough for one connection";
            return Err(
                Error::new(Kind::RateLimited, OPERATION, slow).with_retry_after(retry_after)
            );
        }
        let address = match (self.config.ticket_address, presented.address) {
            (false, _) => None,
            (true, Some(address)) => Some(address.to_canonical().to_string()),
            (true, None) => {
                return Err(Error::new(
                    Kind::Forbidden,
                    OPERATION,
                    "tickets are bound to addresses here, and yours did not get through the proxies on the way",
                ));
            }
        };
        let now = self.clock.now();
        let ticket = random_token()?;
        let expires_at = now.plus(self.config.ticket_life).min(entry.expires_at);
        let record = TicketRecord {
            hash: TokenHash::of(ticket.reveal()),
            user,
            scopes: entry.principal.scopes(),
            session: entry.principal.session(),
            audience: audience.unwrap_or(DEFAULT_AUDIENCE).to_owned(),
            origin: presented.origin.clone(),
            address,
            expires_at,
            credential_expires_at: entry.expires_at,
        };
        self.stores.tickets.issue(record, now, self.config.unused_tickets).await?;
        Ok(Ticket { ticket, expires_at })
    }

    /// Follows what is revoked, for whoever keeps connections.
    #[must_use]
    pub fn revocations(&self) -> RevocationWatch {
        RevocationWatch::new(self.revocations.clone())
    }

    /// Waits until the record of the door is in its store, at most `longest`; says whether it is.
    pub async fn audit_written(&self, longest: Duration) -> bool {
        self.recorder.written(longest).await
    }

    async fn by_token(
        &self,
        token: &Secret<String>,
        presented: &Presented,
    ) -> Result<Entry, Refused> {
        #[cfg(feature = "jwt")]
        if token.reveal().contains('.') {
            return self.by_signed_token(token.reveal(), presented).await;
        }
        let hash = TokenHash::of(token.reveal());
        let session = self.stores.sessions.find(&hash).await?;
        let session = session.ok_or_else(|| Refused::because("token_unknown"))?;
        if session.expires_at <= self.clock.now() {
            return Err(Refused::expired().of(session.user, Some(session.session)));
        }
        self.check_user(session.user).await?;
        Ok(Entry {
            principal: Principal::from_session(session.user, session.scopes, session.session),
            way: presented.way,
            expires_at: session.expires_at,
        })
    }

    async fn by_ticket(
        &self,
        ticket: &Secret<String>,
        presented: &Presented,
    ) -> Result<Entry, Refused> {
        // Taken out first, checked afterwards: a ticket that fails a check is burnt.
        let hash = TokenHash::of(ticket.reveal());
        let record = self.stores.tickets.redeem(&hash).await?;
        let record = record.ok_or_else(|| Refused::because("ticket_unknown"))?;
        if let Some(reason) = unfit(&record, presented, self.clock.now()) {
            return Err(Refused::because(reason).of(record.user, record.session));
        }
        self.check_user(record.user).await?;
        let principal = match record.session {
            Some(session) => {
                // A ticket does not outlive the login that bought it.
                if self.stores.sessions.session(session).await?.is_none() {
                    return Err(Refused::because("login_ended").of(record.user, record.session));
                }
                Principal::from_session(record.user, record.scopes, session)
            }
            None => Principal::vouched(record.user, record.scopes),
        };
        Ok(Entry { principal, way: presented.way, expires_at: record.credential_expires_at })
    }

    pub(super) async fn check_user(&self, user: UserId) -> Result<(), Refused> {
        match self.stores.users.user(user).await {
            Ok(account) if account.standing == Standing::Active => Ok(()),
            Ok(_) => Err(Refused::because("account_barred").of(user, None)),
            // A principal that a host vouches for need not have an account here.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a ticket is not good for whoever presents it now.
fn unfit(record: &TicketRecord, presented: &Presented, now: Timestamp) -> Option<&'static str> {
    let address = || presented.address.map(|address| address.to_canonical().to_string());
    if record.expires_at <= now {
        Some("ticket_expired")
    } else if record.audience != DEFAULT_AUDIENCE {
        Some("ticket_wrong_audience")
    } else if record.origin.is_some() && record.origin != presented.origin {
        Some("ticket_wrong_origin")
    } else if record.address.is_some() && record.address != address() {
        Some("ticket_wrong_address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
