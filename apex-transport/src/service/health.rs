//! Whether this node is there, and whether it can serve.

use super::Call;
use super::reply::{self, ResponseBody};
use apex_core::error::{Group, Result, Told};
use apex_core::health::HealthDocument;
use apex_core::principal::Scope;
use http::{Response, StatusCode};
use serde::Serialize;

/// `GET /health/live`: the process answers.
pub(super) fn live(call: &Call) -> Response<ResponseBody> {
    let document = call.gateway.observer.health().live();
    answer(&document, &document)
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
    if !operator {
        return Ok(answer(&document.public(), &document.public()));
    }
    let errors = call.gateway.observer.errors();
    let detailed =
        Detailed { document: &document, failures: errors.groups(), alerts: errors.told() };
    Ok(answer(&document, &detailed))
}

/// What operators see besides: the failures, those that are alike together, and what the host was told.
#[derive(Serialize)]
struct Detailed<'a> {
    #[serde(flatten)]
    document: &'a HealthDocument,
    failures: Vec<Group>,
    alerts: Vec<Told>,
}

fn answer(document: &HealthDocument, body: &impl Serialize) -> Response<ResponseBody> {
    let status =
        StatusCode::from_u16(document.status.http()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    reply::typed(status, HealthDocument::MEDIA_TYPE, body)
}
