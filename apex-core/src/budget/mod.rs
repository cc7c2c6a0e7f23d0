//! What models may cost: a run by itself, and each user by day and month. Both go by one rule: what a question may
//! use at most is reserved before it leaves, and what it used is settled after.
//!
//! A run's budget is part of its saved state. A user's is a [`BudgetStore`], because all of the user's runs and all
//! nodes share it; [`Budgets`] keeps the reservations of one process.

mod account;
mod keeper;
mod policy;

pub(crate) use account::Account;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use account::Window;
pub use keeper::{Budgets, Reserved};
pub use policy::BudgetPolicy;

use crate::clock::Timestamp;
use crate::config::{Checks, FaultCode, Section};
use crate::error::{Error, Kind, Result};
use crate::id::ReservationId;
use crate::money::{Usage, Usd};
use crate::principal::Principal;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What counts against a budget. What nobody knows counts as much as it can have been; an unpriced model costs tokens
/// only.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Charge {
    /// Tokens of models, sent and received.
    pub tokens: u64,
    /// What they cost.
    pub usd: Usd,
}

impl Charge {
    /// The use of an attempt that used at most `bound`.
    #[must_use]
    pub fn of(usage: Usage, bound: Self) -> Self {
        if usage == Usage::UNKNOWN {
            return bound;
        }
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        Self { tokens, usd: usage.cost_usd.unwrap_or(bound.usd) }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            usd: self.usd.checked_add(other.usd).unwrap_or(self.usd),
        }
    }

    /// What is left without the other; never less than nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        let usd = if other.usd < self.usd { self.usd - other.usd } else { Usd::ZERO };
        Self { tokens: self.tokens.saturating_sub(other.tokens), usd }
    }
}

/// What each user may use, over all runs, agents and nodes; absent for no limit. Days and months are those of UTC.
/// What is reserved under a limit is counted; without any limit nothing is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default)]
pub struct BudgetLimits {
    /// The tokens of models, sent and received, that one user may use in a day (UTC).
    #[schemars(range(min = 1_000, max = 1_000_000_000_000_u64))]
    pub user_day_tokens: Option<u64>,
    /// What one user may pay for models in a day (UTC), in US dollars. Models without a price count by their tokens
    /// only.
    pub user_day_usd: Option<Usd>,
    /// The tokens that one user may use in a calendar month (UTC).
    #[schemars(range(min = 1_000, max = 1_000_000_000_000_u64))]
    pub user_month_tokens: Option<u64>,
    /// What one user may pay in a calendar month (UTC), in US dollars.
    pub user_month_usd: Option<Usd>,
}

impl Section for BudgetLimits {
    fn check(&self, checks: &mut Checks<'_>) {
        for (key, usd) in
            [("user_day_usd", self.user_day_usd), ("user_month_usd", self.user_month_usd)]
        {
            checks.require(
                &[key],
                usd.is_none_or(|usd| usd > Usd::ZERO),
                FaultCode::Range,
                "a user may pay nothing for models",
                "make it more than 0, or configure no model",
            );
        }
        let within = self.user_day_tokens.zip(self.user_month_tokens);
        checks.require(
            &["user_day_tokens", "user_month_tokens"],
            within.is_none_or(|(day, month)| day <= month),
            FaultCode::Conflict,
            "a day may use more tokens than its month",
            "lower the day's, or raise the month's",
        );
        let within = self.user_day_usd.zip(self.user_month_usd);
        checks.require(
            &["user_day_usd", "user_month_usd"],
            within.is_none_or(|(day, month)| day <= month),
            FaultCode::Conflict,
            "a day may cost more than its month",
            "lower the day's, or raise the month's",
        );
    }
}

impl BudgetLimits {
    /// Whether anything is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The limits of one period, of tokens and of money.
    #[must_use]
    pub fn of(&self, period: Period) -> (Option<u64>, Option<Usd>) {
        match period {
            Period::Day => (self.user_day_tokens, self.user_day_usd),
            Period::Month => (self.user_month_tokens, self.user_month_usd),
        }
    }
}

/// For how long a budget holds before it begins anew, in UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Period {
    /// Every period, the shorter first.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// As in `budget_warning`, where the scope is a user's.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Day => "user_day",
            Self::Month => "user_month",
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

/// What of a period is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Used {
    /// Which period.
    pub period: Period,
    /// What was used since it began.
    pub spent: Charge,
    /// What questions that are under way may use.
    pub reserved: Charge,
    /// When the next one begins.
    pub renews_at: Timestamp,
}

