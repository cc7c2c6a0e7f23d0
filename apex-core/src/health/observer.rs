use super::config::HealthConfig;
use super::watch::Health;
use crate::clock::Clock;
use crate::error::{AlertSink, ErrorLog};
use crate::id::NodeId;
use crate::resilience::BreakerExchange;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often a node looks at itself.
const LOOK: Duration = Duration::from_secs(10);
/// How often it tells other nodes of its breakers.
const SHARE: Duration = Duration::from_secs(1);

/// What a process tells about its work: how it is doing, and what went wrong. One for a process; all clones are the
/// same.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    health: Arc<Health>,
    errors: Arc<ErrorLog>,
    watching: OnceLock<Watching>,
    sharing: OnceLock<Watching>,
}

impl Observer {
    /// What watches over `health`, and counts failures by its configuration and tells the host's callback.
    #[must_use]
    pub fn new(health: Health, clock: Arc<dyn Clock>, sink: Arc<dyn AlertSink>) -> Self {
        let errors = Arc::new(ErrorLog::new(clock, health.escalation(), sink));
        Self(Arc::new(Inner {
            health: Arc::new(health),
            errors,
            watching: OnceLock::new(),
            sharing: OnceLock::new(),
        }))
    }

    /// One that tells nobody: for a room that is used on its own.
    #[must_use]
    pub fn quiet(clock: Arc<dyn Clock>) -> Self {
        let health = Health::new(Arc::clone(&clock), HealthConfig::default());
        Self::new(health, clock, Arc::new(()))
    }

    /// How this node is doing.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What went wrong.
    #[must_use]
    pub fn errors(&self) -> &Arc<ErrorLog> {
        &self.0.errors
    }

    /// Looks at this node every ten seconds, on the Tokio runtime that this is called in and until the last clone is
    /// dropped: `observe` tells its resources what is in use, and what a person should know is handed to the host's
    /// callback. A second call changes nothing.
    pub fn watch<F, W>(&self, observe: F)
    where
        F: Fn() -> W + Send + 'static,
        W: Future<Output = ()> + Send,
    {
        // Not the observer itself: it would never be dropped.
        let (health, errors) = (Arc::clone(&self.0.health), Arc::clone(&self.0.errors));
        let look = async move {
            loop {
                observe().await;
                let report = health.report().await;
                for notice in health.notices(&report) {
                    errors.notice(&notice);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        self.0.watching.get_or_init(|| Watching(tokio::spawn(look)));
    }

    /// Tells other nodes of the breakers under watch, and hears of theirs, every second and for as long as
    /// [`watch`](Self::watch) looks. While the exchange is away each node goes by its own calls. A second call changes
    /// nothing.
    pub fn share(&self, exchange: Arc<dyn BreakerExchange>, node: NodeId) {
        let health = Arc::clone(&self.0.health);
        let share = async move {
            let mut away = false;
            loop {
                let shared = health.share(&*exchange, node).await;
                match (&shared, away) {
                    (Err(error), false) => {
                        tracing::warn!(%error, "breakers are not shared; each node goes by its own calls");
                    }
                    (Ok(()), true) => tracing::info!("breakers are shared again"),
                    (Err(_), true) | (Ok(()), false) => {}
                }
                away = shared.is_err();
                tokio::time::sleep(SHARE).await;
            }
        };
        self.0.sharing.get_or_init(|| Watching(tokio::spawn(share)));
    }
}

/// The look under way; it ends with this.
#[derive(Debug)]
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}
