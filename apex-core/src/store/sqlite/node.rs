use crate::error::{Error, Kind, Result};
use crate::id::NodeId;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock that keeps opening and cleaning up apart.
const GUARD: &str = "guard";

/// How often it is tried to get that lock, and how long is waited in between: 10 s together.
const TRIES: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Tells the processes that have a database open from those that died: each holds a lock on a file of its own,
/// which the system lets go of when the process ends, however it ends. All of them are on one machine.
#[derive(Debug)]
pub(super) struct Nodes {
    folder: PathBuf,
    node: NodeId,
    _lock: File,
}

/// While it is there, no other process opens the same database.
#[derive(Debug)]
pub(super) struct Opening {
    _guard: File,
}

/// A process that died. Its file goes with [`Dead::bury`].
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) node: NodeId,
    path: PathBuf,
    _lock: File,
}

impl Nodes {
    /// Enters this process, after those that are opening the database right now.
    pub(super) fn enter(folder: PathBuf, node: NodeId) -> Result<(Self, Opening)> {
        let failed = |error: std::io::Error| {
            Error::new(
                Kind::Storage,
                "sqlite.open",
                "the folder that tells which processes have the database open cannot be used; check its rights",
            )
            .with("folder", folder.display())
            .with_source(error)
        };
        make_folder(&folder).map_err(failed)?;
        let guard = open(&folder.join(GUARD)).map_err(failed)?;
        wait_for(&guard)?;
        let lock = open(&folder.join(node.to_string())).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let nodes = Self { folder, node, _lock: lock };
        Ok((nodes, Opening { _guard: guard }))
    }

    /// The other processes that died and have not been buried yet, and whether another one is alive.
    pub(super) fn others(&self) -> (Vec<Dead>, bool) {
        let (mut dead, mut alive) = (Vec::new(), false);
        for (node, path) in self.files() {
            // A file that has gone was buried by another process.
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            match lock.try_lock() {
                Ok(()) => dead.push(Dead { node, path, _lock: lock }),
                Err(TryLockError::WouldBlock) => alive = true,
                Err(TryLockError::Error(error)) => {
                    tracing::debug!(%node, %error, "whether a node is alive cannot be told");
                    alive = true;
                }
            }
        }
        (dead, alive)
    }

    fn files(&self) -> Vec<(NodeId, PathBuf)> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let node = path.file_name()?.to_str()?.parse::<NodeId>().ok()?;
                (node != self.node).then_some((node, path))
            })
            .collect()
    }
}

impl Dead {
    /// Forgets it, once nothing is held in its name any more.
    pub(super) fn bury(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(node = %self.node, %error, "the file of a dead node stays");
        }
    }
}

/// Makes a folder that only this process's user can look into.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn wait_for(guard: &File) -> Result<()> {
    for _ in 0..TRIES {
        if guard.try_lock().is_ok() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::new(
        Kind::Unavailable,
        "sqlite.open",
        "another process has been opening the database for too long; look whether it hangs",
    ))
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path)
}
