//! Files that users bring, and artifacts that runs make.

use crate::clock::Timestamp;
use crate::config::{Checks, FaultCode, Section};
use crate::error::{Error, Kind, Result};
use crate::id::{ArtifactId, FileId, RunId};
use crate::principal::Principal;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A user's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FileInfo {
    /// Its id.
    pub file: FileId,
    /// Its name, as the user gave it: text for people, never a path.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
    /// When it was brought.
    pub at: Timestamp,
}

/// What users may upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct FileLimits {
    /// The largest file, in bytes.
    #[schemars(range(min = 1_024, max = 1_099_511_627_776_u64))]
    pub file_bytes: u64,
    /// All files of one user together, in bytes.
    #[schemars(range(min = 1_024, max = 1_125_899_906_842_624_u64))]
    pub user_bytes: u64,
    /// How many files one user may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub user_files: usize,
}

impl Section for FileLimits {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["user_bytes", "file_bytes"],
            self.file_bytes <= self.user_bytes,
            FaultCode::Conflict,
            "a single file may be larger than all files of a user together",
            "raise user_bytes or lower file_bytes",
        );
    }
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { file_bytes: 2 << 30, user_bytes: 8 << 30, user_files: 1_000 }
    }
}

impl FileLimits {
    /// Passes while a body of `bytes` so far fits beside the `used` bytes in `files` files of its user's.
    pub(crate) fn check(&self, bytes: u64, used: u64, files: usize) -> Result<()> {
        let (what, limit) = if bytes > self.file_bytes {
            ("the file is larger than a file may be", self.file_bytes)
        } else if used.saturating_add(bytes) > self.user_bytes {
            ("your files together are larger than they may be; delete some", self.user_bytes)
        } else if files >= self.user_files {
            ("you have as many files as you may have; delete some", self.user_files as u64)
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::TooLarge, "file.put", what).with("limit", limit))
    }
}

/// The longest name of a file or an artifact, in bytes.
const MAX_NAME: usize = 1_024;

/// Passes a name that people can read and a store can keep.
pub(crate) fn check_name(name: &str, operation: &'static str) -> Result<()> {
    if !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::new(
        Kind::BadRequest,
        operation,
        "a name has 1 to 1024 bytes and no control characters",
    ))
}

/// Passes what an artifact may be.
pub(crate) fn check_artifact(name: &str, content: &[u8]) -> Result<()> {
    check_name(name, "artifact.put")?;
    if content.len() <= MAX_ARTIFACT {
        return Ok(());
    }
    Err(Error::new(
        Kind::TooLarge,
        "artifact.put",
        "the artifact is larger than an artifact may be",
    )
    .with("bytes", content.len())
    .with("limit", MAX_ARTIFACT))
}

/// A digest as the wire shows it.
pub(crate) fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The answer when the id of a file is in use.
pub(crate) fn id_taken() -> Error {
    Error::new(
        Kind::Conflict,
        "file.put",
        "a file is kept under this id already; bring this one under a new id",
    )
}

/// A body as it arrives.
pub type Body = BoxStream<'static, Result<Bytes>>;

/// The content of a file, read from its start by a thread that may block.
pub type Content = Box<dyn std::io::Read + Send>;

/// Keeps the files that users bring. Reading needs the scope `read`, bringing and deleting `run`; without it,
/// `forbidden`.
#[async_trait]
pub trait FileStore: fmt::Debug + Send + Sync {
    /// Keeps a file, streamed. When the body fails or passes a limit, nothing is kept.
    ///
    /// # Errors
    /// `too_large` past the limits; `bad_request` for a name that is empty, too long or has control characters;
    /// `conflict` when the id is in use; what the body says.
    async fn put(
        &self,
        principal: &Principal,
        file: FileId,
        name: &str,
        body: Body,
    ) -> Result<FileInfo>;

    /// The user's files, newest first.
    ///
    /// # Errors
    /// `storage_failed`.
    async fn list(&self, principal: &Principal) -> Result<Vec<FileInfo>>;

    /// One file's description.
    ///
    /// # Errors
    /// `not_found`.
    async fn info(&self, principal: &Principal, file: FileId) -> Result<FileInfo>;

    /// One file's content.
    ///
    /// # Errors
    /// `not_found`.
    async fn open(&self, principal: &Principal, file: FileId) -> Result<Content>;

    /// Deletes a file.
    ///
    /// # Errors
    /// `not_found`.
    async fn delete(&self, principal: &Principal, file: FileId) -> Result<()>;
}

/// A result that a run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ArtifactInfo {
    /// Its id.
    pub artifact: ArtifactId,
    /// The run that made it.
    pub run: RunId,
    /// Its file name, such as `report.json`; unique within the run.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
}

/// Keeps what runs make. An artifact's id follows from its run and name, so a step that is done again puts the same
/// artifact again. What a run of a shared conversation made is read by whom it is shared with, too. Scopes are those of
/// files.
#[async_trait]
pub trait ArtifactStore: fmt::Debug + Send + Sync {
    /// Keeps an artifact; one of the same run and name is replaced.
    ///
    /// # Errors
    /// `too_large` past 64 MiB; `bad_request` for a name as with files; `not_found` when the run is another user's.
    async fn put(
        &self,
        principal: &Principal,
        run: RunId,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<ArtifactInfo>;

    /// The artifacts of a run, by name.
    ///
    /// # Errors
    /// `storage_failed`.
    async fn list(&self, principal: &Principal, run: RunId) -> Result<Vec<ArtifactInfo>>;

    /// One artifact with its content.
    ///
    /// # Errors
    /// `not_found`.
    async fn read(
        &self,
        principal: &Principal,
        artifact: ArtifactId,
    ) -> Result<(ArtifactInfo, Bytes)>;

    /// Deletes the artifacts of a run.
    ///
    /// # Errors
    /// `storage_failed`.
    async fn delete(&self, principal: &Principal, run: RunId) -> Result<()>;
}

/// The id of the artifact `name` of `run`.
#[must_use]
pub fn artifact_id(run: RunId, name: &str) -> ArtifactId {
    ArtifactId::derived(&[run.as_bytes(), name.as_bytes()])
}

/// The largest artifact, in bytes.
pub const MAX_ARTIFACT: usize = 64 * 1024 * 1024;
