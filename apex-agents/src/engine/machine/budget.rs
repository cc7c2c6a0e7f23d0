//! What a run may use: reserved before it is spent, settled after, told once most of it is gone.

use super::state::Status;
use super::{Ending, Machine, Out};
use crate::failure::Failure;
use apex_core::budget::{Balance, Charge};
use apex_core::clock::Timestamp;
use apex_core::error::Kind;
use apex_core::event::Event;
use apex_core::money::Usd;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// What one run may use, all of its agents together.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Tokens of models, sent and received.
    pub(crate) tokens: Option<u64>,
    pub(crate) usd: Option<Usd>,
    pub(crate) steps: u32,
    /// At work.
    pub(crate) time: Duration,
}

/// What a budget limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    Tokens,
    Usd,
    Steps,
    Seconds,
}

/// What is charged, and of which measures users know that most is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) charged: Charge,
    pub(crate) warned: BTreeSet<Measure>,
    /// Which periods of its user's, and of what, it has told of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) warned_of_user: BTreeSet<(Timestamp, Measure)>,
}

impl Machine {
    /// Whether this fits what is left, with everything counted that is reserved by whichever step.
    ///
    /// # Errors
    /// `budget_exhausted`, with what is too much.
    pub(super) fn check_budget(&self, bound: Charge) -> Result<(), Failure> {
        let budget = &self.facts.budget;
        let reserved = self.state.parts.iter().filter_map(|part| match &part.status {
            Status::Open(open) => Some(open.questions.iter()),
            _ => None,
        });
        let reserved = reserved.flatten().map(|question| question.reserved);
        let all = reserved.fold(self.state.spent.charged, Charge::plus).plus(bound);
        let over = |what: String| {
            let told =
                format!("what is left of the run's budget is not enough for this question: {what}");
            Err(Failure::new(Kind::BudgetExhausted, told))
        };
        if let Some(limit) = budget.tokens.filter(|limit| all.tokens > *limit) {
            return over(format!("it may bring it to {} tokens of {limit}", all.tokens));
        }
        if let Some(limit) = budget.usd.filter(|limit| all.usd > *limit) {
            return over(format!("it may bring it to ${} of ${limit}", all.usd));
        }
        Ok(())
    }

    /// Whether another step may begin; ends the run where not.
    pub(super) fn has_step_left(&mut self, now: Timestamp, out: &mut Out) -> bool {
        let limit = self.facts.budget.steps;
        if self.state.steps_made < limit {
            return true;
        }
        let told = format!("the run may take {limit} steps, and needs more");
        self.end(Ending::Failed(Failure::new(Kind::BudgetExhausted, told)), now, out);
        false
    }

    /// Tells, once for each period and measure, that four fifths of what the run's user may use are gone.
    pub(super) fn warn_of_user(&mut self, balances: &[Balance], out: &mut Out) {
        for balance in balances {
            let (used, scope) = (balance.used.spent, balance.used.period.scope());
            let renews_at = balance.used.renews_at;
            let tokens =
                balance.limit_tokens.filter(|limit| most(used.tokens, *limit)).map(|limit| {
                    let limit = json!({"tokens": limit, "renews_at": renews_at});
                    (Measure::Tokens, json!({"tokens": used.tokens}), limit)
                });
            let usd =
                balance.limit_usd.filter(|limit| used.usd >= limit.ratio(4, 5)).map(|limit| {
                    let limit = json!({"usd": limit, "renews_at": renews_at});
                    (Measure::Usd, json!({"usd": used.usd}), limit)
                });
            for (measure, used, limit) in tokens.into_iter().chain(usd) {
                if self.state.spent.warned_of_user.insert((renews_at, measure)) {
                    let scope = scope.to_owned();
                    out.events.push(Event::BudgetWarning { scope, used, limit });
                }
            }
        }
    }

    /// Tells, once for each measure, that four fifths are gone.
    pub(super) fn warn(&mut self, now: Timestamp, out: &mut Out) {
        let (budget, charged) = (&self.facts.budget, self.state.spent.charged);
        let worked = self.state.worked(now);
        let usd = budget.usd.filter(|limit| charged.usd >= limit.ratio(4, 5));
        let seconds = (worked.as_secs(), budget.time.as_secs());
        let told: [(Measure, Option<(Value, Value)>); 4] = [
            (
                Measure::Tokens,
                budget
                    .tokens
                    .filter(|limit| most(charged.tokens, *limit))
                    .map(|limit| (json!({"tokens": charged.tokens}), json!({"tokens": limit}))),
            ),
            (Measure::Usd, usd.map(|limit| (json!({"usd": charged.usd}), json!({"usd": limit})))),
            (
                Measure::Steps,
                most(self.state.steps_made.into(), budget.steps.into()).then(|| {
                    (json!({"steps": self.state.steps_made}), json!({"steps": budget.steps}))
                }),
            ),
            (
                Measure::Seconds,
                (worked * 5 >= budget.time * 4)
                    .then(|| (json!({"seconds": seconds.0}), json!({"seconds": seconds.1}))),
            ),
        ];
        for (measure, gone) in told {
            if let Some((used, limit)) = gone
                && self.state.spent.warned.insert(measure)
            {
                let scope = "run".to_owned();
                out.events.push(Event::BudgetWarning { scope, used, limit });
            }
        }
    }
}

/// Whether four fifths of a limit are gone.
fn most(used: u64, limit: u64) -> bool {
    u128::from(used) * 5 >= u128::from(limit) * 4
}
