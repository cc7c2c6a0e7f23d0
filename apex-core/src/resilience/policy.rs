use super::breaker::Breaker;
use super::bulkhead::Bulkhead;
use super::call::{Call, Effect};
use super::deadline::Deadline;
use super::fallback::{Answer, may_stand_in};
use super::random::Random;
use super::retry::{Backoff, Budget};
use crate::error::{Error, Repeat, Result};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What a server that is out of means gets at least, before it is asked again.
const CAPACITY_WAIT: Duration = Duration::from_secs(1);

/// How calls to one dependency are protected. All waits together stay within the call's deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyOptions {
    /// The tries in all, the first one included.
    pub tries: u32,
    /// The time for all tries and the waits between them.
    pub total: Duration,
    /// The time for one try.
    pub attempt: Duration,
    /// The time for one try to connect; longer where something must wake up first.
    pub connect: Duration,
    /// The waits between tries.
    pub backoff: Backoff,
}

/// Protects the calls to one dependency. The layers, from the outside, in the one order that is right:
///
/// 1. **fallback**: only when all else has failed;
/// 2. **deadline** of the whole: nothing below outlives it;
/// 3. **retry**, with its budget: each try passes everything below anew, and a wait between tries holds no place;
/// 4. **bulkhead**: a place is taken before the breaker is asked for good, so that who waited for a place while the
///    breaker opened is still refused;
/// 5. **breaker**: sees each try, not the sum of them;
/// 6. **deadline of a try**: innermost, so that the breaker hears of a try that hung.
///
/// A refusal by breaker or bulkhead is not tried again: it is there to take load away.
#[derive(Debug)]
pub struct Policy {
    options: PolicyOptions,
    breaker: Arc<Breaker>,
    bulkhead: Arc<Bulkhead>,
    budget: Arc<Budget>,
    random: Random,
}

impl Policy {
    /// A policy; breaker, bulkhead and budget may be shared by several policies for one dependency.
    #[must_use]
    pub fn new(
        options: PolicyOptions,
        breaker: Arc<Breaker>,
        bulkhead: Arc<Bulkhead>,
        budget: Arc<Budget>,
    ) -> Self {
        Self { options, breaker, bulkhead, budget, random: Random::from_system() }
    }

    /// The same with jitter that is the same each time.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = Random::seeded(seed);
        self
    }

    /// A call to begin with, for when no layer above has made one.
    #[must_use]
    pub fn call(&self, effect: Effect) -> Call {
        Call::new(effect, self.options.total.max(self.options.connect))
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// The bulkhead.
    #[must_use]
    pub fn bulkhead(&self) -> &Arc<Bulkhead> {
        &self.bulkhead
    }

    /// The terms.
    #[must_use]
    pub fn options(&self) -> &PolicyOptions {
        &self.options
    }

    /// Makes a call. `work` is called once a try, with the terms for what it calls in turn.
    ///
    /// # Errors
    /// The last try's, with the number of tries; [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the
    /// call was held back.
    pub async fn run<T, F, W>(&self, call: Call, work: F) -> Result<T>
    where
        F: FnMut(Call) -> W,
        W: Future<Output = Result<T>>,
    {
        self.tries(call, self.options.attempt, work).await
    }

    /// Connects: the same, with the time that connecting may take.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn connect<T, F, W>(&self, call: Call, work: F) -> Result<T>
    where
        F: FnMut(Call) -> W,
        W: Future<Output = Result<T>>,
    {
        self.tries(call, self.options.connect, work).await
    }

    /// Makes a call, and takes the next best when the dependency does not answer. A refusal (no access, bad request)
    /// is never replaced.
    ///
    /// # Errors
    /// As [`run`](Self::run); the fallback's own when that fails too.
    pub async fn run_or<T, F, W, G, N>(&self, call: Call, work: F, fallback: G) -> Result<Answer<T>>
    where
        F: FnMut(Call) -> W,
        W: Future<Output = Result<T>>,
        G: FnOnce() -> N,
        N: Future<Output = Result<T>>,
    {
        match self.run(call, work).await {
            Ok(value) => Ok(Answer::whole(value)),
            Err(error) if may_stand_in(&error) => {
                metrics::counter!("apex_fallbacks_total", "dependency" => self.dependency().to_owned()).increment(1);
                tracing::warn!(dependency = self.dependency(), %error, "answered by the next best");
                let value = fallback().await?;
                Ok(Answer::instead(value, self.dependency(), &error))
            }
            Err(error) => Err(error),
        }
    }

    async fn tries<T, F, W>(&self, call: Call, limit: Duration, mut work: F) -> Result<T>
    where
        F: FnMut(Call) -> W,
        W: Future<Output = Result<T>>,
    {
        let deadline = call.deadline.within(self.options.total.max(limit));
        self.budget.deposit();
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.attempt(call, deadline, limit, &mut work).await {
                Ok(value) => return Ok(value),
                Err(Failed::HeldBack(error)) => return Err(error),
                Err(Failed::Tried(error)) => error,
            };
            let Some(wait) = self.wait_before_next(&error, call, deadline, tried) else {
                return Err(error.with("dependency", self.dependency()).with("tries", tried));
            };
            metrics::counter!("apex_retries_total", "dependency" => self.dependency().to_owned())
                .increment(1);
            tracing::debug!(dependency = self.dependency(), tried, ?wait, %error, "trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt<T, F, W>(
        &self,
        call: Call,
        deadline: Deadline,
        limit: Duration,
        work: &mut F,
    ) -> Result<T, Failed>
    where
        F: FnMut(Call) -> W,
        W: Future<Output = Result<T>>,
    {
        // Asked before queueing too: who is going to be refused need not wait for it.
        self.breaker.check().map_err(Failed::HeldBack)?;
        let _place = self.bulkhead.enter(deadline).await.map_err(Failed::HeldBack)?;
        let permit = self.breaker.admit().map_err(Failed::HeldBack)?;
        // Who may take its time to wake up is not slow for doing so.
        let permit = if limit > self.options.attempt { permit.expecting(limit) } else { permit };
        let deadline = deadline.within(limit);
        let outcome = call.effect.unanswered();
        let result = deadline.limit("policy.attempt", outcome, work(call.below(deadline))).await;
        permit.done(&result);
        result.map_err(Failed::Tried)
    }

    /// How long to wait before the next try, if there is one.
    fn wait_before_next(
        &self,
        error: &Error,
        call: Call,
        deadline: Deadline,
        tried: u32,
    ) -> Option<Duration> {
        if call.repeated_above
            || tried >= self.options.tries
            || !error.may_repeat(call.effect.repeatable())
        {
            return None;
        }
        let least = match error.failure().map(|failure| failure.consequence().repeat) {
            Some(Repeat::Later) => CAPACITY_WAIT,
            _ => Duration::ZERO,
        };
        let asked = error.retry_after().unwrap_or_default();
        let wait = self.options.backoff.wait(tried, &self.random).max(least).max(asked);
        // The budget last, so that a retry that would not be made anyway is not charged.
        (deadline.allows(wait) && self.budget.withdraw()).then_some(wait)
    }

    fn dependency(&self) -> &str {
        self.breaker.dependency()
    }
}

/// Why a try gave nothing.
enum Failed {
    /// It was not made.
    HeldBack(Error),
    /// It was made.
    Tried(Error),
}
