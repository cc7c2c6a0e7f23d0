use crate::error::{Error, Failure, Kind, Outcome};
use rusqlite::ErrorCode;
use std::path::Path;
use std::time::Duration;

/// What a piece of work on the database ends with when it fails: the database's error, or one of ours that is
/// already complete.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Apex(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Apex(error)
    }
}

impl Fault {
    /// As the caller sees it; the work was undone.
    pub(super) fn into_error(self, operation: &'static str, path: &Path) -> Error {
        match self {
            Self::Sql(error) => classify(&error, operation, path),
            Self::Apex(error) => error,
        }
    }
}

/// A failure of the database before the commit: nothing was applied.
pub(super) fn classify(error: &rusqlite::Error, operation: &'static str, path: &Path) -> Error {
    let (kind, what) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            (Kind::Storage, "the disk of the database is full; make room, then try again")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            Kind::Storage,
            "the database may only be read; give this process the right to write it and its folder",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Kind::Unavailable, "another process holds the database for too long; try again")
        }
        Some(ErrorCode::NotADatabase) => (
            Kind::Storage,
            "the file is not a SQLite database; give the path of another one, or of none",
        ),
        Some(ErrorCode::DatabaseCorrupt) => {
            (Kind::Storage, "the database file is damaged; restore it from a backup")
        }
        Some(ErrorCode::CannotOpen) => (
            Kind::Storage,
            "the database cannot be opened; check that its folder exists and may be written",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            Kind::Storage,
            "the system failed to read or write the database; look at the disk and the system's log",
        ),
        Some(ErrorCode::OutOfMemory) => (Kind::Unavailable, "the database is out of memory"),
        _ => (Kind::Internal, "a database statement failed"),
    };
    let classified =
        Error::new(kind, operation, what).with("database", path.display()).with("cause", error);
    let classified = match error.sqlite_error() {
        Some(code) => classified.with_failure(Failure::of_sqlite(code.extended_code)),
        None => classified,
    };
    match kind {
        Kind::Unavailable => classified.with_retry_after(Duration::from_secs(1)),
        _ => classified,
    }
}

/// A failure of the commit itself. SQLite undoes a commit that is refused; after a failure of the system nobody
/// knows what has reached the disk.
pub(super) fn classify_commit(
    error: &rusqlite::Error,
    operation: &'static str,
    path: &Path,
) -> Error {
    let outcome = match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) | None => Outcome::Unknown,
        Some(_) => Outcome::NotApplied,
    };
    classify(error, operation, path).with_outcome(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, ffi};

    fn classified(error: &rusqlite::Error) -> (Kind, Outcome) {
        let error = classify_commit(error, "test", Path::new("x.db"));
        (error.kind(), error.outcome())
    }

    #[test]
    fn a_full_disk_is_told_as_one() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x); PRAGMA max_page_count = 8;").unwrap();
        let error = connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        assert_eq!(classified(&error), (Kind::Storage, Outcome::NotApplied));
        assert!(classify(&error, "test", Path::new("x.db")).message().contains("full"));
    }

    #[test]
    fn a_read_only_database_is_told_as_one() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x); PRAGMA query_only = ON;").unwrap();
        let error = connection.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        assert_eq!(classified(&error), (Kind::Storage, Outcome::NotApplied));
        assert!(classify(&error, "test", Path::new("x.db")).message().contains("read"));
    }

    #[test]
    fn after_a_failed_sync_nobody_knows() {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None);
        assert_eq!(classified(&error), (Kind::Storage, Outcome::Unknown));
        let busy = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
        assert_eq!(classified(&busy), (Kind::Unavailable, Outcome::NotApplied));
    }
}
