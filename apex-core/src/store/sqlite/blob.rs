use super::node::make_folder;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::file::{Body, hex};
use crate::id::BatchId;
use bytes::Bytes;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The ending of what is not complete.
const PART: &str = "part";

/// The pieces of a body that may wait for the disk.
const PIECES: usize = 8;

/// The content of files and artifacts, each in a file of its own under a random name. Content is complete and on
/// the disk before a row names it; what no row names is removed when the store is opened.
#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

/// The name of one content: made here, never from what a user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlobName([u8; 16]);

impl BlobName {
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Content that no row names yet: removed again unless it is kept.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: BlobName,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    path: Option<PathBuf>,
}

impl Written {
    /// Leaves it where it is.
    pub(super) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            remove(path);
        }
    }
}

impl Blobs {
    pub(super) fn new(folder: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { folder, clock }
    }

    pub(super) fn make_folder(&self) -> Result<()> {
        make_folder(&self.folder).map_err(|error| failed("sqlite.open", &self.folder, error))
    }

    /// Writes a body as it arrives; `check` is asked with the size so far before each piece.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        mut body: Body,
        check: impl Fn(u64) -> Result<()>,
    ) -> Result<Written> {
        let name = BlobName(*BatchId::new(&*self.clock).as_bytes());
        let path = self.path(name);
        let (pieces, arriving) = mpsc::channel(PIECES);
        let writing =
            tokio::task::spawn_blocking(move || write_pieces(operation, name, path, arriving));
        let mut bytes = 0;
        while let Some(piece) = body.next().await {
            // Leaving here drops `pieces` without an end, and what was written is removed.
            let piece = piece?;
            bytes += piece.len() as u64;
            check(bytes)?;
            if pieces.send(Piece::Bytes(piece)).await.is_err() {
                break;
            }
        }
        // When the other side has gone, it says why.
        let _ = pieces.send(Piece::End).await;
        writing.await.map_err(|error| {
            Error::internal(operation, "writing content was broken off").with_source(error)
        })?
    }

    /// Writes a content that is there already.
    pub(super) async fn write_whole(
        &self,
        operation: &'static str,
        content: Bytes,
    ) -> Result<Written> {
        let body = futures_util::stream::iter([Ok(content)]);
        self.write(operation, Box::pin(body), |_| Ok(())).await
    }

    /// Opens a content; `None` when it is not there.
    pub(super) fn open(&self, operation: &'static str, name: BlobName) -> Result<Option<File>> {
        let path = self.path(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(operation, &path, error)),
        }
    }

    /// Removes a content that no row names any more.
    pub(super) fn remove(&self, name: BlobName) {
        remove(&self.path(name));
    }

    /// Removes everything of ours that is not among `kept`.
    pub(super) fn keep_only(&self, kept: &HashSet<BlobName>) -> Result<()> {
        let unreadable = |error| failed("sqlite.open", &self.folder, error);
        for entry in std::fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let Some(name) = stem.and_then(parse) else {
                continue;
            };
            if path.extension().is_some() || !kept.contains(&name) {
                remove(&path);
            }
        }
        Ok(())
    }

    fn path(&self, name: BlobName) -> PathBuf {
        self.folder.join(hex(&name.0))
    }
}

/// The error for a content that its row names and that is not there.
pub(super) fn missing(operation: &'static str) -> Error {
    Error::new(
        Kind::Storage,
        operation,
        "the content is missing from the store's folder; restore it from a backup",
    )
}

enum Piece {
    Bytes(Bytes),
    End,
}

fn write_pieces(
    operation: &'static str,
    name: BlobName,
    path: PathBuf,
    mut arriving: mpsc::Receiver<Piece>,
) -> Result<Written> {
    let part = path.with_extension(PART);
    let failed = |error| failed(operation, &path, error);
    // Removes the part, and nothing once it has its final name.
    let mut written = Written { name, bytes: 0, sha256: String::new(), path: Some(part.clone()) };
    let mut file = File::create_new(&part).map_err(failed)?;
    let mut digest = Sha256::new();
    loop {
        match arriving.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                file.write_all(&bytes).map_err(failed)?;
                digest.update(&bytes);
                written.bytes += bytes.len() as u64;
            }
            Some(Piece::End) => break,
            None => return Err(Error::new(Kind::Cancelled, operation, "the body broke off")),
        }
    }
    file.sync_all().map_err(failed)?;
    std::fs::rename(&part, &path).map_err(failed)?;
    written.path = Some(path.clone());
    sync_names(&path).map_err(failed)?;
    written.sha256 = hex(&digest.finalize());
    Ok(written)
}

/// Brings a name to the disk, before a row counts on it.
#[cfg(unix)]
fn sync_names(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Elsewhere a folder cannot be opened, and the system does this by itself.
#[cfg(not(unix))]
fn sync_names(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn parse(stem: &str) -> Option<BlobName> {
    let is_name = stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(stem, 16).ok()?;
    is_name.then(|| BlobName(number.to_be_bytes()))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "content stays until the store is opened again");
    }
}

fn failed(operation: &'static str, path: &Path, error: std::io::Error) -> Error {
    let what = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk of the store's folder is full; make room, then try again"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "the store's folder may not be written; give this process the right"
        }
        _ => "the store's folder cannot be used; check that it exists and may be written",
    };
    Error::new(Kind::Storage, operation, what).with("path", path.display()).with_source(error)
}
