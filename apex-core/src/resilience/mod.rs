//! Failures that stay where they happen: a [`Policy`] before each dependency, made from retry, breaker, deadline,
//! bulkhead and fallback in the one right order, and [`Endpoints`] where a dependency has several addresses.
//!
//! Time is tokio's monotonic clock throughout, so a wall clock that jumps changes nothing. From `tower` comes the
//! retry budget; why the rest is ours stands at each piece.

mod breaker;
mod bulkhead;
mod call;
mod config;
mod deadline;
mod endpoints;
mod fallback;
mod line;
mod pace;
mod policy;
mod random;
mod retry;

pub use breaker::{
    Breaker, BreakerExchange, BreakerHint, BreakerOptions, BreakerState, BreakerStatus, HINT_LIFE,
    Permit,
};
pub use bulkhead::Bulkhead;
pub use call::{Call, Effect};
pub use config::ResilienceConfig;
pub use deadline::Deadline;
pub use endpoints::{Endpoint, EndpointStatus, Endpoints, Need};
pub use fallback::{Answer, Degraded};
#[cfg(feature = "postgres")]
pub(crate) use line::Line;
pub use pace::{Pace, PaceLimits};
pub use policy::{Policy, PolicyOptions};
pub use retry::{Backoff, Budget};
