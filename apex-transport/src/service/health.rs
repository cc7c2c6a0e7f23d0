//! Whether this node is there, and whether it can serve.

use super::Call;
use super::reply::{self, ResponseBody};
use apex_core::error::Result;
use apex_core::health::HealthDocument;
use apex_core::principal::Scope;
use http::{Response, StatusCode};

/// `GET /health/live`: the process answers.
pub(super) fn live(call: &Call) -> Response<ResponseBody> {
    answer(&call.gateway.observer.health().live())
}

/// `GET /health/ready`: this node can serve. The details are told to operators only.
pub(super) async fn ready(call: &Call) -> Result<Response<ResponseBody>> {
    let health = call.gateway.observer.health();
    if call.gateway.hub.statistics().draining {
        health.drain();
    }
    let document = health.ready().await;
    let operator =
        call.entry().await.is_ok_and(|entry| entry.principal.scopes().contains(Scope::Admin));
    let document = if operator { document } else { document.public() };
    Ok(answer(&document))
}

fn answer(document: &HealthDocument) -> Response<ResponseBody> {
    let status =
        StatusCode::from_u16(document.status.http()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    reply::typed(status, HealthDocument::MEDIA_TYPE, document)
}
