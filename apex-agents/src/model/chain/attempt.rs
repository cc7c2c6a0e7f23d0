use super::link::Link;
use super::run::{Placed, Way, reason};
use super::{ChainAnswer, ChainEvent};
use crate::model::answer::{ModelEvent, ModelResponse};
use crate::model::fault::{FaultReason, ModelFault};
use crate::model::metering::{Metered, UNKNOWN};
use crate::model::request::ModelRequest;
use crate::model::stream::ModelStream;
use apex_core::error::{Error, Result};
use apex_core::resilience::Permit;
use std::convert::Infallible;
use std::pin::pin;
use tokio::time::timeout;
use tracing::Instrument as _;

/// An attempt under way.
struct Going<'a> {
    index: usize,
    link: &'a Link,
    permit: Permit<'a>,
    metered: Metered,
}

/// An answer that has begun: its first event, and what follows.
type Opened = (ModelEvent, ModelStream);

impl<'a> Way<'a> {
    /// Asks once; hands the answer over, and takes back what was shown of one that broke off.
    pub(super) async fn attempt(
        &mut self,
        placed: Placed<'a>,
        permit: Permit<'a>,
        others: &[Placed<'a>],
    ) -> Result<(usize, ModelStream)> {
        let going = self.begin(placed, permit).await;
        let (going, opened) = self.open(going, others).await;
        let mut shown = false;
        let followed = match opened {
            Ok(opened) => self.follow(going.link, opened, &mut shown).await,
            Err(error) => Err(error),
        };
        match followed {
            Ok((response, stream)) => {
                let index = going.index;
                self.answered(going, response).await;
                Ok((index, stream))
            }
            Err(error) => Err(self.failed(going, error, shown).await),
        }
    }

    async fn begin(&mut self, (index, link): Placed<'a>, permit: Permit<'a>) -> Going<'a> {
        self.attempts += 1;
        let (provider, model) = (link.provider.name(), link.model.as_str());
        let begun = ChainEvent::Begun {
            attempt: self.attempts,
            provider: provider.to_owned(),
            model: model.to_owned(),
            bound: self.inner.meter.bound(provider, model, self.request),
        };
        self.writer.send(begun).await;
        // The reader is to know of it before anything leaves: it may want to put it on record.
        tokio::task::yield_now().await;
        let metered = self.inner.meter.begin(self.asker, provider, model, self.attempts);
        Going { index, link, permit, metered }
    }

    /// Waits for the first sign of an answer. Where that takes too long, one of the others is asked as well, and the
    /// first to show something is the one.
    async fn open(
        &mut self,
        first: Going<'a>,
        others: &[Placed<'a>],
    ) -> (Going<'a>, Result<Opened>) {
        let mut one = pin!(open(first.link, self.request).instrument(first.metered.span()));
        let Some(patience) = self.inner.options.hedge else {
            return (first, one.await);
        };
        if let Ok(opened) = timeout(patience, &mut one).await {
            return (first, opened);
        }
        let admitted = others.iter().filter(|(_, link)| link.limited_for().is_none());
        let admitted =
            admitted.filter_map(|placed| Some((*placed, placed.1.breaker.admit().ok()?)));
        let Some((placed, permit)) = { admitted }.next() else {
            return (first, one.await);
        };
        let second = self.begin(placed, permit).await;
        let mut two = pin!(open(second.link, self.request).instrument(second.metered.span()));
        let (opened, first_ended) = tokio::select! {
            opened = &mut one => (opened, true),
            opened = &mut two => (opened, false),
        };
        match (opened, first_ended) {
            (Ok(opened), true) => {
                self.drop_it(second).await;
                (first, Ok(opened))
            }
            (Ok(opened), false) => {
                self.drop_it(first).await;
                (second, Ok(opened))
            }
            (Err(error), true) => {
                self.failed(first, error, false).await;
                (second, two.await)
            }
            (Err(error), false) => {
                self.failed(second, error, false).await;
                (first, one.await)
            }
        }
    }

    /// Hands the pieces over, up to the end.
    async fn follow(
        &self,
        link: &Link,
        (mut event, mut stream): Opened,
        shown: &mut bool,
    ) -> Result<(ModelResponse, ModelStream)> {
        loop {
            match event {
                ModelEvent::Done(response) => return Ok((*response, stream)),
                piece => {
                    *shown = true;
                    self.writer.send(ChainEvent::Piece(piece)).await;
                }
            }
            event = next(link, &mut stream).await?;
        }
    }

    async fn answered(&mut self, going: Going<'a>, response: ModelResponse) {
        if let Some(wait) = response.limits.exhausted_for() {
            going.link.limit(wait);
        }
        going.permit.done(&Ok(()));
        let id = response.request.as_deref().or(response.id.as_deref());
        let attempt = going.metered.number();
        let usage = going.metered.answered(id, response.usage.as_ref());
        self.total = self.total.plus(usage);
        // A provider of a host's own may leave it out.
        let provider = going.link.provider.name().to_owned();
        let answer = ChainAnswer {
            response: ModelResponse { provider, ..response },
            attempt,
            model: going.link.model.clone(),
            usage,
            total: self.total,
        };
        self.writer.send(ChainEvent::Done(Box::new(answer))).await;
    }

    /// Ends an attempt with an error, and gives that back.
    async fn failed(&mut self, going: Going<'a>, error: Error, shown: bool) -> Error {
        let failed: Result<Infallible> = Err(error);
        going.permit.done(&failed);
        let Err(error) = failed;
        let reason = reason(&error);
        if reason == FaultReason::RateLimited
            && let Some(wait) = error.retry_after()
        {
            going.link.limit(wait);
        }
        let fault = ModelFault::of(&error);
        let named = error.context().find(|(key, _)| *key == "request");
        let request = fault.and_then(|fault| fault.request.as_deref());
        let request = request.or(named.map(|(_, id)| id));
        let used = fault.and_then(|fault| fault.usage.as_ref());
        let attempt = going.metered.number();
        let usage = going.metered.failed(reason, shown, request, used);
        self.total = self.total.plus(usage);
        let report = error.report();
        let told = if shown {
            ChainEvent::Retracted { attempt, error: report, usage }
        } else {
            ChainEvent::Failed { attempt, error: report, usage }
        };
        self.writer.send(told).await;
        error
    }

    /// Lets go of an attempt that another one was faster than; it is recorded as abandoned.
    async fn drop_it(&mut self, going: Going<'a>) {
        let attempt = going.metered.number();
        self.total = self.total.plus(UNKNOWN);
        drop(going);
        self.writer.send(ChainEvent::Dropped { attempt }).await;
    }
}

/// Asks, and waits for the first event.
async fn open(link: &Link, request: &ModelRequest) -> Result<Opened> {
    let mut stream = link.provider.stream(&link.model, request).await?;
    Ok((next(link, &mut stream).await?, stream))
}

async fn next(link: &Link, stream: &mut ModelStream) -> Result<ModelEvent> {
    stream.next().await.unwrap_or_else(|| {
        let fault = ModelFault::new(link.provider.name(), FaultReason::Broken);
        Err(fault.error("it ended without an end", None))
    })
}
