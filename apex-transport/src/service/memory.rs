//! What agents remember of the user.

use super::Call;
use super::reply::{self, ResponseBody};
use apex_core::error::Result;
use apex_core::memory::Note;
use apex_core::principal::Scope;
use http::{Response, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
struct MemoryBody {
    items: Vec<Note>,
}

/// `GET /memory`: every note, by name.
pub(super) async fn list(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let items = call.gateway.stores.memory.notes(&principal).await?;
    Ok(reply::json(StatusCode::OK, &MemoryBody { items }))
}

/// `DELETE /memory/{name}`.
pub(super) async fn forget(call: &Call, name: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let name = name.to_owned();
    call.change(
        move |gateway| async move { gateway.stores.memory.forget(&principal, &name).await },
    )
    .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /memory`: all of them.
pub(super) async fn forget_all(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    call.change(move |gateway| async move { gateway.stores.memory.forget_all(&principal).await })
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
