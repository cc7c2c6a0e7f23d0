//! The hub and the subscriptions of netra-apex in every order that [shuttle](https://docs.rs/shuttle) comes up with: the
//! very sources, over locks and channels whose next step it decides. No time passes in it, so that whoever waits for
//! what never comes waits for ever, which it reports.

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a part of what the room has is tried here"
)]
#[path = "../../../apex-transport/src/config.rs"]
mod config;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a part of what the room has is tried here"
)]
#[path = "../../../apex-transport/src/hub.rs"]
mod hub;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "a part of what the room has is tried here"
)]
#[path = "../../../apex-transport/src/protocol/mod.rs"]
mod protocol;
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a part of what the room has is tried here"
)]
#[path = "../../../apex-transport/src/share.rs"]
mod share;

pub mod connecting;
pub mod reading;

/// Tries so many orders of what `scenario` does: 300, or as many as `APEX_ORDERS` says, or 10,000 with `APEX_FULL`. One
/// that fails is printed with the schedule that `shuttle::replay` takes.
///
/// # Panics
/// When one fails.
pub fn try_orders<F: Future<Output = ()> + 'static>(scenario: fn() -> F) {
    let told = std::env::var("APEX_ORDERS").ok().and_then(|orders| orders.parse().ok());
    let full = std::env::var_os("APEX_FULL").map(|_| 10_000);
    shuttle::check_random(
        move || shuttle::future::block_on(scenario()),
        told.or(full).unwrap_or(300),
    );
}
