//! Several models in the place of one: when one does not answer, the next is asked.
//!
//! What a reader has seen of an answer that broke off is taken back by an event before the next model's answer
//! begins, so that nobody ever sees half of each; and each attempt is recorded with what it used.

mod attempt;
mod link;
mod run;

pub use link::{Abilities, ChainLink};

use super::answer::{ModelEvent, ModelResponse};
use super::fault::{FaultReason, ModelFault};
use super::metering::{Asker, Meter};
use super::request::ModelRequest;
use super::stream::Written;
use apex_core::error::{Error, ErrorReport, Kind, Result};
use apex_core::health::{BreakerSource, CertificateSource};
use apex_core::id::ReservationId;
use apex_core::money::{Usage, Usd};
use apex_core::resilience::{Breaker, BreakerOptions};
use link::Link;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// By which rules a chain goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainOptions {
    /// How often one model is asked before the next is, while its trouble may pass.
    pub tries: u32,
    /// The wait before the second try; it doubles, and is shortened at random by up to a quarter.
    pub backoff: Duration,
    /// Which share of the calls to one model may be repeated, from 0 to 1, over ten seconds: in an outage, retries
    /// stop helping and start to be the load.
    pub retry_share: f64,
    /// How many may be repeated a second beyond that, for quiet times.
    pub retries_per_second: u32,
    /// After how long without a first sign of an answer the next model is asked as well; whichever shows something
    /// first gives the answer, the other one is dropped, and billed. `None` never does. Not with a `ceiling`: nobody
    /// knows what the first will cost. Nor where the user's budget has not as much left as the second may use beside
    /// the first.
    pub hedge: Option<Duration>,
    /// The longest wait for one model; one that asks for more is passed over, even where it is the last.
    pub patience: Duration,
    /// How long a model that stood in stays the first to be asked.
    pub sticky: Duration,
    /// No attempt is begun once those before it cost as much.
    pub ceiling: Option<Usd>,
    /// The faults after which no other model is asked, because it would fail as well.
    pub last_words: Vec<FaultReason>,
    /// When a model is left alone; of each provider and model for itself.
    pub breaker: BreakerOptions,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self {
            tries: 2,
            backoff: Duration::from_millis(500),
            retry_share: 0.2,
            retries_per_second: 1,
            hedge: None,
            patience: Duration::from_secs(8),
            sticky: Duration::from_secs(60),
            ceiling: None,
            last_words: vec![FaultReason::BadRequest],
            breaker: BreakerOptions {
                least_calls: 5,
                // Models take their time; their own time limits say when it is too long.
                slow: Duration::from_secs(600),
                ..BreakerOptions::default()
            },
        }
    }
}

/// What happens on the way to an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ChainEvent {
    /// A model is asked.
    Begun {
        /// Which attempt it is, from 1.
        attempt: u32,
        /// The provider.
        provider: String,
        /// The model.
        model: String,
        /// What the attempt may use at most, estimated by the size of the request and the limit of the answer.
        bound: Usage,
        /// Under which that is reserved of the user's budget, where users have one.
        reservation: Option<ReservationId>,
    },
    /// A piece of its answer; never [`ModelEvent::Done`].
    Piece(ModelEvent),
    /// An attempt ended before anything of it was shown.
    Failed {
        /// The attempt.
        attempt: u32,
        /// What went wrong.
        error: ErrorReport,
        /// What it used; without a cost where that is not known.
        usage: Usage,
    },
    /// An attempt was not waited for, because another one was faster. Nobody knows what it cost.
    Dropped {
        /// The attempt.
        attempt: u32,
    },
    /// The pieces of this attempt do not count: the answer broke off. They are billed all the same.
    Retracted {
        /// The attempt.
        attempt: u32,
        /// What broke it.
        error: ErrorReport,
        /// What it used; without a cost where that is not known.
        usage: Usage,
    },
    /// The end: the whole answer. Nothing follows.
    Done(Box<ChainAnswer>),
}

