//! With whom a conversation is shared.

use super::Call;
use super::body::RequestBody;
use super::conversation::id_of;
use super::reply::{self, ResponseBody};
use apex_core::error::Result;
use apex_core::id::{ThreadId, UserId};
use apex_core::principal::Scope;
use apex_core::thread::Share;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct SharesBody {
    items: Vec<Share>,
}

#[derive(Deserialize)]
struct NewShare {
    user: UserId,
}

/// `GET /threads/{thread}/shares`: with whom the owner shares it.
pub(super) async fn list(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let thread: ThreadId = id_of(id, "thread")?;
    let items = call.gateway.stores.threads.shares(&principal, thread).await?;
    Ok(reply::json(StatusCode::OK, &SharesBody { items }))
}

/// `POST /threads/{thread}/shares`: another user may read it and follow its runs.
pub(super) async fn add(
    call: &Call,
    body: RequestBody,
    id: &str,
) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let thread: ThreadId = id_of(id, "thread")?;
    let NewShare { user } = call.json(body).await?;
    let with = Share { user, at: call.gateway.now() };
    call.change(move |gateway| async move {
        gateway.stores.threads.share(&principal, thread, with).await
    })
    .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /threads/{thread}/shares/{user}`: by the owner, or by that user.
pub(super) async fn end(call: &Call, id: &str, user: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let thread: ThreadId = id_of(id, "thread")?;
    let user: UserId = id_of(user, "share")?;
    call.change(move |gateway| async move {
        gateway.stores.threads.unshare(&principal, thread, user).await
    })
    .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
