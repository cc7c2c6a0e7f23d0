//! What each attempt to get an answer used and cost.

use super::answer::ModelUsage;
use super::fault::FaultReason;
use super::request::ModelRequest;
use crate::cost::Catalogue;
use crate::cost::price::{Route, Tokens};
use apex_core::budget::{Balance, Budgets, Charge, Reserved};
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::Result;
use apex_core::id::{AttemptId, ReservationId, RunId, StepId};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use apex_core::usage::{Attempt, AttemptOutcome, UsageRecorder};
use async_trait::async_trait;
use metrics::{Label, histogram};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Span, field, info_span};

/// Where attempts are recorded.
#[async_trait]
pub trait UsageSink: fmt::Debug + Send + Sync {
    /// Takes an attempt of a user's that has ended. It is called in the middle of things, also while an answer is
    /// dropped: it must neither wait nor fail.
    fn record(&self, principal: &Principal, attempt: Attempt);

    /// Waits until what was taken is on record, at most as long as said.
    async fn settle(&self, _within: Duration) {}
}

/// Into a store.
#[async_trait]
impl UsageSink for UsageRecorder {
    fn record(&self, principal: &Principal, attempt: Attempt) {
        self.record(principal, attempt);
    }

    async fn settle(&self, within: Duration) {
        let _ = self.settle(within).await;
    }
}

/// Keeps the latest attempts in memory.
#[derive(Debug)]
pub struct MemoryUsage {
    most: usize,
    attempts: Mutex<VecDeque<Attempt>>,
}

impl MemoryUsage {
    /// Keeps up to `most` attempts; the oldest go first.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, attempts: Mutex::default() }
    }

    /// What is kept, oldest first.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().iter().cloned().collect()
    }
}

impl UsageSink for MemoryUsage {
    fn record(&self, _principal: &Principal, attempt: Attempt) {
        let mut attempts = self.attempts.lock();
        attempts.push_back(attempt);
        while attempts.len() > self.most {
            attempts.pop_front();
        }
    }
}

/// In whose name a model is asked, and at whose cost.
#[derive(Debug, Clone)]
pub struct Asker {
    pub(crate) principal: Principal,
    pub(crate) run: Option<RunId>,
    pub(crate) step: Option<StepId>,
}

impl From<&Principal> for Asker {
    fn from(principal: &Principal) -> Self {
        Self { principal: principal.clone(), run: None, step: None }
    }
}

/// Prices attempts by the dated catalogue and records each once.
#[derive(Debug, Clone)]
pub struct Meter {
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn UsageSink>,
    budgets: Option<Arc<Budgets>>,
}

