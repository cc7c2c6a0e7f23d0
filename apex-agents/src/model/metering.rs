//! What each attempt to get an answer used and cost.

use super::answer::ModelUsage;
use super::fault::FaultReason;
use crate::cost::Catalogue;
use crate::cost::price::Route;
use apex_core::clock::{Clock, Timestamp};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use apex_core::usage::{UsageRecord, UsageStatus};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// With the whole answer.
    Answered,
    /// Before anything was shown.
    Failed(FaultReason),
    /// In the middle of an answer, which was taken back; what was written is billed.
    Retracted(FaultReason),
    /// Nobody waited for the end; what was written is billed.
    Abandoned,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whose it is, which model was asked, what it used and cost. The cost is `None` where it is not known.
    pub record: UsageRecord,
    /// Which attempt at the same answer it is, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long it took.
    pub took: Duration,
    /// Whether the counts are what the provider had said by the time it broke off, or contradict each other.
    pub estimated: bool,
}

/// Where attempts are recorded. It is called in the middle of things, also while an answer is dropped: it must
/// neither wait nor fail.
pub trait UsageSink: fmt::Debug + Send + Sync {
    /// Takes an attempt that has ended.
    fn record(&self, attempt: Attempt);
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
    fn record(&self, attempt: Attempt) {
        let mut attempts = self.attempts.lock();
        attempts.push_back(attempt);
        while attempts.len() > self.most {
            attempts.pop_front();
        }
    }
}

/// Prices attempts by the dated catalogue and records each once.
#[derive(Debug, Clone)]
pub struct Meter {
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn UsageSink>,
}

impl Meter {
    /// A meter.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, clock: Arc<dyn Clock>, sink: Arc<dyn UsageSink>) -> Self {
        Self { catalogue, clock, sink }
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

    /// An attempt that begins now.
    pub(crate) fn begin(
        &self,
        principal: &Principal,
        provider: &str,
        model: &str,
        number: u32,
    ) -> Metered {
        let at = self.clock.now();
        Metered {
            meter: self.clone(),
            began: at,
            attempt: Some(Attempt {
                record: UsageRecord {
                    at: Some(at),
                    user: Some(principal.user().to_string()),
                    session: principal.session().map(|session| session.to_string()),
                    provider: Some(provider.to_owned()),
                    model: model.to_owned(),
                    // Until it is known what was used.
                    tokens: Usage { cost_usd: None, ..Usage::NONE },
                    ..UsageRecord::default()
                },
                number,
                outcome: AttemptOutcome::Abandoned,
                took: Duration::ZERO,
                estimated: true,
            }),
        }
    }
}

/// An attempt under way; recorded when it ends, however that is.
#[derive(Debug)]
pub(crate) struct Metered {
    meter: Meter,
    began: Timestamp,
    attempt: Option<Attempt>,
}

impl Metered {
    /// Ends it with a whole answer; what that used and cost.
    pub(crate) fn answered(mut self, request: Option<&str>, usage: Option<&ModelUsage>) -> Usage {
        self.end(AttemptOutcome::Answered, UsageStatus::Ok, request, usage)
    }

    /// Ends it with a fault; what was used by then.
    pub(crate) fn failed(
        mut self,
        reason: FaultReason,
        shown: bool,
        request: Option<&str>,
        usage: Option<&ModelUsage>,
    ) -> Usage {
        let outcome =
            if shown { AttemptOutcome::Retracted(reason) } else { AttemptOutcome::Failed(reason) };
        // A refusal costs nothing; an answer that broke off was paid for, nobody knows how much.
        let paid = shown
            || matches!(
                reason,
                FaultReason::Broken | FaultReason::TimedOut | FaultReason::Malformed
            );
        let nothing = ModelUsage::default();
        let usage = usage.or((!paid).then_some(&nothing));
        self.end(outcome, UsageStatus::Error, request, usage)
    }

    fn end(
        &mut self,
        outcome: AttemptOutcome,
        status: UsageStatus,
        request: Option<&str>,
        usage: Option<&ModelUsage>,
    ) -> Usage {
        let Some(mut attempt) = self.attempt.take() else {
            return Usage::NONE;
        };
        attempt.outcome = outcome;
        attempt.record.status = status;
        attempt.record.request = request.map(str::to_owned);
        if let Some(usage) = usage {
            let record = &mut attempt.record;
            let provider = record.provider.as_deref().unwrap_or_default();
            record.tokens = if *usage == ModelUsage::default() {
                Usage::NONE
            } else {
                self.meter.price(provider, &record.model, self.began, usage)
            };
            record.cache_write_tokens = usage.tokens.cache_write;
            record.service_tier.clone_from(&usage.tier);
            let broke_off = matches!(outcome, AttemptOutcome::Retracted(_));
            attempt.estimated = usage.estimated || broke_off;
        }
        let used = attempt.record.tokens;
        attempt.took = self.meter.clock.now().since(self.began);
        self.meter.sink.record(attempt);
        used
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(mut attempt) = self.attempt.take() {
            attempt.took = self.meter.clock.now().since(self.began);
            self.meter.sink.record(attempt);
        }
    }
}
