//! All that is kept of the user, to take along.

use super::Call;
use super::reply::ResponseBody;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::HolderId;
use apex_core::limit::{Grant, LimitKey, Place};
use apex_core::principal::Scope;
use apex_core::store::export::export_user;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an export may take, and the lines that wait for who takes them.
const WITHIN: Duration = Duration::from_secs(60 * 60);
const LINES: usize = 16;

/// `GET /export`: one JSON object a line, as [`apex_core::store::export`] says, while it is read; one at a time for
/// each user, over all nodes.
pub(super) async fn all(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let (stores, now) = (call.gateway.stores.clone(), call.gateway.now());
    let place = Place {
        key: LimitKey::new("exports", principal.user())?,
        holder: HolderId::new(&*call.gateway.clock),
        most: 1,
    };
    if let Grant::Refused { retry_after } = stores.limits.hold(&place, WITHIN).await? {
        let told = "an export of yours is under way; let it end first";
        return Err(
            Error::new(Kind::RateLimited, "service.export", told).with_retry_after(retry_after)
        );
    }
    let (sender, lines) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let export = export_user(&stores, &principal, now, &sender);
        match tokio::time::timeout(WITHIN, export).await {
            Ok(Err(error)) if error.kind() != Kind::Cancelled => {
                tracing::warn!(%error, "an export broke off");
            }
            _ => {}
        }
        if let Err(error) = stores.limits.release(&place).await {
            tracing::warn!(%error, "the place of an export lapses by itself");
        }
    });
    let mut response = Response::new(ResponseBody::from(lines));
    let fixed: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"apex-export.jsonl\""),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
