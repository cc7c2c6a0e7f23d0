use apex_core::error::Result;
use apex_core::file::{ArtifactInfo, ArtifactStore};
use apex_core::id::{ArtifactId, RunId};
use apex_core::principal::Principal;
use apex_core::store::Stores;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// An artifact store that alters what it is given to keep: what it is called, and its content.
pub struct Altering<F> {
    artifacts: Arc<dyn ArtifactStore>,
    alter: F,
}

impl<F: Fn(&str, Bytes) -> Bytes + Send + Sync + 'static> Altering<F> {
    /// The same stores with such an artifact store.
    #[must_use]
    pub fn stores(stores: Stores, alter: F) -> Stores {
        let artifacts = Arc::new(Self { artifacts: Arc::clone(&stores.artifacts), alter });
        Stores { artifacts, ..stores }
    }
}

impl<F> fmt::Debug for Altering<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Altering")
    }
}

#[async_trait]
impl<F: Fn(&str, Bytes) -> Bytes + Send + Sync> ArtifactStore for Altering<F> {
    async fn put(
        &self,
        principal: &Principal,
        run: RunId,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<ArtifactInfo> {
        let content = (self.alter)(name, content);
        self.artifacts.put(principal, run, name, media_type, content).await
    }

    async fn list(&self, principal: &Principal, run: RunId) -> Result<Vec<ArtifactInfo>> {
        self.artifacts.list(principal, run).await
    }

    async fn read(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<(ArtifactInfo, Bytes)> {
        self.artifacts.read(principal, artifact).await
    }

    async fn delete(&self, principal: &Principal, run: RunId) -> Result<()> {
        self.artifacts.delete(principal, run).await
    }
}
