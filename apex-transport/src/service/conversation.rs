//! Messages, conversations, runs and the inbox.

use super::Call;
use super::body::RequestBody;
use super::reply::{self, ResponseBody};
use crate::protocol::{NewMessage, Since};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::Decision;
use apex_core::id::{Epoch, RunId, ThreadId};
use apex_core::principal::Scope;
use apex_core::run::InboxEntry;
use apex_core::thread::{Paged, Thread, ThreadMessage, Whose};
use apex_core::trace::{TraceParent, coming_from};
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

const OPERATION: &str = "service.conversation";

/// How many items a page has when nothing is asked, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 200;

/// Which piece of a list.
#[derive(Deserialize)]
struct PageQuery {
    cursor: Option<String>,
    limit: Option<usize>,
    /// Of a list of conversations: those that others share.
    #[serde(default)]
    shared: bool,
}

impl PageQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
    }
}

#[derive(Serialize)]
struct ThreadBody {
    #[serde(flatten)]
    thread: Thread,
    messages: Paged<ThreadMessage>,
}

#[derive(Serialize)]
struct InboxBody {
    epoch: Epoch,
    head: u64,
    oldest: u64,
    entries: Vec<InboxEntry>,
}

#[derive(Serialize)]
struct Recorded {
    run: RunId,
}

#[derive(Deserialize)]
struct DecisionBody {
    digest: String,
    decision: Decision,
}

/// `POST /messages` and `POST /threads/{thread}/messages`.
pub(super) async fn message(
    call: &Call,
    body: RequestBody,
    thread: Option<&str>,
) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let thread: Option<ThreadId> = thread.map(|id| id_of(id, "thread")).transpose()?;
    let mut message: NewMessage = call.json(body).await?;
    if let Some(thread) = thread
        && message.thread.replace(thread).is_some_and(|t| t != thread)
    {
        return Err(Error::new(
            Kind::BadRequest,
            OPERATION,
            "`thread` in the body is another one than in the path",
        ));
    }
    let message = message.into_message();
    let place = call.trace_parent();
    let accepted = call
        .change(|gateway| async move {
            coming_from(place, gateway.runner.start(&principal, message)).await
        })
        .await?;
    Ok(reply::json(StatusCode::ACCEPTED, &accepted))
}

/// `GET /threads`, and `GET /threads?shared=true` for those that others share.
pub(super) async fn threads(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let page: PageQuery = call.query()?;
    let whose = if page.shared { Whose::Shared } else { Whose::Own };
    let threads = &call.gateway.stores.threads;
    let found = threads.threads(&principal, whose, page.cursor.as_deref(), page.limit()).await?;
    Ok(reply::json(StatusCode::OK, &found))
}

/// `GET /threads/{thread}`: the conversation with a page of its messages.
pub(super) async fn thread(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let id = id_of(id, "thread")?;
    let page: PageQuery = call.query()?;
    let threads = &call.gateway.stores.threads;
    let thread = threads.thread(&principal, id).await?;
    let messages = threads.messages(&principal, id, page.cursor.as_deref(), page.limit()).await?;
    Ok(reply::json(StatusCode::OK, &ThreadBody { thread, messages }))
}

/// `DELETE /threads/{thread}`: the conversation, its runs and what they made.
pub(super) async fn delete(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let id = id_of(id, "thread")?;
    call.change(|gateway| async move { gateway.stores.forget(&principal, id).await }).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /inbox`.
pub(super) async fn inbox(call: &Call) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let since: Since = call.query()?;
    let position = since.position().ok_or_else(|| {
        Error::new(Kind::BadRequest, OPERATION, "`after` needs the `epoch` in which it was counted")
    })?;
    let log = &call.gateway.stores.runs;
    let mut page = log.inbox(&principal, position.after, MAX_PAGE).await?;
    if position.epoch.is_some_and(|epoch| epoch != page.epoch) {
        // Another life of the inbox: a number of the old one means nothing in it.
        page = log.inbox(&principal, 0, MAX_PAGE).await?;
    }
    let body = InboxBody {
        epoch: page.epoch,
        head: page.head,
        oldest: page.oldest,
        entries: page.entries,
    };
    Ok(reply::json(StatusCode::OK, &body))
}

/// `GET /runs/{run}`.
pub(super) async fn run(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Read).await?;
    let run = id_of(id, "run")?;
    let view = call.gateway.stores.runs.view(&principal, run).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

/// `POST /runs/{run}/cancel`.
pub(super) async fn cancel(call: &Call, id: &str) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Cancel).await?;
    let run = id_of(id, "run")?;
    call.change(|gateway| async move { gateway.runner.cancel(&principal, run).await }).await?;
    Ok(reply::json(StatusCode::ACCEPTED, &Recorded { run }))
}

/// `POST /runs/{run}/approvals/{approval}`.
pub(super) async fn decide(
    call: &Call,
    body: RequestBody,
    id: &str,
    approval: &str,
) -> Result<Response<ResponseBody>> {
    let principal = call.principal(Scope::Run).await?;
    let run = id_of(id, "run")?;
    let approval = id_of(approval, "approval")?;
    let body: DecisionBody = call.json(body).await?;
    call.change(|gateway| async move {
        let DecisionBody { digest, decision } = body;
        let runner = &gateway.runner;
        runner.decide(&principal, run, approval, &digest, decision).await
    })
    .await?;
    Ok(reply::json(StatusCode::OK, &Recorded { run }))
}

/// An id of the path; what is no id names nothing.
pub(super) fn id_of<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| Error::not_found(OPERATION, what))
}

impl Call {
    /// The place in a trace from which the request comes.
    pub(super) fn trace_parent(&self) -> Option<TraceParent> {
        self.head.headers.get("traceparent")?.to_str().ok()?.parse().ok()
    }

    /// The query as fields.
    ///
    /// # Errors
    /// `bad_request`.
    pub(super) fn query<T: DeserializeOwned>(&self) -> Result<T> {
        let query = self.head.uri.query().unwrap_or_default();
        serde_urlencoded::from_str(query).map_err(|error| {
            let message = format!("the query is not what this route takes: {error}");
            Error::new(Kind::BadRequest, OPERATION, message)
        })
    }
}
