//! Who asks: bearer token or cookie, and with a cookie the proof that our own page asks.

use super::Call;
use apex_core::auth::{Door, Entry, Presented, Way};
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
        let (headers, query) = (&self.head.headers, self.head.uri.query());
        let caller = &self.guarded.caller;
        let offer = self.gateway.chain.read(headers, query, caller, Door::Request);
        if offer.is_ambient() {
            self.check_csrf()?;
        }
        let entry = self.gateway.verify_offer(offer).await?;
        // Only a connection may say later who it is.
        let entry = entry
            .ok_or_else(|| Error::internal(OPERATION, "a request without a user was let in"))?;
        self.guarded.user.get_or_init(|| entry.principal.user());
        Ok(entry)
    }

    /// Passes where the request changes nothing, or a page of the allow list asks for it.
    ///
    /// # Errors
    /// `csrf`.
    pub(super) fn check_csrf(&self) -> Result<()> {
        if matches!(self.head.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let asked = self.head.headers.get(CSRF_HEADER).is_some_and(|value| value == "1");
        if asked && self.guarded.caller.origin.is_some() {
            return Ok(());
        }
        let error = Error::new(
            Kind::Csrf,
            OPERATION,
            "a request with the session cookie needs `X-Apex-CSRF: 1` and an `Origin` of the allow list",
        );
        self.gateway.auth.note_refusal(&error, &self.presents(Way::Cookie));
        Err(error)
    }

    /// How a credential came with this request.
    pub(super) fn presents(&self, way: Way) -> Presented {
        self.guarded.caller.presents(way, Door::Request)
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
