//! Streams written as plain async code that hands its items over one by one.

use super::answer::{ModelEvent, ModelResponse};
use super::fault::{FaultReason, ModelFault};
use apex_core::error::Result;
use futures_util::stream::Stream;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The items that may wait for the reader before the writer waits.
const WAITING: usize = 16;

/// A streamed answer: its pieces, then [`ModelEvent::Done`] or an error, then nothing.
///
/// Dropping it ends the request and closes its connection. One that is read to its end leaves the connection open
/// for the next request.
#[derive(Debug)]
pub struct ModelStream(Written<ModelEvent>);

impl ModelStream {
    /// A stream from async code that sends its events; for providers of a host's own.
    pub fn new<F>(work: impl FnOnce(Writer<ModelEvent>) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self(Written::new(work))
    }

    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<ModelEvent>> {
        std::future::poll_fn(|cx| self.0.poll(cx)).await
    }

    /// The whole answer, once it is there.
    ///
    /// # Errors
    /// What broke it.
    pub async fn whole(mut self) -> Result<ModelResponse> {
        let mut answer = None;
        while let Some(event) = self.next().await {
            if let ModelEvent::Done(response) = event? {
                answer = Some(*response);
            }
        }
        answer.ok_or_else(|| {
            ModelFault::new("model", FaultReason::Broken).error("it ended without an end", None)
        })
    }
}

impl Stream for ModelStream {
    type Item = Result<ModelEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll(cx)
    }
}

/// Hands the items of a stream to its reader.
#[derive(Debug)]
pub struct Writer<T>(mpsc::Sender<T>);

impl<T> Writer<T> {
    /// Hands an item over; waits while too many are unread.
    pub async fn send(&self, item: T) {
        // The reader owns the code that writes: when it is gone, so is this.
        let _ = self.0.send(item).await;
    }
}

/// The reader's side: it carries the writing code along and runs it only while it is read.
pub(crate) struct Written<T> {
    items: mpsc::Receiver<T>,
    work: Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>>,
    end: Option<Result<()>>,
}

impl<T> Written<T> {
    pub(crate) fn new<F>(work: impl FnOnce(Writer<T>) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(WAITING);
        Self { items, work: Some(Box::pin(work(Writer(sender)))), end: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        if let Poll::Ready(Some(item)) = self.items.poll_recv(cx) {
            return Poll::Ready(Some(Ok(item)));
        }
        if let Some(work) = &mut self.work
            && let Poll::Ready(end) = work.as_mut().poll(cx)
        {
            self.work = None;
            self.end = Some(end);
        }
        match self.items.poll_recv(cx) {
            Poll::Ready(Some(item)) => Poll::Ready(Some(Ok(item))),
            Poll::Ready(None) => Poll::Ready(match self.end.take() {
                Some(Err(error)) => Some(Err(error)),
                Some(Ok(())) | None => None,
            }),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> fmt::Debug for Written<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("ended", &self.work.is_none()).finish_non_exhaustive()
    }
}
