//! One followed stream as a connection asks it: what the log or the inbox brings, and again where its store was away for
//! a moment.

use crate::connection::Brought;
use apex_core::error::{Error, Result};
use apex_core::run::{Delivery, InboxDelivery, InboxSubscription, Subscription};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How often a stream is read again while its store is away.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A followed stream.
pub(crate) struct Reader {
    source: Source,
    /// How often it was read in vain.
    failed: u32,
    pause: Option<Pin<Box<Sleep>>>,
    over: bool,
}

enum Source {
    Run(Box<Subscription>),
    Inbox(BoxStream<'static, Result<InboxDelivery>>),
}

impl From<Subscription> for Reader {
    fn from(subscription: Subscription) -> Self {
        Self::new(Source::Run(Box::new(subscription)))
    }
}

impl From<InboxSubscription> for Reader {
    fn from(inbox: InboxSubscription) -> Self {
        let deliveries = unfold(inbox, |mut inbox| async { Some((inbox.next().await, inbox)) });
        Self::new(Source::Inbox(Box::pin(deliveries)))
    }
}

impl Reader {
    fn new(source: Source) -> Self {
        Self { source, failed: 0, pause: None, over: false }
    }

    /// What it brings next; `None` when it is over.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Brought>> {
        if self.over {
            return Poll::Ready(None);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.source.poll_next(cx)) {
                Ok(brought) => {
                    self.failed = 0;
                    self.over = matches!(brought, Brought::Run(Delivery::End(_)));
                    return Poll::Ready(Some(brought));
                }
                Err(error) if error.is_retryable() && self.failed + 1 < TRIES => {
                    tracing::debug!(%error, "a stream is read again");
                    self.pause = Some(Box::pin(sleep(FIRST_PAUSE * 2_u32.pow(self.failed))));
                    self.failed += 1;
                }
                Err(error) => {
                    self.over = true;
                    return Poll::Ready(Some(Brought::Broken(error)));
                }
            }
        }
    }

    /// Whether it need not be asked again before it wakes the task that asked last.
    pub(crate) fn is_caught_up(&self) -> bool {
        match &self.source {
            Source::Run(subscription) => subscription.is_caught_up(),
            Source::Inbox(_) => false,
        }
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Brought>> {
        match self {
            Self::Run(subscription) => subscription.poll_next(cx).map_ok(Brought::Run),
            Self::Inbox(inbox) => {
                let next = ready!(inbox.poll_next_unpin(cx));
                let over = || Err(Error::internal("reader.next", "an inbox ended"));
                Poll::Ready(next.unwrap_or_else(over).map(Brought::Inbox))
            }
        }
    }
}
