//! Login at a provider: the way out, and the way back.

use super::Call;
use super::login::{set_cookie, set_cookies};
use super::reply::{self, ResponseBody};
use crate::handshake::{OIDC_COOKIE, cookie};
use apex_core::auth::Way;
use apex_core::auth::oidc::OidcAnswer;
use apex_core::error::{Error, Kind, Result};
use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use serde::Deserialize;

const OPERATION: &str = "service.oidc";

/// The provider's redirect has to bring it along.
const SITE: &str = "Lax";

#[derive(Deserialize)]
struct Begin {
    #[serde(default = "root")]
    return_to: String,
    #[serde(default)]
    link: bool,
}

fn root() -> String {
    "/".to_owned()
}

/// `GET /auth/oidc/{provider}/login?return_to&link`: sends the browser to the provider. With `link=true` the login is
/// added to the account of the user who is in.
pub(super) async fn begin(call: &Call, name: &str) -> Result<Response<ResponseBody>> {
    let Begin { return_to, link } = call.query()?;
    let user = if link { Some(call.entry().await?.principal.user()) } else { None };
    let begun = call.gateway.auth.oidc_begin(name, &return_to, user).await?;
    let mut response = redirect(&begun.location)?;
    let seconds = begun.within.as_secs();
    set_cookie(&mut response, OIDC_COOKIE, begun.kept.reveal(), seconds, SITE)?;
    Ok(response)
}

/// `GET /auth/oidc/{provider}/callback`: where the provider sends the browser back to.
pub(super) async fn finish(call: &Call, name: &str) -> Result<Response<ResponseBody>> {
    let answer: OidcAnswer = call.query()?;
    let kept = cookie(&call.head.headers, OIDC_COOKIE)?;
    // Who is in matters only where an account is linked; a login that has run out does not keep anyone from a new one.
    let current = call.entry().await.ok().map(|entry| entry.principal.user());
    let presented = call.presents(Way::Own);
    let auth = &call.gateway.auth;
    let finished = auth.oidc_finish(name, kept.as_ref(), &answer, current, &presented).await?;
    let mut response = redirect(&finished.return_to)?;
    set_cookie(&mut response, OIDC_COOKIE, "", 0, SITE)?;
    if let Some(login) = &finished.login {
        set_cookies(&mut response, login, call.gateway.now())?;
    }
    Ok(response)
}

fn redirect(location: &str) -> Result<Response<ResponseBody>> {
    let mut response = reply::empty(StatusCode::SEE_OTHER);
    let location = HeaderValue::from_str(location).map_err(|_| {
        Error::new(Kind::Unavailable, OPERATION, "the login provider's address is no address")
    })?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}
