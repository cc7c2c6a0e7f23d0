use super::token::{TokenHash, random_token};
use super::{SessionRecord, SessionStore, Standing, TicketRecord, TicketStore, User, UserStore};
use crate::clock::{Clock, Timestamp};
use crate::config::{Environment, Secret};
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, UserId};
use crate::principal::{Principal, Scope, Scopes};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The audience of tickets that open a WebSocket.
const DEFAULT_AUDIENCE: &str = "ws";

/// The name under which the development login makes an operator.
pub const DEVELOPMENT_OPERATOR: &str = "operator";

/// The longest name of the development login.
const MAX_NAME: usize = 64;

/// How logins and tickets behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Where this process runs; the development login is open in development only.
    pub environment: Environment,
    /// How long a ticket is good, 1 to 60 s.
    pub ticket_life: Duration,
    /// The tickets of one user that may be unused at a time.
    pub unused_tickets: usize,
    /// How long a login is good.
    pub session_life: Duration,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            environment: Environment::default(),
            ticket_life: Duration::from_secs(30),
            unused_tickets: 32,
            session_life: Duration::from_secs(12 * 60 * 60),
        }
    }
}

/// By which of the five ways a client came in; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `Authorization: Bearer`.
    Bearer,
    /// A token or ticket as a WebSocket subprotocol.
    Subprotocol,
    /// A ticket in the query.
    Query,
    /// The session cookie.
    Cookie,
    /// The first message.
    Hello,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::Bearer, Self::Subprotocol, Self::Query, Self::Cookie, Self::Hello];

    /// Its name, as in stores and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Subprotocol => "subprotocol",
            Self::Query => "query",
            Self::Cookie => "cookie",
            Self::Hello => "hello",
        }
    }

    /// The way of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == name)
    }
}

/// Something that may let a user in.
#[derive(Clone)]
pub enum Credential {
    /// A login's token, from a header, a cookie or a `hello`.
    Token(Secret<String>),
    /// A ticket.
    Ticket(Secret<String>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Ticket(_) => "Ticket(…)",
        })
    }
}

/// How a credential was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The way.
    pub way: Way,
    /// The page's origin, if a page presents it.
    pub origin: Option<String>,
}

/// A user who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who, and what they may do.
    pub principal: Principal,
    /// By which way.
    pub way: Way,
    /// When the credential runs out.
    pub expires_at: Timestamp,
}

/// A new login.
#[derive(Clone)]
pub struct Login {
    /// The token; shown once.
    pub token: Secret<String>,
    /// Who is in.
    pub principal: Principal,
    /// When it runs out.
    pub expires_at: Timestamp,
}

/// A new ticket.
#[derive(Clone)]
pub struct Ticket {
    /// The ticket; shown once.
    pub ticket: Secret<String>,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// Turns credentials into entries.
#[derive(Debug, Clone)]
pub struct Auth {
    tickets: Arc<dyn TicketStore>,
    sessions: Arc<dyn SessionStore>,
    users: Arc<dyn UserStore>,
    clock: Arc<dyn Clock>,
    config: AuthConfig,
}

impl Auth {
    /// Auth over the given stores.
    #[must_use]
    pub fn new(
        tickets: Arc<dyn TicketStore>,
        sessions: Arc<dyn SessionStore>,
        users: Arc<dyn UserStore>,
        clock: Arc<dyn Clock>,
        config: AuthConfig,
    ) -> Self {
        Self { tickets, sessions, users, clock, config }
    }

    /// Where this process runs.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.config.environment
    }

    /// Lets anyone in under any name: for a developer's machine, and refused elsewhere as if it did not exist. The
    /// name [`DEVELOPMENT_OPERATOR`] gets the rights of an operator.
    ///
    /// # Errors
    /// `not_found` outside development; `bad_request` for a name that is empty, longer than 64 characters or has
    /// control characters.
    pub async fn development_login(&self, name: &str) -> Result<Login> {
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
        let now = self.clock.now();
        let new = User {
            user: UserId::new(&*self.clock),
            scopes: match name {
                DEVELOPMENT_OPERATOR => Scopes::USER.with(Scope::Admin),
                _ => Scopes::USER,
            },
            created_at: now,
            standing: Standing::Active,
        };
        let user = self.users.resolve(&format!("dev:{name}"), new).await?;
        self.log_in(&user, now).await
    }

