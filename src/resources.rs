//! What a node runs out of, and looking at it.

use apex_agents::{Engine, EngineOptions};
use apex_core::health::{HealthConfig, Observer, Resource};
use apex_core::store::Stores;
use apex_transport::{Hub, TransportConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How soon the limit must be for a warning: places come and go within the hour, a disk is not bought in one.
const SOON: Duration = Duration::from_secs(30 * 60);
const DISK_SOON: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What is watched of this node.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    connections: Arc<Resource>,
    runs: Arc<Resource>,
    queue: Arc<Resource>,
    disk: Option<(Arc<Resource>, PathBuf)>,
}

impl Resources {
    pub(crate) fn new(
        health: &HealthConfig,
        transport: &TransportConfig,
        engine: &EngineOptions,
        database: Option<PathBuf>,
    ) -> Self {
        let resource = |name, limit: usize| Arc::new(Resource::new(name, limit as f64, SOON));
        Self {
            connections: resource("connections", transport.hub.connections),
            runs: resource("runs", engine.parallel_runs),
            queue: resource("queue", health.queued_runs),
            disk: database
                .map(|path| (Arc::new(Resource::new("disk_percent", 100.0, DISK_SOON)), path)),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        let places = [&self.connections, &self.runs, &self.queue];
        let disk = self.disk.iter().map(|(disk, _)| disk);
        places.into_iter().chain(disk).map(Arc::clone).collect()
    }

    /// Looks at them for as long as the observer is there.
    pub(crate) fn watch(
        self,
        observer: &Observer,
        stores: &Stores,
        engine: &Arc<Engine>,
        hub: &Hub,
    ) {
        // The engine ends when nobody else needs it.
        let (engine, runs, hub) = (Arc::downgrade(engine), Arc::clone(&stores.runs), hub.clone());
        observer.watch(move || {
            let (all, engine, runs, hub) =
                (self.clone(), engine.clone(), Arc::clone(&runs), hub.clone());
            async move {
                all.connections.observe(hub.statistics().connections as f64);
                if let Some(engine) = engine.upgrade() {
                    all.runs.observe(engine.running() as f64);
                }
                if let Ok(Some(queued)) = runs.queued().await {
                    all.queue.observe(queued as f64);
                }
                if let Some((disk, path)) = all.disk
                    && let Ok(Some(used)) = tokio::task::spawn_blocking(move || used(&path)).await
                {
                    disk.observe(used);
                }
            }
        });
    }
}

/// How much of the disk under a file is used, in percent of what this user may use; `None` where nobody tells.
#[cfg(unix)]
fn used(path: &Path) -> Option<f64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let disk = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    let taken = disk.f_blocks.saturating_sub(disk.f_bfree) as f64;
    let all = taken + disk.f_bavail as f64;
    (all > 0.0).then(|| 100.0 * taken / all)
}

#[cfg(not(unix))]
fn used(_: &Path) -> Option<f64> {
    None
}
