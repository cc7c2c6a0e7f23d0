//! `POST /ag-ui`: the AG-UI protocol over the same runs.

use super::Call;
use super::body::RequestBody;
use super::reply::ResponseBody;
use super::stream::{LAST_EVENT_ID, answer};
use crate::ag_ui::{Asked, Decided, RunAgentInput, Script, Seen};
use crate::driver::Driver;
use crate::sse;
use apex_core::error::{Error, Kind, Result};
use apex_core::id::{Epoch, RunId, ThreadId};
use apex_core::principal::{Principal, Scope};
use apex_core::run::{Message, Position};
use apex_core::trace::coming_from;
use http::Response;
use std::sync::Arc;

const OPERATION: &str = "service.ag_ui";

/// The answers of earlier runs that are looked at for the conversation that goes on.
const LOOK_BACK: usize = 8;

/// Starts a run, or decides what one waits for, and answers with AG-UI's events.
pub(super) async fn run(call: &Call, body: RequestBody) -> Result<Response<ResponseBody>> {
    let entry = call.entry().await?;
    let principal = &entry.principal;
    principal.require(Scope::Run, OPERATION)?;
    principal.require(Scope::Read, OPERATION)?;
    let seen = call.seen()?;
    let input: RunAgentInput = call.json(body).await?;
    let gateway = &call.gateway;
    // A front end that cannot be answered starts nothing.
    let seat = gateway.hub.admit(gateway.connection_id(), false)?;
    seat.seat(principal).await?;
    let (run, answered, epoch) = match input.asked()? {
        Asked::Message { text, attachments } => {
            let thread = call.conversation(principal, &input).await?;
            let message = Message { request_id: input.request(), thread, text, attachments };
            let (who, place) = (principal.clone(), call.trace_parent());
            let accepted = call
                .change(|gateway| async move {
                    coming_from(place, gateway.runner.start(&who, message)).await
                })
                .await?;
            (accepted.run, 0, None)
        }
        // Who comes back has decided before.
        Asked::Decisions(decisions) => call.decide(principal, decisions, seen.is_none()).await?,
    };
    let position = Position { epoch: seen.map(|seen| seen.epoch).or(epoch), after: 0 };
    let clock = Arc::clone(&gateway.clock);
    let script = Script::new(input.thread_id, input.run_id, answered, seen, clock);
    let caller = call.guarded.caller.clone();
    let driver = Driver::new(Arc::clone(gateway), seat, caller, Some(entry));
    Ok(answer(sse::follow(driver, run, position, script)))
}

impl Call {
    fn seen(&self) -> Result<Option<Seen>> {
        let Some(id) = self.head.headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else {
            return Ok(None);
        };
        id.to_str().ok().and_then(|id| id.parse().ok()).map(Some).ok_or_else(|| {
            let message = "`Last-Event-ID` must be the `id` of an event of this route";
            Error::new(Kind::BadRequest, OPERATION, message)
        })
    }

    /// The conversation that goes on: the one that is named, or else the one of an answer that is quoted.
    async fn conversation(
        &self,
        principal: &Principal,
        input: &RunAgentInput,
    ) -> Result<Option<ThreadId>> {
        let stores = &self.gateway.stores;
        // One that others share is only read.
        let own = async |thread| {
            let found = known(stores.threads.thread(principal, thread).await)?;
            Ok::<_, Error>(found.is_some_and(|found| found.owner == principal.user()))
        };
        if let Ok(named) = input.thread_id.parse()
            && own(named).await?
        {
            return Ok(Some(named));
        }
        for run in input.earlier_runs().take(LOOK_BACK) {
            if let Some(view) = known(stores.runs.view(principal, run).await)?
                && own(view.thread).await?
            {
                return Ok(Some(view.thread));
            }
        }
        Ok(None)
    }

    /// Records decisions; the run that they are about, and where it waited for the last of them.
    async fn decide(
        &self,
        principal: &Principal,
        decisions: Vec<Decided>,
        record: bool,
    ) -> Result<(RunId, u64, Option<Epoch>)> {
        let mut place = None;
        for Decided { interrupt, decision } in decisions {
            let who = principal.clone();
            let seq = place.map_or(interrupt.seq, |(_, seq, _)| interrupt.seq.max(seq));
            place = Some((interrupt.run, seq, Some(interrupt.epoch)));
            if !record {
                continue;
            }
            self.change(|gateway| async move {
                let runner = &gateway.runner;
                runner
                    .decide(&who, interrupt.run, interrupt.approval, &interrupt.digest, decision)
                    .await
            })
            .await?;
        }
        place.ok_or_else(|| Error::internal(OPERATION, "a resume without decisions"))
    }
}

/// `None` for what is not this user's.
fn known<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
