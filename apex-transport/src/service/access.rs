//! Who asks: bearer token or cookie, and with a cookie the proof that our own page asks.

use super::Call;
use crate::handshake::plain_credential;
use apex_core::auth::{Entry, Presented, Way};
use apex_core::error::{Error, Kind, Result};
use apex_core::principal::{Principal, Scope};
use http::Method;

const OPERATION: &str = "service.access";

/// The header that a page of another site cannot send without asking first.
const CSRF_HEADER: &str = "x-apex-csrf";

impl Call {
    /// The user who asks.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`; `csrf` for a cookie without the header or without an allowed origin.
    pub(super) async fn entry(&self) -> Result<Entry> {
        let headers = &self.head.headers;
        let Some((way, credential)) = plain_credential(headers)? else {
            return Err(Error::new(
                Kind::Unauthenticated,
                OPERATION,
                "this needs a bearer token or the session cookie",
            ));
        };
        if way == Way::Cookie && !matches!(self.head.method, Method::GET | Method::HEAD) {
            let asked = headers.get(CSRF_HEADER).is_some_and(|value| value == "1");
            if !asked || self.guarded.origin.is_none() {
                return Err(Error::new(
                    Kind::Csrf,
                    OPERATION,
                    "a request with the session cookie needs `X-Apex-CSRF: 1` and an `Origin` of the allow list",
                ));
            }
        }
        let presented = Presented { way, origin: self.guarded.origin.clone() };
        let entry = self.gateway.verify(&credential, &presented).await?;
        self.guarded.user.get_or_init(|| entry.principal.user());
        Ok(entry)
    }

    /// The user who asks, with the right that this needs.
    ///
    /// # Errors
    /// As [`Call::entry`]; `forbidden`.
    pub(super) async fn principal(&self, scope: Scope) -> Result<Principal> {
        let entry = self.entry().await?;
        entry.principal.require(scope, OPERATION)?;
        Ok(entry.principal)
    }
}
