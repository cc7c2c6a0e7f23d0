//! `GET /runs/{run}/events`: a run's events as they happen.

use super::Call;
use super::conversation::id_of;
use super::reply::{self, ResponseBody};
use crate::driver::Driver;
use crate::protocol::Since;
use crate::sse::{self, Plain};
use apex_core::error::{Error, Kind, Result};
use apex_core::id::RunId;
use apex_core::principal::Scope;
use apex_core::run::Position;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use std::sync::Arc;
use tokio::sync::mpsc;

const OPERATION: &str = "service.events";

/// With what a client comes back: the last `id` that it saw.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Answers with what follows the client's position, live. A client that has seen the end gets 204, at which browsers
/// stop coming back.
pub(super) async fn events(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    entry.principal.require(Scope::Read, OPERATION)?;
    let run: RunId = id_of(id, "run")?;
    let position = call.position()?;
    let gateway = &call.gateway;
    let view = gateway.stores.runs.view(&entry.principal, run).await?;
    let seen = position.epoch == Some(view.epoch) && position.after == view.head;
    if seen && view.state.is_terminal() {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    let seat = gateway.hub.admit(gateway.connection_id(), false)?;
    seat.seat(&entry.principal).await?;
    let script = Plain::new(seat.id(), position);
    let caller = call.guarded.caller.clone();
    let driver = Driver::new(Arc::clone(gateway), seat, caller, Some(entry));
    Ok(answer(sse::follow(driver, run, position, script)))
}

/// The answer that a body of events makes.
pub(super) fn answer(body: mpsc::Receiver<Bytes>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body));
    let fixed: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store, no-transform"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Nginx and those who read the same header would otherwise hold events back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Call {
    /// Where the client is: by `Last-Event-ID`, which a browser sends when it comes back, else by the query.
    fn position(&self) -> Result<Position> {
        let wrong = |message: &str| Error::new(Kind::BadRequest, OPERATION, message);
        let header = self.head.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
        let since = match header {
            Some(id) => id.to_str().ok().and_then(Since::from_event_id).ok_or_else(|| {
                wrong("`Last-Event-ID` must be the `id` of an event of this route: EPOCH:SEQ")
            })?,
            None => self.query()?,
        };
        since.position().ok_or_else(|| wrong("`after` needs the `epoch` in which it was counted"))
    }
}