/// An answer, and who gave it at which price.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainAnswer {
    /// The answer.
    pub response: ModelResponse,
    /// The attempt that gave it.
    pub attempt: u32,
    /// The model, as it was asked for.
    pub model: String,
    /// What it used and cost.
    pub usage: Usage,
    /// What all attempts used and cost together.
    pub total: Usage,
}

/// Models in the order in which they are asked.
#[derive(Debug, Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    links: Vec<Link>,
    options: ChainOptions,
    meter: Meter,
    /// Which link stands in for those before it, and until when.
    standing_in: Mutex<Option<(usize, Instant)>>,
}

impl Chain {
    /// A chain.
    ///
    /// # Errors
    /// `config_invalid` without a link or a try, and with both a ceiling and hedging.
    pub fn new(
        links: impl IntoIterator<Item = ChainLink>,
        options: ChainOptions,
        meter: Meter,
    ) -> Result<Self> {
        let links: Vec<_> = links.into_iter().map(|link| Link::new(link, &options)).collect();
        if links.is_empty() || options.tries == 0 {
            return Err(Error::new(
                Kind::Config,
                "model.chain",
                "a chain needs a model and a try: add a link, or the offline provider",
            ));
        }
        if options.ceiling.is_some() && options.hedge.is_some() {
            return Err(Error::new(
                Kind::Config,
                "model.chain",
                "a ceiling and hedging exclude each other: two attempts at once cost nobody knows how much",
            ));
        }
        Ok(Self { inner: Arc::new(Inner { links, options, meter, standing_in: Mutex::default() }) })
    }

    /// Asks for an answer, in whose name and at whose cost.
    #[must_use]
    pub fn stream(&self, asker: impl Into<Asker>, request: Arc<ModelRequest>) -> ChainStream {
        let (inner, asker) = (Arc::clone(&self.inner), asker.into());
        let veto = Arc::new(AtomicBool::new(false));
        let vetoed = Arc::clone(&veto);
        let events = Written::new(|writer| async move {
            run::run(&inner, &asker, &request, &writer, &vetoed).await
        });
        ChainStream { events, veto }
    }

    /// Asks for an answer and waits for the whole of it.
    ///
    /// # Errors
    /// The last model's, when none answered.
    pub async fn complete(
        &self,
        asker: impl Into<Asker>,
        request: Arc<ModelRequest>,
    ) -> Result<ChainAnswer> {
        let mut stream = self.stream(asker, request);
        let mut answer = None;
        while let Some(event) = stream.next().await {
            if let ChainEvent::Done(done) = event? {
                answer = Some(*done);
            }
        }
        answer.ok_or_else(|| ModelFault::new("chain", FaultReason::Broken).error("", None))
    }

    /// What prices and records the attempts.
    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// The certificates of the servers that are asked, each once, to be watched.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<dyn CertificateSource>> {
        let mut all: Vec<Arc<dyn CertificateSource>> = Vec::new();
        for one in self.inner.links.iter().filter_map(|link| link.provider.certificate()) {
            if !all.iter().any(|known| known.endpoint() == one.endpoint()) {
                all.push(one);
            }
        }
        all
    }
}

impl BreakerSource for Chain {
    /// In the links' order.
    fn breakers(&self) -> Vec<&Breaker> {
        self.inner.links.iter().map(|link| &link.breaker).collect()
    }
}

/// What happens on the way to an answer. Dropping it ends the attempt under way, which is recorded as abandoned.
#[derive(Debug)]
pub struct ChainStream {
    events: Written<ChainEvent>,
    veto: Arc<AtomicBool>,
}

impl ChainStream {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<ChainEvent>> {
        std::future::poll_fn(|cx| self.events.poll(cx)).await
    }

    /// Keeps the attempt that was the last event from being made. One beside another one is left out; else nothing
    /// more is asked, and the stream ends with `budget_exhausted`.
    pub fn veto(&self) {
        self.veto.store(true, Ordering::Relaxed);
    }
}
