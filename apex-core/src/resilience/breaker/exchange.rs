//! What nodes tell each other about a dependency: hints, never orders.

use super::super::random::Random;
use super::{Breaker, BreakerState};
use crate::error::Result;
use crate::id::NodeId;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How long a hint holds without being said again.
pub const HINT_LIFE: Duration = Duration::from_secs(10);
/// The nodes whose hints are kept for one dependency.
const MAX_PEERS: usize = 1_024;
/// The other nodes that may probe at the same time before this one waits.
const PROBING_AT_A_TIME: usize = 2;
/// An exchange that does not answer is not waited for.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(1);

/// What one node says about one dependency.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BreakerHint {
    /// About what.
    pub dependency: String,
    /// Who says it.
    pub node: NodeId,
    /// Whether it tries whether the dependency is back; else it holds calls back.
    pub probing: bool,
}

/// Carries hints between nodes, such as a Redis hash or a table; each implementation lets a hint lapse after
/// [`HINT_LIFE`].
#[async_trait]
pub trait BreakerExchange: fmt::Debug + Send + Sync {
    /// Says this node's hints; what it does not say again has passed.
    ///
    /// # Errors
    /// The exchange did not take them.
    async fn publish(&self, node: NodeId, hints: Vec<BreakerHint>) -> Result<()>;

    /// Every node's hints that still hold.
    ///
    /// # Errors
    /// The exchange did not give them.
    async fn hints(&self) -> Result<Vec<BreakerHint>>;
}

/// What the other nodes said about one dependency, and when.
#[derive(Debug, Default)]
pub(super) struct Peers {
    hints: HashMap<NodeId, (bool, Instant)>,
    /// Since when this node waits for its turn to probe.
    waits_since: Option<Instant>,
}

impl Peers {
    /// The nodes that have trouble with it.
    pub(super) fn open(&self, now: Instant) -> usize {
        self.fresh(now).count()
    }

    /// How long to wait before probing, when enough others do. Never longer than `most` in all, so that nobody can
    /// keep this node from finding out by itself.
    pub(super) fn wait_for_turn(
        &mut self,
        now: Instant,
        most: Duration,
        random: &Random,
    ) -> Option<Duration> {
        if self.hints.is_empty()
            || self.fresh(now).filter(|probing| *probing).count() < PROBING_AT_A_TIME
        {
            self.waits_since = None;
            return None;
        }
        let since = *self.waits_since.get_or_insert(now);
        (now - since < most).then(|| Duration::from_millis(500).mul_f64(1.0 + random.share()))
    }

    fn hear(&mut self, node: NodeId, probing: bool, now: Instant) {
        self.hints.retain(|_, (_, at)| now.saturating_duration_since(*at) < HINT_LIFE);
        if self.hints.len() < MAX_PEERS || self.hints.contains_key(&node) {
            self.hints.insert(node, (probing, now));
        }
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = bool> {
        let fresh = move |at: &Instant| now.saturating_duration_since(*at) < HINT_LIFE;
        self.hints.values().filter(move |(_, at)| fresh(at)).map(|(probing, _)| *probing)
    }
}

impl Breaker {
    /// Says and hears hints once for several breakers of this node; the host calls it every second or so. When the
    /// exchange is gone the breakers go on by themselves.
    ///
    /// # Errors
    /// The exchange did not answer, for the host's log.
    pub async fn share(
        breakers: &[&Self],
        exchange: &dyn BreakerExchange,
        node: NodeId,
    ) -> Result<()> {
        let limit = super::super::Deadline::after(EXCHANGE_LIMIT);
        let own = breakers.iter().filter_map(|breaker| breaker.hint(node)).collect();
        let outcome = crate::error::Outcome::Unknown;
        limit.limit("breaker.share", outcome, exchange.publish(node, own)).await?;
        let heard = limit.limit("breaker.share", outcome, exchange.hints()).await?;
        let now = Instant::now();
        for hint in heard.iter().filter(|hint| hint.node != node) {
            if let Some(breaker) =
                breakers.iter().find(|breaker| breaker.dependency == hint.dependency)
            {
                breaker.peers.lock().hear(hint.node, hint.probing, now);
            }
        }
        Ok(())
    }

    fn hint(&self, node: NodeId) -> Option<BreakerHint> {
        let probing = match self.state() {
            BreakerState::Open => false,
            BreakerState::HalfOpen => true,
            // What an operator forced here says nothing about the dependency.
            BreakerState::Closed | BreakerState::ForcedOpen | BreakerState::Disabled => {
                return None;
            }
        };
        Some(BreakerHint { dependency: self.dependency.clone(), node, probing })
    }
}
