//! The id that ties logs, spans, events and the client's error together.
//!
//! Whoever takes a request in runs its work [`within`] an id; every [`Error`] that is made there
//! carries it, and so does the span. Work that is spawned takes it along explicitly.

use super::Error;
use crate::id::{CorrelationId, RequestId};
use crate::trace::TraceParent;
use std::future::Future;
use tracing::Instrument;

tokio::task_local! {
    static CURRENT: CorrelationId;
}

/// The id of the work that this task does now.
#[must_use]
pub fn current() -> Option<CorrelationId> {
    CURRENT.try_with(|id| *id).ok()
}

/// The id of everything that one message of a user's sets off, on every node and in every attempt: that of the
/// message itself, which its client knows and every log keeps.
#[must_use]
pub fn of_message(request: RequestId) -> CorrelationId {
    CorrelationId::from_bytes(*request.as_bytes())
}

/// Ties an error to the work that this task does now; one that was made elsewhere for it, such as on a store's own
/// thread, does not know. An id that it has stays.
#[must_use]
pub fn tie(error: Error) -> Error {
    match current() {
        Some(id) => error.with_correlation(id),
        None => error,
    }
}

/// Runs `work` under an id and a span that carries it.
pub fn within<F: Future>(id: CorrelationId, work: F) -> impl Future<Output = F::Output> {
    // Not an `async fn`, here and below: that would keep the work twice.
    let span = tracing::info_span!("request", correlation = %id);
    CURRENT.scope(id, work.instrument(span))
}

/// The same for work that does not wait, such as on a thread for blocking calls.
pub fn within_blocking<T>(id: CorrelationId, work: impl FnOnce() -> T) -> T {
    let span = tracing::info_span!("request", correlation = %id);
    CURRENT.sync_scope(id, || span.in_scope(work))
}

/// Runs `work` under an id within the span of its caller, which carries it already.
pub fn carrying<F: Future>(id: CorrelationId, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, work)
}

/// The trace id of a W3C `traceparent` header as an id, so that a caller's trace leads into ours.
#[must_use]
pub fn from_traceparent(header: &str) -> Option<CorrelationId> {
    let place: TraceParent = header.parse().ok()?;
    Some(CorrelationId::from_bytes(place.trace()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::error::Kind;

    #[tokio::test]
    async fn an_error_carries_the_id_of_the_work_it_was_made_in() {
        let id = CorrelationId::new(&SystemClock);
        let error = within(id, async {
            tokio::task::yield_now().await;
            Error::new(Kind::Unavailable, "test", "down")
        })
        .await;
        assert_eq!(error.report().correlation, Some(id));
        assert_eq!(within_blocking(id, current), Some(id));
        assert_eq!(Error::new(Kind::Unavailable, "test", "down").correlation(), None);
    }

    #[test]
    fn the_id_of_a_trace_is_an_id() {
        let id = from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(id.unwrap().to_string(), "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
        assert!(from_traceparent("00-4bf92f35").is_none());
    }
}