    /// Issues a ticket for a user who is in. It carries the expiry of the credential that bought it.
    ///
    /// # Errors
    /// `rate_limited` with too many unused ones.
    pub async fn issue_ticket(
        &self,
        entry: &Entry,
        audience: Option<&str>,
        origin: Option<&str>,
    ) -> Result<Ticket> {
        let now = self.clock.now();
        let ticket = random_token()?;
        let expires_at = now.plus(self.config.ticket_life).min(entry.expires_at);
        let record = TicketRecord {
            hash: TokenHash::of(ticket.reveal()),
            user: entry.principal.user(),
            scopes: entry.principal.scopes(),
            session: entry.principal.session(),
            audience: audience.unwrap_or(DEFAULT_AUDIENCE).to_owned(),
            origin: origin.map(str::to_owned),
            address: None,
            expires_at,
            credential_expires_at: entry.expires_at,
        };
        self.tickets.issue(record, now, self.config.unused_tickets).await?;
        Ok(Ticket { ticket, expires_at })
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
        match credential {
            Credential::Token(token) => self.by_token(token, presented).await,
            Credential::Ticket(ticket) => self.by_ticket(ticket, presented).await,
        }
    }

    /// Ends the login that an entry came from.
    ///
    /// # Errors
    /// `not_found` for an entry without a login, or one that has ended.
    pub async fn log_out(&self, principal: &Principal) -> Result<()> {
        let session =
            principal.session().ok_or_else(|| Error::not_found("auth.log_out", "session"))?;
        self.sessions.end(principal, session, self.clock.now()).await
    }

    async fn log_in(&self, user: &User, now: Timestamp) -> Result<Login> {
        let token = random_token()?;
        let ends_at = now.plus(self.config.session_life);
        let record = SessionRecord {
            session: SessionId::new(&*self.clock),
            user: user.user,
            scopes: user.scopes,
            method: "dev".to_owned(),
            hash: TokenHash::of(token.reveal()),
            expires_at: ends_at,
            refresh: None,
            created_at: now,
            renewed_at: now,
            lapses_at: ends_at,
            ends_at,
        };
        let principal = Principal::from_session(record.user, record.scopes, record.session);
        let expires_at = record.expires_at;
        self.sessions.create(record).await?;
        Ok(Login { token, principal, expires_at })
    }

    async fn by_token(&self, token: &Secret<String>, presented: &Presented) -> Result<Entry> {
        let session =
            self.sessions.find(&TokenHash::of(token.reveal())).await?.ok_or_else(refused)?;
        if session.expires_at <= self.clock.now() {
            return Err(Error::new(
                Kind::TokenExpired,
                "auth.token",
                "the login has run out; log in again",
            ));
        }
        self.check_user(session.user).await?;
        Ok(Entry {
            principal: Principal::from_session(session.user, session.scopes, session.session),
            way: presented.way,
            expires_at: session.expires_at,
        })
    }

    async fn by_ticket(&self, ticket: &Secret<String>, presented: &Presented) -> Result<Entry> {
        // Taken out first, checked afterwards: a ticket that fails a check is burnt.
        let record =
            self.tickets.redeem(&TokenHash::of(ticket.reveal())).await?.ok_or_else(refused)?;
        let now = self.clock.now();
        let origin_fits = record.origin.is_none() || record.origin == presented.origin;
        if record.expires_at <= now || record.audience != DEFAULT_AUDIENCE || !origin_fits {
            return Err(refused());
        }
        self.check_user(record.user).await?;
        let principal = match record.session {
            Some(session) => {
                let principal = Principal::from_session(record.user, record.scopes, session);
                // A ticket does not outlive the login that bought it.
                if self.sessions.session(session).await?.is_none() {
                    return Err(refused());
                }
                principal
            }
            None => Principal::vouched(record.user, record.scopes),
        };
        Ok(Entry { principal, way: presented.way, expires_at: record.credential_expires_at })
    }

