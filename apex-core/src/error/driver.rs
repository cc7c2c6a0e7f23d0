//! What a driver's code means: the tables of SQLSTATE, SQLite and Redis codes, and what follows from each class.
//!
//! The code decides, never the text: texts are translated and change. A SQLSTATE that is not in the table falls back
//! to its class (the first two characters), a SQLite code to its primary code, and what is still unknown is
//! [`Failure::Unknown`], which nobody repeats and `apex_errors_unclassified_total` counts.

use super::{Error, Kind, Outcome};
use serde::{Deserialize, Serialize};

/// What kind of failure a driver reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// Two transactions waited for each other; one was undone.
    Deadlock,
    /// The transaction met another one; it was undone.
    Serialization,
    /// The connection is gone, was refused, or leads to the wrong server.
    Connection,
    /// It took too long.
    Timeout,
    /// The login or its rights do not allow it.
    Permission,
    /// A table, column, function or database is missing or other than expected.
    Schema,
    /// The data breaks a rule of the schema: the caller's mistake.
    Constraint,
    /// The server is out of connections, memory or another means.
    Capacity,
    /// The disk is full.
    DiskFull,
    /// This server or file takes no writes.
    ReadOnly,
    /// The data is damaged, or the disk fails.
    Corruption,
    /// The answer to a commit was lost.
    OutcomeUnknown,
    /// Nobody knows.
    Unknown,
}

/// What may be repeated after a failure, if repeating is safe at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Nothing: the same call fails again, or nobody knows.
    Never,
    /// The whole transaction, from its first statement.
    Transaction,
    /// The call, on a new connection.
    NewConnection,
    /// The call, after a second at least.
    Later,
}

/// What follows from a class of failure.
#[derive(Debug, Clone, Copy, Serialize, schemars::JsonSchema)]
pub struct Consequence {
    /// The kind of the error that callers see.
    pub kind: Kind,
    /// What may be repeated.
    pub repeat: Repeat,
    /// Whether the connection must not be used again.
    pub discard_connection: bool,
    /// Whether it says something about the health of the dependency, so that a breaker counts it.
    pub counts_for_breaker: bool,
    /// What to do, for people.
    pub advice: &'static str,
}

/// How far a write had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The commit was not sent: a server undoes what it has.
    BeforeCommit,
    /// The commit, or a statement that commits by itself, was sent and not answered.
    Committing,
}

