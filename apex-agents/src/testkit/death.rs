use super::gate::{Asks, Gate, behind};
use super::node::{Node, clock, runtime};
use crate::engine::EngineOptions;
use crate::registry::Registry;
use apex_core::clock::Clock;
use apex_core::error::Result;
use apex_core::principal::Principal;
use apex_core::run::Accepted;
use apex_core::store::{Stores, memory};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How many writes of one run are died at, at most.
const MOST_WRITES: usize = 1_000;

/// Whether the write at which a node dies takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// It does not.
    Before,
    /// It does, and its answer does not come back.
    After,
}

/// A node that dies at one of its writes: from then on, no call returns.
#[derive(Debug)]
pub struct Dying {
    left: Mutex<usize>,
    dies: Dies,
    /// Cancelled once it is dead.
    pub dead: CancellationToken,
}

impl Dying {
    /// A node that dies at its write number `write`, from 1.
    pub fn at(write: usize, dies: Dies) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(write), dies, dead: CancellationToken::new() })
    }

    async fn live(&self) {
        if self.dead.is_cancelled() {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Gate for Dying {
    async fn enter(&self, asks: Asks) -> Result<()> {
        self.live().await;
        if matches!(asks, Asks::Append | Asks::Say) {
            let mut left = self.left.lock();
            *left = left.saturating_sub(1);
            if *left == 0 && self.dies == Dies::Before {
                self.dead.cancel();
            }
        }
        self.live().await;
        Ok(())
    }

    async fn leave(&self, _asks: Asks) {
        if *self.left.lock() == 0 {
            self.dead.cancel();
        }
        self.live().await;
    }
}

/// A run whose node died at one of its writes, and the node that goes on with it.
#[derive(Debug)]
pub struct Death {
    /// At which write.
    pub write: usize,
    /// Whether that took effect.
    pub dies: Dies,
    /// The node that goes on.
    pub node: Node,
    /// Who asked.
    pub user: Principal,
    /// The run.
    pub accepted: Accepted,
}

/// Has nodes die at each write of a run by which events, the state or what is said are recorded: before it takes effect,
/// and after. A `registry` is made for each node, and `check` is shown each run while another node goes on with it; each
/// has time, ids and stores of its own. Says at how many writes it died.
pub fn every_death<W>(
    text: &str,
    mut world: impl FnMut() -> W,
    registry: impl Fn(&W, &Stores, &Arc<dyn Clock>) -> (Registry, EngineOptions),
    check: impl Fn(W, Death) -> BoxFuture<'static, ()>,
) -> usize {
    let mut deaths = 0;
    for dies in [Dies::Before, Dies::After] {
        for write in 1..MOST_WRITES {
            let world = world();
            let died = runtime().block_on(async {
                let clock = clock();
                let stores = memory::open(memory::MemoryOptions::default(), Arc::clone(&clock));
                let (user, accepted) = Node::queued(&stores, &clock, text).await;
                let dying = Dying::at(write, dies);
                let node = |stores: &Stores| {
                    let (registry, options) = registry(&world, stores, &clock);
                    Node::on(stores.clone(), Arc::clone(&clock), registry, options)
                };
                let first = node(&behind(&stores, Arc::<Dying>::clone(&dying) as _));
                let died = tokio::select! {
                    () = dying.dead.cancelled() => true,
                    _ = first.ended(&user, accepted.run) => false,
                };
                if !died {
                    return false;
                }
                let node = node(&stores);
                drop(first);
                check(world, Death { write, dies, node, user, accepted }).await;
                true
            });
            if !died {
                break;
            }
            deaths += 1;
        }
    }
    deaths
}
