use super::erase::{Erase, Erased};
use super::run_log::MemoryRunLog;
use crate::error::{Error, Result};
use crate::file::{ArtifactInfo, ArtifactStore, artifact_id, check_artifact, hex};
use crate::id::{ArtifactId, RunId, UserId};
use crate::principal::{Principal, Scope};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// Artifacts in memory.
#[derive(Debug)]
pub(super) struct MemoryArtifactStore {
    pub(super) artifacts: Mutex<HashMap<ArtifactId, Entry>>,
    erased: Arc<Erased>,
    runs: Arc<MemoryRunLog>,
}

impl MemoryArtifactStore {
    pub(super) fn new(erased: Arc<Erased>, runs: Arc<MemoryRunLog>) -> Self {
        Self { artifacts: Mutex::default(), erased, runs }
    }

    /// Whether the principal may read it.
    fn opens(&self, entry: &Entry, principal: &Principal) -> bool {
        entry.user == principal.user()
            || self.runs.opens(entry.info.run, entry.user, principal.user())
    }
}

impl Erase for MemoryArtifactStore {
    fn erase(&self, user: UserId) {
        self.artifacts.lock().retain(|_, entry| entry.user != user);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    user: UserId,
    info: ArtifactInfo,
    content: Bytes,
}

#[async_trait]
impl ArtifactStore for MemoryArtifactStore {
    async fn put(
        &self,
        principal: &Principal,
        run: RunId,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<ArtifactInfo> {
        principal.require(Scope::Run, "artifact.put")?;
        check_artifact(name, &content)?;
        let info = ArtifactInfo {
            artifact: artifact_id(run, name),
            run,
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            bytes: content.len() as u64,
            sha256: hex(&Sha256::digest(&content)),
        };
        let mut artifacts = self.artifacts.lock();
        self.erased.refuse(principal.user(), "artifact.put")?;
        let anothers = |entry: &Entry| entry.info.run == run && entry.user != principal.user();
        if artifacts.values().any(anothers) {
            return Err(Error::not_found("artifact.put", "run"));
        }
        let entry = Entry { user: principal.user(), info: info.clone(), content };
        artifacts.insert(info.artifact, entry);
        Ok(info)
    }

    async fn list(&self, principal: &Principal, run: RunId) -> Result<Vec<ArtifactInfo>> {
        principal.require(Scope::Read, "artifact.list")?;
        let mut found: Vec<ArtifactInfo> = self
            .artifacts
            .lock()
            .values()
            .filter(|entry| entry.info.run == run && self.opens(entry, principal))
            .map(|entry| entry.info.clone())
            .collect();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn read(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<(ArtifactInfo, Bytes)> {
        principal.require(Scope::Read, "artifact.read")?;
        self.artifacts
            .lock()
            .get(&artifact)
            .filter(|entry| self.opens(entry, principal))
            .map(|entry| (entry.info.clone(), entry.content.clone()))
            .ok_or_else(|| Error::not_found("artifact.read", "artifact"))
    }

    async fn delete(&self, principal: &Principal, run: RunId) -> Result<()> {
        principal.require(Scope::Run, "artifact.delete")?;
        self.artifacts
            .lock()
            .retain(|_, entry| entry.user != principal.user() || entry.info.run != run);
        Ok(())
    }
}
