//! The ground floor of netra-apex.

pub mod clock;
pub mod error;
pub mod id;
pub mod money;
pub mod principal;
pub mod usage;
