//! What every backend must do, as a suite that runs unchanged against each, also against a host's own: implement
//! [`Backend`] and run every [`Case`] of [`suite`]. And a [`VirtualClock`] that a test moves by hand.
//!
//! A case fails by panicking.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a case fails by panicking"
)]

mod artifact;
mod audit;
mod bench;
mod between;
mod budget;
mod clock;
mod erase;
mod export;
mod file;
pub mod history;
mod inbox;
mod isolation;
mod lease;
mod limit;
pub mod line;
pub mod loss;
mod memory;
mod model;
mod random;
mod run_log;
mod search;
mod session;
#[cfg(feature = "postgres")]
pub mod sessions;
mod share;
mod subscription;
mod thread;
mod ticket;
mod usage;
mod user;
mod walk;

pub use bench::{Bench, Limits, completed, thought};
pub use between::{Between, Over};
pub use clock::VirtualClock;
pub use random::Random;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::Stores;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// A backend under test.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Its name in the report, such as `sqlite`.
    fn name(&self) -> &'static str;

    /// New, empty stores.
    ///
    /// # Errors
    /// Whatever opening them says; the case then fails.
    async fn open(&self, limits: Limits, clock: Arc<dyn Clock>) -> Result<Stores>;
}

/// One thing that a backend must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// The seam that it is about, such as `run_log`.
    pub seam: &'static str,
    /// What must hold, in words joined by underscores.
    pub name: &'static str,
    run: fn(Arc<dyn Backend>) -> BoxFuture<'static, ()>,
}

impl Case {
    /// Runs it, on a tokio runtime with time enabled and at least two threads.
    ///
    /// # Panics
    /// When the backend does not do what it must.
    pub async fn run(&self, backend: Arc<dyn Backend>) {
        (self.run)(backend).await;
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.seam, self.name)
    }
}

/// Every case of every seam.
#[must_use]
pub fn suite() -> Vec<Case> {
    [
        run_log::cases(),
        lease::cases(),
        walk::cases(),
        subscription::cases(),
        inbox::cases(),
        isolation::cases(),
        thread::cases(),
        search::cases(),
        share::cases(),
        erase::cases(),
        export::cases(),
        file::cases(),
        artifact::cases(),
        ticket::cases(),
        session::cases(),
        user::cases(),
        audit::cases(),
        limit::cases(),
        usage::cases(),
        budget::cases(),
        memory::cases(),
    ]
    .concat()
}

/// Lists async functions over a backend as the cases of a seam.
macro_rules! cases {
    ($seam:literal: $($name:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<$crate::testkit::Case> {
            vec![$($crate::testkit::Case {
                seam: $seam,
                name: stringify!($name),
                run: |backend| Box::pin($name(backend)),
            },)*]
        }
    };
}
use cases;