    async fn check_user(&self, user: UserId) -> Result<()> {
        match self.users.user(user).await {
            Ok(user) if user.standing == Standing::Active => Ok(()),
            Ok(_) => Err(refused()),
            // A principal that a host vouches for need not have an account here.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn refused() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "auth.authenticate",
        "the credential is unknown, used or not good here; get a new one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;
    use crate::testkit::VirtualClock;

    fn auth(environment: Environment) -> (Auth, Arc<VirtualClock>) {
        let clock = Arc::new(VirtualClock::still());
        let stores =
            memory::open(memory::MemoryOptions::default(), Arc::clone(&clock) as Arc<dyn Clock>);
        let config = AuthConfig { environment, ..AuthConfig::default() };
        (
            Auth::new(
                stores.tickets,
                stores.sessions,
                stores.users,
                Arc::clone(&clock) as Arc<dyn Clock>,
                config,
            ),
            clock,
        )
    }

    fn by(way: Way) -> Presented {
        Presented { way, origin: None }
    }

    async fn entry(auth: &Auth) -> (Login, Entry) {
        let login = auth.development_login("ada").await.unwrap();
        let entry = auth
            .authenticate(&Credential::Token(login.token.clone()), &by(Way::Bearer))
            .await
            .unwrap();
        (login, entry)
    }

    #[tokio::test]
    async fn the_development_login_is_for_development() {
        for environment in [Environment::Staging, Environment::Production] {
            let error = auth(environment).0.development_login("ada").await.err().unwrap();
            assert_eq!(error.kind(), Kind::NotFound);
        }
        let (auth, _) = auth(Environment::Development);
        for name in ["", "  ", "a\u{0}b", &"x".repeat(65)] {
            assert_eq!(
                auth.development_login(name).await.err().unwrap().kind(),
                Kind::BadRequest,
                "{name:?}"
            );
        }
        let (first, again) = (entry(&auth).await.1, entry(&auth).await.1);
        assert_eq!(first.principal.user(), again.principal.user());
    }

    #[tokio::test]
    async fn a_ticket_lets_in_once_and_lives_as_long_as_what_bought_it() {
        let (auth, _) = auth(Environment::Development);
        let (login, entry) = entry(&auth).await;
        let ticket =
            Credential::Ticket(auth.issue_ticket(&entry, None, None).await.unwrap().ticket);
        let by_ticket = auth.authenticate(&ticket, &by(Way::Query)).await.unwrap();
        assert_eq!(
            (by_ticket.principal, by_ticket.expires_at),
            (entry.principal, login.expires_at)
        );
        let error = auth.authenticate(&ticket, &by(Way::Query)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated);
    }

    #[tokio::test]
    async fn a_ticket_that_fails_a_check_is_burnt() {
        let (auth, clock) = auth(Environment::Development);
        let (_, entry) = entry(&auth).await;
        let origin = Some("https://a.example");
        let refused = |credential: Credential, presented: Presented| {
            let auth = auth.clone();
            async move { auth.authenticate(&credential, &presented).await.unwrap_err().kind() }
        };

        let ticket =
            Credential::Ticket(auth.issue_ticket(&entry, None, origin).await.unwrap().ticket);
        assert_eq!(refused(ticket.clone(), by(Way::Query)).await, Kind::Unauthenticated);
        let right = Presented { way: Way::Query, origin: origin.map(str::to_owned) };
        assert_eq!(refused(ticket, right).await, Kind::Unauthenticated);

        let other = auth.issue_ticket(&entry, Some("files"), None).await.unwrap();
        assert_eq!(
            refused(Credential::Ticket(other.ticket), by(Way::Query)).await,
            Kind::Unauthenticated
        );

        let late = auth.issue_ticket(&entry, None, None).await.unwrap();
        clock.advance(Duration::from_secs(30));
        assert_eq!(
            refused(Credential::Ticket(late.ticket), by(Way::Query)).await,
            Kind::Unauthenticated
        );
    }

    #[tokio::test]
    async fn logging_out_ends_the_token_and_the_tickets_that_it_bought() {
        let (auth, _) = auth(Environment::Development);
        let (login, entry) = entry(&auth).await;
        let ticket = auth.issue_ticket(&entry, None, None).await.unwrap();
        auth.log_out(&entry.principal).await.unwrap();
        for credential in [Credential::Token(login.token), Credential::Ticket(ticket.ticket)] {
            let error = auth.authenticate(&credential, &by(Way::Hello)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unauthenticated, "{credential:?}");
        }
    }

    #[tokio::test]
    async fn a_login_that_has_run_out_says_so() {
        let (auth, clock) = auth(Environment::Development);
        let (login, _) = entry(&auth).await;
        clock.advance(AuthConfig::default().session_life);
        let error =
            auth.authenticate(&Credential::Token(login.token), &by(Way::Bearer)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::TokenExpired);
    }
}
