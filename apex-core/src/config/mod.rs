//! Start-up configuration.

mod environment;
mod secret;

pub use environment::Environment;
pub use secret::Secret;