/// A reservation that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Its id, made by who asks: the same again counts once.
    pub id: ReservationId,
    /// What may be used at most.
    pub most: Charge,
}

/// What a user has, and whether a reservation was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Whether it was; else nothing was reserved.
    pub granted: bool,
    /// Day and month, with the reservation where it was granted.
    pub used: [Used; 2],
}

/// Keeps what users have used of their budgets, for all nodes that share the store. It goes by one clock: its
/// server's where it has one, else the host's.
#[async_trait]
pub trait BudgetStore: fmt::Debug + Send + Sync {
    /// Reserves under every limit, all or nothing, in one atomic step, until `life` from now: what is not renewed or
    /// settled by then is free again.
    ///
    /// # Errors
    /// `not_found` for a user who was erased; `unavailable`, `storage_failed`.
    async fn reserve(
        &self,
        principal: &Principal,
        reservation: Reservation,
        limits: &BudgetLimits,
        life: Duration,
    ) -> Result<Granted>;

    /// Keeps reservations until `life` from now; those that have lapsed stay so.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn renew(&self, reservations: &[ReservationId], life: Duration) -> Result<()>;

    /// Ends a reservation, also one that has lapsed, and counts what was used in the periods of now. The same one
    /// again within a day counts nothing; nor does one of a user who was erased.
    ///
    /// # Errors
    /// `unavailable`, `storage_failed`.
    async fn settle(
        &self,
        principal: &Principal,
        reservation: ReservationId,
        charge: Charge,
    ) -> Result<()>;

    /// What the user has used: day and month. Needs the scope `read`.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`, `storage_failed`.
    async fn used(&self, principal: &Principal) -> Result<[Used; 2]>;
}

/// For how long it is known that a reservation was settled.
pub(crate) const SETTLED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is left of one limit.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Balance {
    /// Of which period.
    #[serde(flatten)]
    pub used: Used,
    /// The limits of the period; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_tokens: Option<u64>,
    /// In US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_usd: Option<Usd>,
    /// What may still be reserved; absent where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_tokens: Option<u64>,
    /// In US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_usd: Option<Usd>,
}

impl Balance {
    /// What these limits leave of what is used.
    #[must_use]
    pub fn new(used: Used, limits: &BudgetLimits) -> Self {
        let (limit_tokens, limit_usd) = limits.of(used.period);
        let gone = used.spent.plus(used.reserved);
        let most =
            Charge { tokens: limit_tokens.unwrap_or_default(), usd: limit_usd.unwrap_or_default() };
        let left = most.less(gone);
        Self {
            used,
            limit_tokens,
            limit_usd,
            left_tokens: limit_tokens.map(|_| left.tokens),
            left_usd: limit_usd.map(|_| left.usd),
        }
    }

    /// Whether this much more fits.
    #[must_use]
    pub fn fits(&self, most: Charge) -> bool {
        self.left_tokens.is_none_or(|left| most.tokens <= left)
            && self.left_usd.is_none_or(|left| most.usd <= left)
    }
}

/// The refusal of a reservation: what is short, how much is left, and when it renews.
pub(crate) fn exhausted(
    used: &[Used; 2],
    limits: &BudgetLimits,
    most: Charge,
    now: Timestamp,
) -> Error {
    let balances = used.map(|used| Balance::new(used, limits));
    // The longest wait is the one that helps.
    let short = balances.iter().rfind(|balance| !balance.fits(most));
    let Some(short) = short else {
        return Error::internal("budget.reserve", "a reservation that fits was refused");
    };
    let Balance { limit_tokens, limit_usd, left_tokens, left_usd, .. } = short;
    let Used { period, renews_at, .. } = short.used;
    let tokens = limit_tokens.zip(*left_tokens).filter(|(_, left)| most.tokens > *left);
    let (limit, left, asked) = match (tokens, limit_usd.zip(*left_usd)) {
        (Some((limit, left)), _) => {
            (format!("{limit} tokens"), format!("{left} tokens"), format!("{}", most.tokens))
        }
        (None, Some((limit, left))) => {
            (format!("${limit}"), format!("${left}"), format!("${}", most.usd))
        }
        (None, None) => Default::default(),
    };
    metrics::counter!("apex_budget_refused_total", "scope" => period.scope()).increment(1);
    let told = format!(
        "your budget of {limit} a {period} has {left} left, and this question may use {asked}; it renews at {renews_at}"
    );
    Error::new(Kind::BudgetExhausted, "budget.reserve", told)
        .with("scope", period.scope())
        .with("limit", limit)
        .with("left", left)
        .with("renews_at", renews_at)
        .with_retry_after(renews_at.since(now))
}
