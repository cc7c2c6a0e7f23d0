use super::blob::{BlobName, Blobs};
use super::error::{Fault, classify};
use super::mark;
use super::migration::{check_ours, migrate};
use super::node::{Dead, Nodes};
use super::reader::Readers;
use super::writer::Writer;
use super::{SqliteOptions, Synchronous};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::id::{Epoch, NodeId};
use crate::run::{Topic, Wakeup};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Connections that read.
const READERS: usize = 4;

/// How long a write waits for another process's.
const BUSY: Duration = Duration::from_secs(5);

/// The prepared statements that a connection keeps; more than there are.
const STATEMENTS: usize = 128;

/// One database file: one writer, a few readers, and the lock that says that this process is alive.
#[derive(Debug)]
pub(super) struct Database {
    // Dropped in this order: the writer ends before the node counts as dead.
    writer: Writer,
    readers: Readers,
    pub(super) nodes: Arc<Nodes>,
}

impl Database {
    /// Opens or makes the file and tidies up after processes that died.
    pub(super) fn open(
        options: &SqliteOptions,
        blobs: &Blobs,
        node: NodeId,
        clock: &dyn Clock,
        wakeup: Arc<dyn Wakeup>,
    ) -> Result<Self> {
        let path = options.path.as_path();
        check_path(path)?;
        let failed = |error| classify(&error, "sqlite.open", path);
        make_private(path);
        let mut connection = connect(path).map_err(failed)?;
        // Nothing is written before it is known to be ours.
        check_ours(&connection, path)?;
        mark::check(&connection, path, options.environment)?;
        // Until `opening` is dropped no other process gets in.
        let (nodes, opening) = Nodes::enter(beside(path, "nodes"), node)?;
        configure(&connection, options.synchronous).map_err(failed)?;
        migrate(&mut connection, path, Epoch::new(clock))?;
        mark::set(&connection, path, options.environment)?;
        blobs.make_folder()?;
        tidy(&connection, &nodes, blobs).map_err(|fault| fault.into_error("sqlite.open", path))?;
        drop(opening);
        let readers = (0..READERS)
            .map(|_| {
                let reader = connect(path)?;
                configure(&reader, options.synchronous)?;
                reader.pragma_update(None, "query_only", true)?;
                Ok(reader)
            })
            .collect::<rusqlite::Result<_>>()
            .map_err(failed)?;
        Ok(Self {
            writer: Writer::spawn(connection, path.to_owned(), wakeup)?,
            readers: Readers::new(readers, path.to_owned()),
            nodes: Arc::new(nodes),
        })
    }

    /// See [`Writer::write`].
    pub(super) async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Vec<Topic>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.write(operation, work).await
    }

    /// See [`Readers::read`].
    pub(super) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.readers.read(operation, work).await
    }
}

/// The path of something that belongs to the database: `<database>.<what>`.
pub(super) fn beside(database: &Path, what: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Makes a new file one that only this process's user can read; SQLite gives its other files the same rights. What
/// is there already keeps its rights, and what goes wrong here SQLite will say.
fn make_private(path: &Path) {
    let mut new = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut new, 0o600);
    let made = new.write(true).create_new(true).open(path);
    tracing::debug!(path = %path.display(), new = made.is_ok(), "a database is opened");
}

pub(super) fn configure(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    // A plan does not depend on the values bound to it: else SQLite prepares some statements anew at every use.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous.name())?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // A long read can make the write-ahead log grow; afterwards it is cut back to this.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)
}

/// Removes content that no row names. Content may be on its way into a row, so that is done only when no other
/// process is there.
fn tidy(connection: &Connection, nodes: &Nodes, blobs: &Blobs) -> Result<(), Fault> {
    let (_, alive) = nodes.others();
    if !alive {
        let mut statement =
            connection.prepare("SELECT blob FROM file UNION ALL SELECT blob FROM artifact")?;
        let kept = statement
            .query_map([], |row| row.get(0).map(BlobName::from_bytes))?
            .collect::<rusqlite::Result<HashSet<_>>>()?;
        blobs.keep_only(&kept)?;
    }
    Ok(())
}

/// Makes the runs of dead processes claimable.
pub(super) fn expire_leases(connection: &Connection, dead: Vec<Dead>) -> rusqlite::Result<()> {
    for dead in dead {
        connection
            .prepare_cached("UPDATE run SET lease_until = 0 WHERE holder = ?1")?
            .execute([dead.node.as_bytes()])?;
        dead.bury();
    }
    Ok(())
}

/// Says what is wrong with a path more plainly than SQLite does.
fn check_path(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let what = if path.file_name().is_none() || path.is_dir() {
        "the path of the database is a folder; give the path of a file"
    } else if !folder.is_dir() {
        "the folder of the database does not exist; make it first"
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Storage, "sqlite.open", what).with("path", path.display()))
}
