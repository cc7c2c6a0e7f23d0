//! What operators' services do: only with a token between services, never as a user.

use super::Call;
use super::reply::{self, ResponseBody};
use crate::handshake::bearer;
use apex_core::auth::jwt::Jwks;
use apex_core::auth::{AuditEvent, AuditQuery, Standing, User, Way};
use apex_core::error::{Error, Kind, Result};
use apex_core::id::{AuditId, UserId};
use apex_core::principal::{Scope, Scopes};
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

const OPERATION: &str = "service.admin";

/// The events of a page, where nothing is said.
const PAGE: usize = 100;

#[derive(Deserialize)]
struct AuditPage {
    user: Option<UserId>,
    before: Option<AuditId>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct AuditBody {
    items: Vec<AuditEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AuditId>,
}

#[derive(Serialize)]
struct UserBody {
    user: UserId,
    scopes: Scopes,
    standing: Standing,
}

/// `GET /admin/audit?user&before&limit`: the record of the door, newest first.
pub(super) async fn audit(call: &Call) -> Result<Response<ResponseBody>> {
    call.operator()?;
    let page: AuditPage = call.query()?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, 1_000);
    let query = AuditQuery { user: page.user, before: page.before, limit };
    let items = call.gateway.auth.audit(query).await?;
    let next = items.get(limit - 1).map(|last| last.id);
    Ok(reply::json(StatusCode::OK, &AuditBody { items, next }))
}

/// `POST /admin/users/{user}/disable` and `/enable`.
pub(super) async fn bar(call: &Call, id: &str, disabled: bool) -> Result<Response<ResponseBody>> {
    call.operator()?;
    let user = user_of(id)?;
    let changed = call
        .change(move |gateway| async move {
            let changed = gateway.auth.disable_user(user, disabled).await?;
            gateway.close(&changed.revoked);
            Ok(changed.user)
        })
        .await?;
    let User { user, scopes, standing, .. } = changed;
    Ok(reply::json(StatusCode::OK, &UserBody { user, scopes, standing }))
}

/// `DELETE /admin/users/{user}`: erases an account.
pub(super) async fn erase(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    call.operator()?;
    let user = user_of(id)?;
    call.change(move |gateway| async move {
        let revoked = gateway.auth.erase_user(user).await?;
        gateway.close(&revoked);
        Ok(())
    })
    .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /admin/users/{user}/sessions`: ends all logins of a user's.
pub(super) async fn end_sessions(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    call.operator()?;
    let user = user_of(id)?;
    let revoked = call.gateway.auth.end_all_sessions(user).await?;
    call.gateway.close(&revoked);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /.well-known/jwks.json`: the public keys, for whoever verifies tokens that are made here.
pub(super) fn jwks(call: &Call) -> Result<Response<ResponseBody>> {
    let keys: Jwks =
        call.gateway.auth.jwks().ok_or_else(|| Error::not_found(OPERATION, "route"))?;
    let mut response = reply::json(StatusCode::OK, &keys);
    let kept = HeaderValue::from_static("public, max-age=300");
    response.headers_mut().insert(CACHE_CONTROL, kept);
    Ok(response)
}

impl Call {
    /// Passes for a service that may administer.
    fn operator(&self) -> Result<()> {
        let token = bearer(&self.head.headers)?;
        let entry = self.gateway.auth.service(token.as_ref(), &self.presents(Way::Bearer))?;
        entry.require(Scope::Admin, OPERATION)
    }
}

fn user_of(id: &str) -> Result<UserId> {
    id.parse().map_err(|_| Error::new(Kind::NotFound, OPERATION, "no such user"))
}
