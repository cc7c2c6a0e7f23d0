use super::link::Link;
use super::{ChainAnswer, ChainEvent, Inner};
use crate::model::answer::{ModelEvent, ModelResponse};
use crate::model::fault::{FaultReason, ModelFault};
use crate::model::request::ModelRequest;
use crate::model::stream::{ModelStream, Writer};
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use std::time::Duration;
use tokio::time::Instant;

/// One request's way along the chain.
struct Way<'a> {
    inner: &'a Inner,
    principal: &'a Principal,
    request: &'a ModelRequest,
    writer: &'a Writer<ChainEvent>,
    attempts: u32,
    total: Usage,
}

/// What follows a failed attempt.
enum Next {
    /// The same model, after a wait.
    Again(Duration),
    /// Another model.
    Other,
    /// Nothing.
    End,
}

pub(super) async fn run(
    inner: &Inner,
    principal: &Principal,
    request: &ModelRequest,
    writer: &Writer<ChainEvent>,
) -> Result<()> {
    let mut way = Way { inner, principal, request, writer, attempts: 0, total: Usage::NONE };
    let mut last = None;
    for (index, link) in inner.order() {
        if !link.can(request) {
            continue;
        }
        match way.ask(link).await {
            Ok(mut stream) => {
                inner.answered_by(index);
                // To its end, so that the connection serves the next request.
                while stream.next().await.is_some() {}
                return Ok(());
            }
            Err((error, Next::End)) => return Err(error.with("attempts", way.attempts)),
            Err((error, _)) => {
                tracing::warn!(dependency = link.breaker.dependency(), %error, "a model is passed over");
                last = Some(error);
            }
        }
    }
    Err(match last {
        Some(error) => error.with("attempts", way.attempts),
        None => Error::new(
            Kind::Config,
            "model.chain",
            "no model of the chain can do what is asked (images, tools, schema, effort): add one that can",
        ),
    })
}

impl Inner {
    /// The links, with the one that stands in before all others.
    fn order(&self) -> impl Iterator<Item = (usize, &Link)> {
        let mut standing_in = self.standing_in.lock();
        if standing_in.is_some_and(|(_, until)| until <= Instant::now()) {
            *standing_in = None;
        }
        let first = standing_in.map(|(index, _)| index);
        let links = || self.links.iter().enumerate();
        links()
            .filter(move |(index, _)| Some(*index) == first)
            .chain(links().filter(move |(index, _)| Some(*index) != first))
    }

    fn answered_by(&self, index: usize) {
        let mut standing_in = self.standing_in.lock();
        if index == 0 {
            *standing_in = None;
        } else if standing_in.is_none_or(|(known, _)| known != index) {
            // Not put off by each success, or the first would never be asked again.
            let until = Instant::now().checked_add(self.options.sticky);
            *standing_in = until.map(|until| (index, until));
        }
    }
}

