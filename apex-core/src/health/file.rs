use super::probe::Probe;
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// Whether a file that a node holds open is still the one in its place: one that was deleted or replaced takes
/// writes until the node stops, and then they are gone.
#[derive(Debug)]
pub struct FileProbe {
    dependency: String,
    path: PathBuf,
    opened: Option<(u64, u64)>,
}

impl FileProbe {
    /// A probe of the file that is there now.
    #[must_use]
    pub fn new(dependency: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { dependency: dependency.into(), opened: identity(&path), path }
    }
}

#[async_trait]
impl Probe for FileProbe {
    fn dependency(&self) -> &str {
        &self.dependency
    }

    fn is_required(&self) -> bool {
        true
    }

    async fn probe(&self) -> Result<()> {
        let path = self.path.clone();
        let now = tokio::task::spawn_blocking(move || identity(&path)).await.unwrap_or_default();
        if self.opened.is_some() && now == self.opened {
            return Ok(());
        }
        let what = if now.is_some() { "replaced" } else { "deleted" };
        let message = format!(
            "the file was {what} under this node; put it back from a backup and start the node again"
        );
        Err(Error::new(Kind::Storage, "file.probe", message).with("file", self.path.display()))
    }
}

/// What tells a file from another one of its name.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|_| (0, 0))
}
