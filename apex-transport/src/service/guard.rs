use super::reply::{self, ResponseBody};
use crate::gateway::Gateway;
use crate::handshake::{Caller, PeerAddress, client_address};
use apex_core::auth::{Door, Way};
use apex_core::error::Result;
use apex_core::id::{CorrelationId, UserId};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};
use std::sync::{Arc, OnceLock};

/// Names a request in answers and logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every answer to one request carries: its id, and what a page of the allow list needs to read it.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    pub(super) correlation: CorrelationId,
    /// Where the request comes from; its page is on the allow list.
    pub(super) caller: Caller,
    /// The user who asks, once that is known.
    pub(super) user: Arc<OnceLock<UserId>>,
}

impl Guarded {
    /// Lets a request pass whose origin is allowed.
    ///
    /// # Errors
    /// `origin_denied`.
    pub(super) fn admit(
        gateway: &Gateway,
        correlation: CorrelationId,
        headers: &HeaderMap,
        peer: Option<PeerAddress>,
    ) -> Result<Self> {
        let peer = peer.map(|peer| peer.0);
        let address = client_address(headers, peer, gateway.config.trusted_proxies);
        let nobody = Caller { origin: None, address, correlation: Some(correlation) };
        let origin = gateway.origins.check(headers).inspect_err(|error| {
            gateway.auth.note_refusal(error, &nobody.presents(Way::Own, Door::Request));
        })?;
        Ok(Self { correlation, caller: Caller { origin, ..nobody }, user: Arc::default() })
    }

    /// The answer to a page that asks whether it may send a request.
    pub(super) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Response<ResponseBody>> {
        if method != Method::OPTIONS
            || self.caller.origin.is_none()
            || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        let mut response = reply::empty(StatusCode::NO_CONTENT);
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, last-event-id, x-apex-csrf, x-file-name",
            ),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Some(self.dress(response))
    }

    /// Adds to an answer what every answer carries.
    pub(super) fn dress(&self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&self.correlation.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = &self.caller.origin
            && let Ok(origin) = HeaderValue::from_str(origin)
        {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("retry-after, x-request-id, content-disposition"),
            );
        }
        response
    }
}
