//! netra-apex: agents.

pub mod cost;