impl Way<'_> {
    /// Asks one model, more than once if that may help. After its answer was handed over, the rest of its stream.
    async fn ask(&mut self, link: &Link) -> Result<ModelStream, (Error, Next)> {
        let options = &self.inner.options;
        let mut tried = 0;
        loop {
            if let Some(ceiling) = options.ceiling
                && self.total.cost_usd.is_none_or(|spent| spent >= ceiling)
                && self.attempts > 0
            {
                let error = Error::new(
                    Kind::BudgetExhausted,
                    "model.chain",
                    "the attempts so far cost as much as one answer may, or nobody knows how much",
                );
                return Err((error.with("ceiling", ceiling), Next::End));
            }
            if let Some(wait) = link.limited_for() {
                if wait > options.patience {
                    let fault = ModelFault::new(link.provider.name(), FaultReason::RateLimited);
                    return Err((fault.error("", Some(wait)), Next::Other));
                }
                tokio::time::sleep(wait).await;
            }
            let permit = link.breaker.admit().map_err(|error| (error, Next::Other))?;
            tried += 1;
            let attempt = self.attempt(link).await;
            permit.done(&attempt);
            let error = match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            match self.next(link, &error, tried) {
                Next::Again(wait) => tokio::time::sleep(wait).await,
                next => return Err((error, next)),
            }
        }
    }

    fn next(&self, link: &Link, error: &Error, tried: u32) -> Next {
        let options = &self.inner.options;
        // A provider of a host's own may say nothing about what its error means.
        let reason = reason(error);
        if reason == FaultReason::RateLimited
            && let Some(wait) = error.retry_after()
        {
            link.limit(wait);
        }
        if options.last_words.contains(&reason) {
            return Next::End;
        }
        if !reason.is_passing() || tried >= options.tries {
            return Next::Other;
        }
        let doubled = 1_u32.checked_shl(tried - 1).unwrap_or(u32::MAX);
        let backoff = options.backoff.saturating_mul(doubled);
        let backoff = backoff.mul_f64(fastrand::f64().mul_add(-0.25, 1.0));
        let wait = error.retry_after().unwrap_or_default().max(backoff);
        if wait > options.patience { Next::Other } else { Next::Again(wait) }
    }

    /// Asks once; hands the answer over, and takes back what was shown of one that broke off.
    async fn attempt(&mut self, link: &Link) -> Result<ModelStream> {
        self.attempts += 1;
        let (provider, model) = (link.provider.name(), link.model.as_str());
        let begun = ChainEvent::Begun {
            attempt: self.attempts,
            provider: provider.to_owned(),
            model: model.to_owned(),
        };
        self.writer.send(begun).await;
        let meter = &self.inner.meter;
        let metered = meter.begin(self.principal, provider, model, self.attempts);
        let mut shown = false;
        match self.follow(link, &mut shown).await {
            Ok((response, stream)) => {
                if let Some(wait) = response.limits.exhausted_for() {
                    link.limit(wait);
                }
                let id = response.request.as_deref().or(response.id.as_deref());
                let usage = metered.answered(id, response.usage.as_ref());
                self.total = self.total.plus(usage);
                let answer = ChainAnswer {
                    response,
                    attempt: self.attempts,
                    provider: provider.to_owned(),
                    model: model.to_owned(),
                    usage,
                    total: self.total,
                };
                self.writer.send(ChainEvent::Done(Box::new(answer))).await;
                Ok(stream)
            }
            Err(error) => {
                let fault = ModelFault::of(&error);
                let named = error.context().find(|(key, _)| *key == "request");
                let request = fault.and_then(|fault| fault.request.as_deref());
                let request = request.or(named.map(|(_, id)| id));
                let used = fault.and_then(|fault| fault.usage.as_ref());
                let usage = metered.failed(reason(&error), shown, request, used);
                self.total = self.total.plus(usage);
                if shown {
                    let retracted = ChainEvent::Retracted {
                        attempt: self.attempts,
                        error: error.report(),
                        usage,
                    };
                    self.writer.send(retracted).await;
                }
                Err(error)
            }
        }
    }

    async fn follow(&self, link: &Link, shown: &mut bool) -> Result<(ModelResponse, ModelStream)> {
        let mut stream = link.provider.stream(&link.model, self.request).await?;
        loop {
            match stream.next().await {
                Some(Ok(ModelEvent::Done(response))) => return Ok((*response, stream)),
                Some(Ok(piece)) => {
                    *shown = true;
                    self.writer.send(ChainEvent::Piece(piece)).await;
                }
                Some(Err(error)) => return Err(error),
                None => {
                    let fault = ModelFault::new(link.provider.name(), FaultReason::Broken);
                    return Err(fault.error("it ended without an end", None));
                }
            }
        }
    }
}

fn reason(error: &Error) -> FaultReason {
    ModelFault::of(error).map_or(FaultReason::Failed, |fault| fault.reason)
}