impl Meter {
    /// A meter.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, clock: Arc<dyn Clock>, sink: Arc<dyn UsageSink>) -> Self {
        Self { catalogue, clock, sink, budgets: None }
    }

    /// The same, and no attempt leaves before what it may use is reserved of its user's budget.
    #[must_use]
    pub fn with_budgets(self, budgets: Arc<Budgets>) -> Self {
        Self { budgets: Some(budgets), ..self }
    }

    /// Tokens and their price at a time; unpriced where the catalogue does not know.
    #[must_use]
    pub fn price(&self, provider: &str, model: &str, at: Timestamp, usage: &ModelUsage) -> Usage {
        let schedule = self.catalogue.schedule(&Route {
            provider: Some(provider),
            model,
            tier: usage.tier.as_deref(),
            batch: false,
        });
        let rates = schedule.quote(Some(at)).rates.as_ref();
        let tokens = &usage.tokens;
        Usage {
            input_tokens: tokens.input,
            cached_tokens: tokens.cached,
            output_tokens: tokens.output,
            reasoning_tokens: tokens.reasoning,
            cost_usd: rates.ok().and_then(|rates| rates.cost(tokens).ok()),
        }
    }

    /// What an attempt may use at most, as far as that can be told before it is made.
    pub(crate) fn bound(&self, provider: &str, model: &str, request: &ModelRequest) -> Usage {
        let (input, output) = request.bound();
        let tokens = Tokens { input, output, ..Tokens::default() };
        let usage = ModelUsage { tokens, ..ModelUsage::default() };
        self.price(provider, model, self.clock.now(), &usage)
    }

    /// Reserves what an attempt may use of its user's budget, where users have one.
    ///
    /// # Errors
    /// `budget_exhausted`; what the store says.
    pub(crate) async fn reserve(&self, asker: &Asker, bound: Usage) -> Result<Option<Reserved>> {
        let Some(budgets) = &self.budgets else {
            return Ok(None);
        };
        let most = Charge::of(bound, Charge::default());
        budgets.reserve(&asker.principal, most).await.map(Some)
    }

    /// What is left of a user's budgets, where users have one and it can be told.
    pub(crate) async fn left(&self, principal: &Principal) -> Option<Vec<Balance>> {
        let left = self.budgets.as_ref()?.balances(principal).await;
        left.inspect_err(|error| tracing::warn!(%error, "nobody can tell what is left of a budget"))
            .ok()
    }

    /// Counts what was reserved for an attempt of a lost node as used, where that node has not settled it.
    pub(crate) fn charge(&self, principal: &Principal, reservation: ReservationId, most: Charge) {
        if let Some(budgets) = &self.budgets {
            budgets.charge(principal, reservation, most);
        }
    }

    /// Waits until what was used so far is on record and settled, at most as long as said.
    pub(crate) async fn settle(&self, within: Duration) {
        tokio::join!(self.sink.settle(within), self.settle_budgets(within));
    }

    /// Waits until what was used so far is settled, at most as long as said.
    pub(crate) async fn settle_budgets(&self, within: Duration) {
        if let Some(budgets) = &self.budgets {
            budgets.settle(within).await;
        }
    }

    /// Where it records.
    pub(crate) fn sink(&self) -> &dyn UsageSink {
        &*self.sink
    }

    /// An attempt that begins now.
    pub(crate) fn begin(
        &self,
        asker: &Asker,
        provider: &str,
        model: &str,
        number: u32,
        reserved: Option<Reserved>,
    ) -> Metered {
        let at = self.clock.now();
        let span = info_span!(
            "chat",
            otel.name = format!("chat {model}"),
            otel.kind = "client",
            otel.status_code = field::Empty,
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = convention(provider),
            gen_ai.request.model = model,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
            gen_ai.usage.cache_read.input_tokens = field::Empty,
            "error.type" = field::Empty,
            apex.attempt = number,
            apex.outcome = field::Empty,
            apex.cost_usd = field::Empty,
        );
        Metered {
            meter: self.clone(),
            span,
            principal: asker.principal.clone(),
            reserved,
            attempt: Some(Attempt {
                attempt: AttemptId::new(&*self.clock),
                run: asker.run,
                step: asker.step,
                number,
                at,
                took_ms: 0,
                provider: provider.to_owned(),
                model: model.to_owned(),
                outcome: AttemptOutcome::Abandoned,
                reason: None,
                request: None,
                service_tier: None,
                cache_write_tokens: 0,
                usage: Usage::UNKNOWN,
                estimated: true,
            }),
        }
    }
}

/// An attempt under way; recorded when it ends, however that is.
#[derive(Debug)]
pub(crate) struct Metered {
    meter: Meter,
    span: Span,
    principal: Principal,
    /// What of its user's budget is reserved for it.
    reserved: Option<Reserved>,
    attempt: Option<Attempt>,
}

