use super::attempt::tokens;
use super::link::Link;
use super::{ChainEvent, Inner};
use crate::model::fault::{FaultReason, ModelFault};
use crate::model::metering::Asker;
use crate::model::request::ModelRequest;
use crate::model::stream::{ModelStream, Writer};
use apex_core::error::{Error, Kind, Result};
use apex_core::money::Usage;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::Instant;

/// One request's way along the chain.
pub(super) struct Way<'a> {
    pub(super) inner: &'a Inner,
    pub(super) asker: &'a Asker,
    pub(super) request: &'a ModelRequest,
    pub(super) writer: &'a Writer<ChainEvent>,
    /// Whether the reader has a word against the attempt that it was told of.
    pub(super) veto: &'a AtomicBool,
    pub(super) attempts: u32,
    pub(super) total: Usage,
}

/// A link and its place in the chain.
pub(super) type Placed<'a> = (usize, &'a Link);

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
    asker: &Asker,
    request: &ModelRequest,
    writer: &Writer<ChainEvent>,
    veto: &AtomicBool,
) -> Result<()> {
    let mut way = Way { inner, asker, request, writer, veto, attempts: 0, total: Usage::NONE };
    let mut last = None;
    let able: Vec<Placed<'_>> = inner.order().filter(|(_, link)| link.can(request)).collect();
    for (at, placed) in able.iter().enumerate() {
        let others = able.get(at + 1..).unwrap_or_default();
        let link = placed.1;
        match way.ask(*placed, others).await {
            Ok((index, mut stream)) => {
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

impl<'a> Way<'a> {
    /// Asks one model, more than once if that may help, and one of the others beside it where it is slow. After an
    /// answer was handed over: whose it was, and the rest of its stream.
    async fn ask(
        &mut self,
        placed: Placed<'a>,
        others: &[Placed<'a>],
    ) -> Result<(usize, ModelStream), (Error, Next)> {
        let link = placed.1;
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
            let limited = |wait| {
                let fault = ModelFault::new(link.provider.name(), FaultReason::RateLimited);
                (fault.error("", Some(wait)), Next::Other)
            };
            if let Some(wait) = link.pace.closed_for().filter(|wait| *wait > options.patience) {
                return Err(limited(wait));
            }
            // A budget that has not enough left has it for no other model, and none is asked behind its back.
            let bound = self.bound(link);
            let booked = self.book(bound).await.map_err(|error| (error, Next::End))?;
            let user = Some(self.asker.principal.user());
            link.pace.begin(user, tokens(bound), options.patience).await.map_err(limited)?;
            let permit = link.breaker.admit().map_err(|error| (error, Next::Other))?;
            tried += 1;
            if tried == 1 {
                link.retries.deposit();
            }
            let error = match self.attempt(placed, permit, booked, others).await {
                Ok(answered) => return Ok(answered),
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
        if error.kind() == Kind::BudgetExhausted && ModelFault::of(error).is_none() {
            return Next::End;
        }
        // A provider of a host's own may say nothing about what its error means.
        let reason = reason(error);
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
        if wait > options.patience || !link.retries.withdraw() {
            return Next::Other;
        }
        Next::Again(wait)
    }
}

pub(super) fn reason(error: &Error) -> FaultReason {
    ModelFault::of(error).map_or(FaultReason::Failed, |fault| fault.reason)
}
