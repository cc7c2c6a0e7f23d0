use crate::failure::Failure;
use apex_core::error::{Error, Kind};
use apex_core::limit::{Grant, LimitKey, LimitStore, Rate};
use apex_core::principal::Principal;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// How many tool calls each user may make: so many at once, and as many more in a minute, over all nodes.
#[derive(Debug)]
pub(crate) struct Quota {
    limits: Arc<dyn LimitStore>,
    rate: Rate,
}

impl Quota {
    pub(crate) fn new(limits: Arc<dyn LimitStore>, per_minute: u32) -> Self {
        let per_minute = per_minute.max(1);
        Self { limits, rate: Rate { burst: per_minute, refill: MINUTE / per_minute } }
    }

    /// Takes one call.
    ///
    /// # Errors
    /// `rate_limited` where there is none; what the store says: a call that nobody can count is not made.
    pub(super) async fn take(&self, principal: &Principal, tool: &str) -> Result<(), Failure> {
        let key = LimitKey::new("tool_calls", principal.user())?;
        let Grant::Refused { retry_after } = self.limits.take(&key, self.rate, 1).await? else {
            return Ok(());
        };
        let (calls, wait) = (self.rate.burst, retry_after.as_secs_f64());
        let told = format!(
            "{tool} is not called: you may make {calls} calls of tools a minute; the next one in {wait:.1} s"
        );
        let refused = Error::new(Kind::RateLimited, "tool.call", told);
        Err(refused.with_retry_after(retry_after).into())
    }
}