impl Metered {
    /// Its span, by OpenTelemetry's conventions for generative AI: the request to the provider is made within it.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Which attempt it is.
    pub(crate) fn number(&self) -> u32 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.number)
    }

    /// Ends it with a whole answer; what that used and cost.
    pub(crate) fn answered(mut self, request: Option<&str>, usage: Option<&ModelUsage>) -> Usage {
        self.end(AttemptOutcome::Answered, None, request, usage)
    }

    /// Ends it with a fault; what was used by then.
    pub(crate) fn failed(
        mut self,
        reason: FaultReason,
        shown: bool,
        request: Option<&str>,
        usage: Option<&ModelUsage>,
    ) -> Usage {
        let outcome = if shown { AttemptOutcome::Retracted } else { AttemptOutcome::Failed };
        // A refusal costs nothing; an answer that broke off was paid for, nobody knows how much.
        let paid = shown
            || matches!(
                reason,
                FaultReason::Broken | FaultReason::TimedOut | FaultReason::Malformed
            );
        let nothing = ModelUsage::default();
        let usage = usage.or((!paid).then_some(&nothing));
        self.end(outcome, Some(reason), request, usage)
    }

    fn end(
        &mut self,
        outcome: AttemptOutcome,
        reason: Option<FaultReason>,
        request: Option<&str>,
        usage: Option<&ModelUsage>,
    ) -> Usage {
        let Some(attempt) = &mut self.attempt else {
            return Usage::NONE;
        };
        attempt.outcome = outcome;
        attempt.reason = reason.map(|reason| reason.word().to_owned());
        attempt.request = request.map(str::to_owned);
        if let Some(usage) = usage {
            attempt.usage = if *usage == ModelUsage::default() {
                Usage::NONE
            } else {
                self.meter.price(&attempt.provider, &attempt.model, attempt.at, usage)
            };
            attempt.cache_write_tokens = usage.tokens.cache_write;
            attempt.service_tier.clone_from(&usage.tier);
            attempt.estimated = usage.estimated || outcome == AttemptOutcome::Retracted;
        }
        let used = attempt.usage;
        self.record();
        used
    }

    fn record(&mut self) {
        if let Some(mut attempt) = self.attempt.take() {
            if let Some(reserved) = self.reserved.take() {
                let charge = Charge::of(attempt.usage, reserved.most());
                reserved.settle(charge);
            }
            let took = self.meter.clock.now().since(attempt.at);
            attempt.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            told(&self.span, &attempt, took);
            self.meter.sink.record(&self.principal, attempt);
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.record();
    }
}

/// Tells the span and the metrics how an attempt ended. What nobody knows is in neither.
#[expect(clippy::cast_precision_loss, reason = "no attempt uses 2^53 tokens")]
fn told(span: &Span, attempt: &Attempt, took: Duration) {
    let error = match attempt.outcome {
        AttemptOutcome::Answered => None,
        other => Some(attempt.reason.as_deref().unwrap_or(other.word())),
    };
    let provider = Label::new("gen_ai.provider.name", convention(&attempt.provider).to_owned());
    let model = Label::new("gen_ai.request.model", attempt.model.clone());
    let named = [Label::new("gen_ai.operation.name", "chat"), provider, model];
    let with = |more: Option<Label>| named.iter().cloned().chain(more).collect::<Vec<Label>>();
    let failed = error.map(|error| Label::new("error.type", error.to_owned()));
    histogram!("gen_ai.client.operation.duration", with(failed)).record(took.as_secs_f64());
    span.record("apex.outcome", attempt.outcome.word());
    if let Some(error) = error {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
    let usage = attempt.usage;
    if usage == Usage::UNKNOWN {
        return;
    }
    for (kind, tokens) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
        let kind = Label::new("gen_ai.token.type", kind);
        histogram!("gen_ai.client.token.usage", with(Some(kind))).record(tokens as f64);
    }
    span.record("gen_ai.usage.input_tokens", usage.input_tokens);
    span.record("gen_ai.usage.output_tokens", usage.output_tokens);
    span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
    if let Some(usd) = usage.cost_usd {
        histogram!("apex_model_cost_usd", with(None)).record(usd.to_f64());
        span.record("apex.cost_usd", usd.to_f64());
    }
}

/// A provider as the conventions name it; one that they do not know keeps its name.
fn convention(provider: &str) -> &str {
    match provider {
        "gemini" | "google" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "xai" | "x-ai" => "x_ai",
        "moonshot" => "moonshot_ai",
        "bedrock" | "aws" => "aws.bedrock",
        "azure" => "azure.ai.openai",
        other => other,
    }
}
