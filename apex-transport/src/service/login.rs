//! Logins, tickets and sessions.

use super::Call;
use super::body::RequestBody;
use super::reply::{self, ResponseBody};
use crate::handshake::SESSION_COOKIE;
use apex_core::clock::Timestamp;
use apex_core::config::Environment;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::SessionId;
use http::header::{HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

const OPERATION: &str = "service.login";

/// The longest audience of a ticket.
const MAX_AUDIENCE: usize = 64;

#[derive(Deserialize)]
struct DevelopmentLogin {
    user: String,
}

#[derive(Serialize)]
struct TokenBody<'a> {
    token: &'a str,
    expires_at: Timestamp,
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
    created_at: Timestamp,
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
    let login = gateway.auth.development_login(&body.user).await?;
    let token = login.token.reveal();
    let expires_at = login.expires_at;
    let mut response = reply::json(StatusCode::OK, &TokenBody { token, expires_at });
    let seconds = expires_at.since(gateway.now()).as_secs();
    set_cookie(&mut response, token, seconds)?;
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
    let origin = call.guarded.origin.as_deref();
    let issued = call.gateway.auth.issue_ticket(&entry, audience, origin).await?;
    let body = TicketBody { ticket: issued.ticket.reveal(), expires_at: issued.expires_at };
    Ok(reply::json(StatusCode::CREATED, &body))
}

/// `POST /auth/logout`: ends the login and every connection that came by it.
pub(super) async fn log_out(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    call.gateway.auth.log_out(&entry.principal).await?;
    if let Some(session) = entry.principal.session() {
        call.gateway.hub.revoke(session);
    }
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    set_cookie(&mut response, "", 0)?;
    Ok(response)
}

/// `GET /auth/sessions`.
pub(super) async fn sessions(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let current = entry.principal.session();
    let sessions = call.gateway.stores.sessions.list(&entry.principal).await?;
    let items = sessions
        .into_iter()
        .map(|session| SessionBody {
            session: session.session,
            created_at: session.created_at,
            expires_at: session.expires_at,
            current: Some(session.session) == current,
        })
        .collect();
    Ok(reply::json(StatusCode::OK, &SessionsBody { items }))
}

/// `DELETE /auth/sessions/{id}`.
pub(super) async fn end_session(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let session = id.parse().map_err(|_| Error::not_found(OPERATION, "session"))?;
    let sessions = &call.gateway.stores.sessions;
    sessions.end(&entry.principal, session, call.gateway.now()).await?;
    call.gateway.hub.revoke(session);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /auth/sessions`: all of the user's.
pub(super) async fn end_sessions(call: &Call) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let sessions = &call.gateway.stores.sessions;
    for record in sessions.list(&entry.principal).await? {
        match sessions.end(&entry.principal, record.session, call.gateway.now()).await {
            // Someone else may be ending them too.
            Err(error) if error.kind() == Kind::NotFound => {}
            ended => ended?,
        }
        call.gateway.hub.revoke(record.session);
    }
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    set_cookie(&mut response, "", 0)?;
    Ok(response)
}

fn set_cookie(response: &mut Response<ResponseBody>, token: &str, seconds: u64) -> Result<()> {
    let cookie = format!(
        "{SESSION_COOKIE}={token}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    );
    let mut cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| Error::internal(OPERATION, "a token that is no header value"))?;
    cookie.set_sensitive(true);
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(())
}
