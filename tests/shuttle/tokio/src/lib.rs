//! Tokio as shuttle models it. What it does not model is tokio's own, one step as far as shuttle can see.

pub use shuttle_tokio::*;

/// Locks and channels.
pub mod sync {
    pub use shuttle_tokio::sync::*;
    pub use tokio::sync::{broadcast, watch};
}