impl Failure {
    /// Every class, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Deadlock,
        Self::Serialization,
        Self::Connection,
        Self::Timeout,
        Self::Permission,
        Self::Schema,
        Self::Constraint,
        Self::Capacity,
        Self::DiskFull,
        Self::ReadOnly,
        Self::Corruption,
        Self::OutcomeUnknown,
        Self::Unknown,
    ];

    /// The class of a five-character SQLSTATE, as PostgreSQL reports it.
    #[must_use]
    pub fn of_sqlstate(code: &str) -> Self {
        let class = code.get(..2).unwrap_or_default();
        let valid = code.len() == 5
            && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        let row = if valid { find(SQLSTATE, code).or_else(|| find(SQLSTATE, class)) } else { None };
        row.unwrap_or(Self::Unknown)
    }

    /// The class of a SQLite result code, extended or primary.
    #[must_use]
    pub fn of_sqlite(code: i32) -> Self {
        let exact = |wanted: i32| {
            SQLITE.iter().find(|(code, _)| *code == wanted).map(|(_, failure)| *failure)
        };
        exact(code).or_else(|| exact(code & 0xff)).unwrap_or(Self::Unknown)
    }

    /// The class of a Redis error by its first word, `READONLY` of `READONLY You can't write against …`.
    #[must_use]
    pub fn of_redis(code: &str) -> Self {
        find(REDIS, code).unwrap_or(Self::Unknown)
    }

    /// The class of an error of the operating system on the way to a server.
    #[must_use]
    pub fn of_io(kind: std::io::ErrorKind) -> Self {
        use std::io::ErrorKind as Io;
        match kind {
            Io::TimedOut | Io::WouldBlock => Self::Timeout,
            Io::PermissionDenied => Self::Permission,
            Io::StorageFull | Io::QuotaExceeded => Self::DiskFull,
            Io::ReadOnlyFilesystem => Self::ReadOnly,
            Io::OutOfMemory => Self::Capacity,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::UnexpectedEof
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::AddrNotAvailable
            | Io::NotFound => Self::Connection,
            _ => Self::Unknown,
        }
    }

    /// What follows from it.
    #[must_use]
    pub const fn consequence(self) -> Consequence {
        use Repeat::{Later, Never, NewConnection, Transaction};
        let (kind, repeat, discard_connection, counts_for_breaker, advice) = match self {
            Self::Deadlock => (
                Kind::Unavailable,
                Transaction,
                false,
                false,
                "take rows in one order everywhere if it is frequent",
            ),
            Self::Serialization => (
                Kind::Unavailable,
                Transaction,
                false,
                false,
                "make the transaction shorter if it is frequent",
            ),
            Self::Connection => (
                Kind::Unavailable,
                NewConnection,
                true,
                true,
                "check that the server runs and can be reached",
            ),
            Self::Timeout => (
                Kind::DeadlineExceeded,
                NewConnection,
                true,
                true,
                "look at the server's load and locks",
            ),
            Self::Permission => {
                (Kind::Storage, Never, false, false, "check the login's password and rights")
            }
            Self::Schema => (
                Kind::Storage,
                Never,
                false,
                false,
                "run the migrations, and check that the versions fit",
            ),
            Self::Constraint => (Kind::Conflict, Never, false, false, "change what is written"),
            Self::Capacity => (
                Kind::Unavailable,
                Later,
                false,
                true,
                "raise the server's limits or lower the pool sizes",
            ),
            Self::DiskFull => {
                (Kind::Storage, Never, false, true, "free space on the server's disk")
            }
            Self::ReadOnly => {
                (Kind::Unavailable, NewConnection, true, true, "find the server that takes writes")
            }
            Self::Corruption => (
                Kind::Storage,
                Never,
                true,
                true,
                "stop writing, check the disk, restore from a backup",
            ),
            Self::OutcomeUnknown => (
                Kind::Unavailable,
                Never,
                true,
                true,
                "look the operation up by its id before repeating it",
            ),
            Self::Unknown => {
                (Kind::Storage, Never, true, false, "report the code, so that it gets a class")
            }
        };
        Consequence { kind, repeat, discard_connection, counts_for_breaker, advice }
    }

    /// Whether a write that failed so took effect. A server that reports an error has undone the transaction; one
    /// that does not answer a commit may have done either.
    #[must_use]
    pub const fn outcome(self, phase: Phase) -> Outcome {
        match (phase, self) {
            (_, Self::OutcomeUnknown)
            | (
                Phase::Committing,
                Self::Connection | Self::Timeout | Self::Corruption | Self::Unknown,
            ) => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

impl Error {
    /// The error for what a driver reported, with the kind, outcome and advice of its class.
    #[must_use]
    pub fn driver(
        failure: Failure,
        phase: Phase,
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        if failure == Failure::Unknown {
            metrics::counter!("apex_errors_unclassified_total", "operation" => operation)
                .increment(1);
        }
        let consequence = failure.consequence();
        Self::new(consequence.kind, operation, consequence.advice)
            .with_failure(failure)
            .with_outcome(failure.outcome(phase))
            .with_source(source)
    }
}

fn find(table: &[(&str, Failure)], wanted: &str) -> Option<Failure> {
    table.iter().find(|(code, _)| *code == wanted).map(|(_, failure)| *failure)
}

/// PostgreSQL, appendix A: whole codes before the classes of two characters.
pub const SQLSTATE: &[(&str, Failure)] = &[
    ("40P01", Failure::Deadlock),
    ("40001", Failure::Serialization),
    ("40003", Failure::OutcomeUnknown),
    ("08007", Failure::OutcomeUnknown),
    ("57P01", Failure::Connection),
    ("57P02", Failure::Connection),
    ("57P03", Failure::Connection),
    ("57P05", Failure::Connection),
    ("57014", Failure::Timeout),
    ("55P03", Failure::Timeout),
    ("25P03", Failure::Timeout),
    ("25P04", Failure::Timeout),
    ("25006", Failure::ReadOnly),
    ("42501", Failure::Permission),
    ("3D000", Failure::Schema),
    ("3F000", Failure::Schema),
    ("53100", Failure::DiskFull),
    ("58030", Failure::Corruption),
    ("XX001", Failure::Corruption),
    ("XX002", Failure::Corruption),
    ("08", Failure::Connection),
    ("22", Failure::Constraint),
    ("23", Failure::Constraint),
    ("28", Failure::Permission),
    ("40", Failure::Serialization),
    ("42", Failure::Schema),
    ("44", Failure::Constraint),
    ("53", Failure::Capacity),
    ("54", Failure::Capacity),
];

/// SQLite, <https://sqlite.org/rescode.html>: extended codes before primary ones.
pub const SQLITE: &[(i32, Failure)] = &[
    (517, Failure::Serialization), // BUSY_SNAPSHOT: roll back first; waiting does not help
    (1034, Failure::Corruption),   // IOERR_FSYNC
    (1032, Failure::ReadOnly),     // READONLY_DBMOVED
    (1, Failure::Schema),          // ERROR: no such table, or SQL that does not parse
    (3, Failure::Permission),      // PERM
    (5, Failure::Deadlock),        // BUSY
    (6, Failure::Deadlock),        // LOCKED
    (7, Failure::Capacity),        // NOMEM
    (8, Failure::ReadOnly),        // READONLY
    (9, Failure::Timeout),         // INTERRUPT
    (10, Failure::Corruption),     // IOERR
    (11, Failure::Corruption),     // CORRUPT
    (13, Failure::DiskFull),       // FULL
    (14, Failure::Connection),     // CANTOPEN
    (17, Failure::Schema),         // SCHEMA
    (18, Failure::Constraint),     // TOOBIG
    (19, Failure::Constraint),     // CONSTRAINT
    (20, Failure::Constraint),     // MISMATCH
    (23, Failure::Permission),     // AUTH
    (26, Failure::Corruption),     // NOTADB
];

/// Redis 7: the first word of an error.
pub const REDIS: &[(&str, Failure)] = &[
    ("READONLY", Failure::ReadOnly),
    ("LOADING", Failure::Connection),
    ("MASTERDOWN", Failure::Connection),
    ("CLUSTERDOWN", Failure::Connection),
    ("TRYAGAIN", Failure::Capacity),
    ("BUSY", Failure::Capacity),
    ("OOM", Failure::Capacity),
    ("NOREPLICAS", Failure::Capacity),
    ("MISCONF", Failure::DiskFull),
    ("NOAUTH", Failure::Permission),
    ("NOPERM", Failure::Permission),
    ("WRONGPASS", Failure::Permission),
    ("WRONGTYPE", Failure::Schema),
    ("NOSCRIPT", Failure::Schema),
    ("EXECABORT", Failure::Serialization),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_have_their_class_and_unknown_ones_are_never_repeated() {
        for (code, failure) in [
            ("40P01", Failure::Deadlock),
            ("40001", Failure::Serialization),
            ("40002", Failure::Serialization),
            ("08006", Failure::Connection),
            ("57014", Failure::Timeout),
            ("28P01", Failure::Permission),
            ("42P01", Failure::Schema),
            ("23505", Failure::Constraint),
            ("53300", Failure::Capacity),
            ("53100", Failure::DiskFull),
            ("25006", Failure::ReadOnly),
            ("08007", Failure::OutcomeUnknown),
            ("P0001", Failure::Unknown),
            ("23", Failure::Unknown),
            ("", Failure::Unknown),
            ("é3505", Failure::Unknown),
        ] {
            assert_eq!(Failure::of_sqlstate(code), failure, "{code}");
        }
        for (code, failure) in [
            (517, Failure::Serialization),
            (261, Failure::Deadlock),
            (2067, Failure::Constraint),
            (778, Failure::Corruption),
            (13, Failure::DiskFull),
            (8, Failure::ReadOnly),
            (264, Failure::ReadOnly),
            (99, Failure::Unknown),
            (-1, Failure::Unknown),
        ] {
            assert_eq!(Failure::of_sqlite(code), failure, "{code}");
        }
        assert_eq!(Failure::of_redis("READONLY"), Failure::ReadOnly);
        assert_eq!(Failure::of_redis("ERR"), Failure::Unknown);
        assert_eq!(Failure::Unknown.consequence().repeat, Repeat::Never);
    }

    #[test]
    fn a_lost_answer_to_a_commit_is_unknown_and_a_refusal_is_not() {
        let lost = Error::driver(Failure::Connection, Phase::Committing, "test", "EOF");
        assert_eq!(lost.outcome(), Outcome::Unknown);
        let before = Error::driver(Failure::Connection, Phase::BeforeCommit, "test", "EOF");
        assert_eq!(before.outcome(), Outcome::NotApplied);
        assert!(before.is_retryable());
        let refused = Error::driver(Failure::Constraint, Phase::Committing, "test", "unique");
        assert_eq!((refused.outcome(), refused.kind()), (Outcome::NotApplied, Kind::Conflict));
        let full = Error::driver(Failure::DiskFull, Phase::Committing, "test", "full");
        assert!(!full.is_retryable(), "the same write does not fit the disk a moment later");
        assert!(!Error::driver(Failure::Unknown, Phase::BeforeCommit, "test", "?").is_retryable());
    }

    /// The classes against a real engine, not against the table's author.
    #[cfg(feature = "sqlite")]
    #[test]
    fn real_sqlite_failures_are_classified() {
        let code = |result: rusqlite::Result<usize>| match result {
            Err(rusqlite::Error::SqliteFailure(error, _)) => {
                Failure::of_sqlite(error.extended_code)
            }
            Err(rusqlite::Error::SqlInputError { error, .. }) => {
                Failure::of_sqlite(error.extended_code)
            }
            other => panic!("{other:?}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let one = rusqlite::Connection::open(&path).unwrap();
        one.busy_timeout(std::time::Duration::ZERO).unwrap();
        one.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x INTEGER PRIMARY KEY NOT NULL, b BLOB); INSERT INTO t VALUES(1, NULL)").unwrap();
        assert_eq!(code(one.execute("INSERT INTO t VALUES(1, NULL)", [])), Failure::Constraint);
        assert_eq!(code(one.execute("INSERT INTO none VALUES(1)", [])), Failure::Schema);

        let two = rusqlite::Connection::open(&path).unwrap();
        two.busy_timeout(std::time::Duration::ZERO).unwrap();
        two.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(code(one.execute("INSERT INTO t VALUES(2, NULL)", [])), Failure::Deadlock);
        two.execute_batch("ROLLBACK").unwrap();
        one.execute_batch("BEGIN").unwrap();
        one.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        two.execute("INSERT INTO t VALUES(3, NULL)", []).unwrap();
        assert_eq!(code(one.execute("INSERT INTO t VALUES(4, NULL)", [])), Failure::Serialization);
        one.execute_batch("ROLLBACK").unwrap();

        one.execute_batch("PRAGMA query_only=ON").unwrap();
        assert_eq!(code(one.execute("INSERT INTO t VALUES(5, NULL)", [])), Failure::ReadOnly);
        one.execute_batch("PRAGMA query_only=OFF; PRAGMA max_page_count=3").unwrap();
        let fill = || one.execute("INSERT INTO t(b) VALUES(zeroblob(20000))", []);
        assert_eq!(code(fill().and_then(|_| fill())), Failure::DiskFull);
        let broken = folder.path().join("b.db");
        std::fs::write(&broken, vec![b'x'; 4096]).unwrap();
        let three = rusqlite::Connection::open(&broken).unwrap();
        assert_eq!(code(three.execute("CREATE TABLE t(x)", [])), Failure::Corruption);
    }

    proptest! {
        #[test]
        fn any_code_has_a_class(text in "\\PC{0,8}", code: i32) {
            let _ = (Failure::of_sqlstate(&text), Failure::of_redis(&text));
            let repeat = Failure::of_sqlite(code).consequence().repeat;
            prop_assert!(Failure::of_sqlite(code) != Failure::Unknown || repeat == Repeat::Never);
        }
    }
}
