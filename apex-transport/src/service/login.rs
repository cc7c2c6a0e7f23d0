//! Logins, tickets and sessions.

use super::Call;
use super::body::RequestBody;
use super::reply::{self, ResponseBody};
use crate::handshake::{REFRESH_COOKIE, SESSION_COOKIE, cookie};
use apex_core::auth::{Login, Revocation, Way};
use apex_core::clock::Timestamp;
use apex_core::config::{Environment, Secret};
use apex_core::error::{Error, Kind, Result};
use apex_core::id::{SessionId, UserId};
use http::header::{HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

const OPERATION: &str = "service.login";

/// The longest audience of a ticket.
const MAX_AUDIENCE: usize = 64;

/// The session cookie comes along when another site links here; the one that renews it never has to.
const SESSION_SITE: &str = "Lax";
const REFRESH_SITE: &str = "Strict";

#[derive(Deserialize)]
struct DevelopmentLogin {
    user: String,
}

#[derive(Default, Deserialize)]
struct RefreshRequest {
    refresh: Option<Secret<String>>,
}

/// A login as it is told to whoever holds its tokens; a page that holds them as cookies is told only when they end.
#[derive(Serialize)]
struct LoginBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh: Option<&'a str>,
    refresh_expires_at: Timestamp,
}

#[derive(Default, Deserialize)]
struct TicketRequest {
    audience: Option<String>,
}

#[derive(Serialize)]
struct TicketBody<'a> {
    ticket: &'a str,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct SessionBody {
    session: SessionId,
    method: String,
    created_at: Timestamp,
    renewed_at: Timestamp,
    expires_at: Timestamp,
    current: bool,
}

#[derive(Serialize)]
struct SessionsBody {
    items: Vec<SessionBody>,
}

/// `POST /auth/dev`: open in development only.
pub(super) async fn development(call: &Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let gateway = &call.gateway;
    // Elsewhere the route does not exist, whatever it is sent.
    if gateway.auth.environment() != Environment::Development {
        return Err(Error::not_found("auth.development_login", "route"));
    }
    let body: DevelopmentLogin = call.json(body).await?;
    let login = gateway.auth.development_login(&body.user, &call.presents(Way::Own)).await?;
    let mut response = reply::json(StatusCode::OK, &told(&login, true));
    set_cookies(&mut response, &login, gateway.now())?;
    Ok(response)
}

/// `POST /auth/refresh`: by the token in the body, or by its cookie; what comes back comes back the same way.
pub(super) async fn refresh(call: &Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let request: RefreshRequest = call.optional_json(body).await?.unwrap_or_default();
    let (token, way) = match (request.refresh, cookie(&call.head.headers, REFRESH_COOKIE)?) {
        (Some(token), _) => (token, Way::Bearer),
        (None, Some(token)) => {
            call.check_csrf()?;
            (token, Way::Cookie)
        }
        (None, None) => {
            return Err(Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "this needs the refresh token of a login, as `refresh` in the body or as its cookie",
            ));
        }
    };
    let presented = call.presents(way);
    // To the end, also when the client hangs up: a token that was taken in is used.
    let login = call
        .change(move |gateway| async move { gateway.auth.refresh(&token, &presented).await })
        .await?;
    let mut response = reply::json(StatusCode::OK, &told(&login, way != Way::Cookie));
    if way == Way::Cookie {
        set_cookies(&mut response, &login, call.gateway.now())?;
    }
    Ok(response)
}

/// `POST /auth/ticket`.
pub(super) async fn ticket(call: &Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let request: TicketRequest = call.optional_json(body).await?.unwrap_or_default();
    let audience = request.audience.as_deref();
    let plain = |text: &str| {
        (1..=MAX_AUDIENCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if audience.is_some_and(|audience| !plain(audience)) {
        return Err(Error::new(
            Kind::BadRequest,
            OPERATION,
            "`audience` must be 1 to 64 plain characters",
        ));
    }
    let presented = call.presents(entry.way);
    let issued = call.gateway.auth.issue_ticket(&entry, audience, &presented).await?;
    let body = TicketBody { ticket: issued.ticket.reveal(), expires_at: issued.expires_at };
    Ok(reply::json(StatusCode::CREATED, &body))
}

/// `POST /auth/logout`: ends the login and every connection that came by it.
pub(super) async fn log_out(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let presented = call.presents(entry.way);
    call.gateway.auth.log_out(&entry.principal, &presented).await?;
    call.close(entry.principal.user(), entry.principal.session());
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    clear_cookies(&mut response)?;
    Ok(response)
}

/// `GET /auth/sessions`.
pub(super) async fn sessions(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let current = entry.principal.session();
    let sessions = call.gateway.auth.sessions(&entry.principal).await?;
    let items = sessions
        .into_iter()
        .map(|session| SessionBody {
            session: session.session,
            method: session.method,
            created_at: session.created_at,
            renewed_at: session.renewed_at,
            expires_at: session.lapses_at,
            current: Some(session.session) == current,
        })
        .collect();
    Ok(reply::json(StatusCode::OK, &SessionsBody { items }))
}

/// `DELETE /auth/sessions/{id}`.
pub(super) async fn end_session(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let session = id.parse().map_err(|_| Error::not_found(OPERATION, "session"))?;
    let presented = call.presents(entry.way);
    call.gateway.auth.end_session(&entry.principal, session, &presented).await?;
    call.close(entry.principal.user(), Some(session));
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /auth/sessions`: all of the user's.
pub(super) async fn end_sessions(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let user = entry.principal.user();
    let revoked = call.gateway.auth.end_all_sessions(user).await?;
    call.gateway.close(&revoked);
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    clear_cookies(&mut response)?;
    Ok(response)
}

impl Call {
    /// Closes what came by a login that ended, on this node at once.
    fn close(&self, user: UserId, session: Option<SessionId>) {
        self.gateway.hub.revoke(&Revocation { at: self.gateway.now(), user, session });
    }
}

fn told(login: &Login, with_tokens: bool) -> LoginBody<'_> {
    LoginBody {
        token: with_tokens.then(|| login.token.reveal().as_str()),
        expires_at: login.expires_at,
        refresh: with_tokens.then(|| login.refresh.reveal().as_str()),
        refresh_expires_at: login.lapses_at,
    }
}

/// Sets both cookies of a login.
pub(super) fn set_cookies(
    response: &mut Response<ResponseBody>,
    login: &Login,
    now: Timestamp,
) -> Result<()> {
    let seconds = |until: Timestamp| until.since(now).as_secs();
    let token = login.token.reveal();
    set_cookie(response, SESSION_COOKIE, token, seconds(login.expires_at), SESSION_SITE)?;
    let refresh = login.refresh.reveal();
    set_cookie(response, REFRESH_COOKIE, refresh, seconds(login.lapses_at), REFRESH_SITE)
}

fn clear_cookies(response: &mut Response<ResponseBody>) -> Result<()> {
    set_cookie(response, SESSION_COOKIE, "", 0, SESSION_SITE)?;
    set_cookie(response, REFRESH_COOKIE, "", 0, REFRESH_SITE)
}

pub(super) fn set_cookie(
    response: &mut Response<ResponseBody>,
    name: &str,
    token: &str,
    seconds: u64,
    site: &str,
) -> Result<()> {
    let cookie =
        format!("{name}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite={site}");
    let mut cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| Error::internal(OPERATION, "a token that is no header value"))?;
    cookie.set_sensitive(true);
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(())
}
