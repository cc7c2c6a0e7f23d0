use super::link::Link;
use super::run::{Placed, Way, reason};
use super::{ChainAnswer, ChainEvent};
use crate::model::answer::{ModelEvent, ModelResponse};
use crate::model::fault::{FaultReason, ModelFault};
use crate::model::metering::Metered;
use crate::model::request::ModelRequest;
use crate::model::stream::ModelStream;
use apex_core::budget::Reserved;
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usage;
use apex_core::resilience::Permit;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;
use tracing::Instrument as _;

/// How long an attempt waits until those before it are settled.
const SETTLED: Duration = Duration::from_secs(2);

/// An attempt under way.
struct Going<'a> {
    index: usize,
    link: &'a Link,
    permit: Permit<'a>,
    metered: Metered,
}

/// What an attempt may use at most, and what of that is reserved of its user's budget.
pub(super) struct Booked {
    bound: Usage,
    reserved: Option<Reserved>,
}

/// By what an attempt that may use so much is paced.
pub(super) fn tokens(bound: Usage) -> u64 {
    bound.input_tokens.saturating_add(bound.output_tokens)
}

/// An answer that has begun: its first event, and what follows.
type Opened = (ModelEvent, ModelStream);

impl<'a> Way<'a> {
    /// Asks once; hands the answer over, and takes back what was shown of one that broke off.
    pub(super) async fn attempt(
        &mut self,
        placed: Placed<'a>,
        permit: Permit<'a>,
        booked: Booked,
        others: &[Placed<'a>],
    ) -> Result<(usize, ModelStream)> {
        let going = self.begin(placed, permit, booked).await.ok_or_else(vetoed)?;
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

    /// What an attempt at this model may use at most.
    pub(super) fn bound(&self, link: &Link) -> Usage {
        self.inner.meter.bound(link.provider.name(), &link.model, self.request)
    }

    /// Reserves that of the user's budget.
    pub(super) async fn book(&self, bound: Usage) -> Result<Booked> {
        if self.attempts > 0 {
            // What the attempts before it did not use is free for this one.
            self.inner.meter.settle_budgets(SETTLED).await;
        }
        Ok(Booked { bound, reserved: self.inner.meter.reserve(self.asker, bound).await? })
    }

    /// An attempt that leaves now, unless the reader has a word against it.
    async fn begin(
        &mut self,
        (index, link): Placed<'a>,
        permit: Permit<'a>,
        Booked { bound, reserved }: Booked,
    ) -> Option<Going<'a>> {
        self.attempts += 1;
        let (provider, model) = (link.provider.name(), link.model.as_str());
        let begun = ChainEvent::Begun {
            attempt: self.attempts,
            provider: provider.to_owned(),
            model: model.to_owned(),
            bound,
            reservation: reserved.as_ref().map(Reserved::id),
        };
        self.writer.send(begun).await;
        // The reader is to know of it before anything leaves: it may want to put it on record.
        tokio::task::yield_now().await;
        if self.veto.swap(false, Ordering::Relaxed) {
            return None;
        }
        let attempt = self.attempts;
        let metered = self.inner.meter.begin(self.asker, provider, model, attempt, reserved);
        Some(Going { index, link, permit, metered })
    }

    /// Waits for the first sign of an answer. Where that takes too long, one of the others is asked as well, and the
    /// first to show something is the one. That is a second call at the user's cost: it is reserved like the first,
    /// and not made where the user's budget or the run's has not as much left.
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
        // One that would have to wait for its turn is of no help.
        let admitted = others.iter().filter_map(|placed| {
            let permit = placed.1.breaker.admit().ok()?;
            let bound = self.bound(placed.1);
            placed.1.pace.try_begin(tokens(bound)).then_some((*placed, permit, bound))
        });
        let Some((placed, permit, bound)) = { admitted }.next() else {
            return (first, one.await);
        };
        let booked = tokio::select! {
            biased;
            opened = &mut one => return (first, opened),
            booked = self.book(bound) => booked,
        };
        let Ok(booked) = booked else {
            drop(permit);
            return (first, one.await);
        };
        let Some(second) = self.begin(placed, permit, booked).await else {
            return (first, one.await);
        };
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
            going.link.pace.close(wait);
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
            going.link.pace.close(wait);
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
        self.total = self.total.plus(Usage::UNKNOWN);
        drop(going);
        self.writer.send(ChainEvent::Dropped { attempt }).await;
    }
}

/// The end of a question whose reader did not want the attempt made.
pub(super) fn vetoed() -> Error {
    let told = "the one who asks has not as much left as this answer may use";
    Error::new(Kind::BudgetExhausted, "model.chain", told)
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
