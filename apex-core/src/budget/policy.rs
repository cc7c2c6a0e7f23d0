use super::BudgetLimits;
use crate::error::Result;
use crate::principal::Principal;
use async_trait::async_trait;
use std::fmt;

/// What each user may use, where users differ: by what they pay the host for, say. It is asked before each question to a
/// model, so it remembers what takes long to find out. [`BudgetLimits`] are the policy of a host whose users are all alike.
#[async_trait]
pub trait BudgetPolicy: fmt::Debug + Send + Sync {
    /// The limits that hold for this user now. A lower one takes back nothing that is reserved.
    ///
    /// # Errors
    /// What the host says; whoever asks for a budget gets it, and nothing is spent.
    async fn limits(&self, principal: &Principal) -> Result<BudgetLimits>;
}

#[async_trait]
impl BudgetPolicy for BudgetLimits {
    async fn limits(&self, _: &Principal) -> Result<BudgetLimits> {
        Ok(*self)
    }
}
