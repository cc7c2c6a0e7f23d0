use super::fault;
use super::session::Held;
use crate::error::{Error, Failure, Kind, Outcome, Phase, Result};
use parking_lot::Mutex;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Row, RowStream};

/// What a piece of work does to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each statement reads by itself.
    Read,
    /// All statements read the same state.
    Snapshot,
    /// All statements take effect, or none.
    Write,
}

impl Mode {
    const fn begin(self) -> Option<&'static str> {
        match self {
            Self::Read => None,
            Self::Snapshot => Some("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            Self::Write => Some("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        }
    }
}

/// Parameters of a statement.
pub(crate) type Parameters<'p> = &'p [&'p (dyn ToSql + Sync)];

/// A session at work. Statements are static texts, prepared once for each connection; values travel beside them.
/// Several may be under way at a time. Once one has failed, the others of a write or snapshot fail, too, and nothing
/// is committed.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    held: Arc<Held>,
    mode: Mode,
    begun: AtomicBool,
    failed: Mutex<Option<Failure>>,
    /// Lets the work borrow from its caller.
    caller: PhantomData<&'c ()>,
}

impl Transaction<'_> {
    pub(super) fn new(held: Arc<Held>, mode: Mode) -> Self {
        Self {
            held,
            mode,
            begun: AtomicBool::new(false),
            failed: Mutex::default(),
            caller: PhantomData,
        }
    }

    /// Every row.
    ///
    /// # Errors
    /// The server's, classified; and those of a session that was taken back.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        self.run(async {
            let statement = self.held.connection.prepared(sql).await?;
            self.held.connection.client.query(&statement, parameters).await
        })
        .await
    }

    /// The one row, if there is one.
    ///
    /// # Errors
    /// As [`Self::query`]; and a defect when there are several rows.
    pub(crate) async fn query_opt(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>> {
        let mut rows = self.query(sql, parameters).await?;
        let row = rows.pop();
        if rows.is_empty() {
            return Ok(row);
        }
        Err(self.defect("a statement gave several rows where one was expected"))
    }

    /// The one row.
    ///
    /// # Errors
    /// As [`Self::query`]; and a defect when there is not exactly one row.
    pub(crate) async fn query_one(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Row> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or_else(|| self.defect("a statement gave no row where one was expected"))
    }

    /// Does something and says how many rows it touched.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(crate) async fn execute(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<u64> {
        self.run(async {
            let statement = self.held.connection.prepared(sql).await?;
            self.held.connection.client.execute(&statement, parameters).await
        })
        .await
    }

    /// Rows one after the other, for answers that do not fit memory. The whole answer is read before the next
    /// statement gets its own.
    ///
    /// # Errors
    /// As [`Self::query`]. Errors of later rows go through [`Self::failed`].
    pub(crate) async fn stream(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<RowStream> {
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.to_vec();
        self.run(async {
            let statement = self.held.connection.prepared(sql).await?;
            self.held.connection.client.query_raw(&statement, parameters).await
        })
        .await
    }

    /// Several statements without parameters, such as those of a migration.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(crate) async fn batch(&self, sql: &str) -> Result<()> {
        self.run(self.held.connection.client.batch_execute(sql)).await
    }

    /// The server's version, as `server_version_num` says it.
    pub(crate) fn server_version(&self) -> u32 {
        self.held.connection.server.version
    }

    /// What an error of a [stream](Self::stream) is to the caller.
    pub(crate) fn failed(&self, error: &tokio_postgres::Error) -> Error {
        let failure = fault::failure(error);
        self.failed.lock().get_or_insert(failure);
        if let Some(taken) = self.held.taken_error() {
            return taken;
        }
        if failure == Failure::ReadOnly && self.mode != Mode::Write {
            return self.defect("a statement that writes stands in work that only reads");
        }
        fault::statement(error, Phase::BeforeCommit, self.held.access.operation)
    }

    /// What went wrong on this session first.
    pub(super) fn first_failure(&self) -> Option<Failure> {
        *self.failed.lock()
    }

    async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        if let Some(taken) = self.held.taken_error() {
            return Err(taken);
        }
        let begin = self.mode.begin().filter(|_| !self.begun.swap(true, Ordering::AcqRel));
        let sent = self.held.send();
        let done = match begin {
            None => work.await.map_err(|error| self.failed(&error)),
            Some(begin) => self.begin_with(begin, work).await,
        };
        sent.answered();
        done
    }

    /// Opens the transaction and sends the first statement behind it without waiting for the answer. Should opening
    /// fail, the statement changes nothing: outside a transaction the connection only reads.
    async fn begin_with<T>(
        &self,
        begin: &'static str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let client = &self.held.connection.client;
        self.held.open.store(true, Ordering::Release);
        let record = async {
            match self.held.access.record.filter(|_| self.mode == Mode::Write) {
                Some(id) => {
                    let statement = self.held.connection.prepared(super::ledger::RECORD).await?;
                    client.execute(&statement, &[&id]).await.map(|rows| rows == 1)
                }
                None => Ok(true),
            }
        };
        // The order of polling is the order of sending.
        let (begun, recorded, done) =
            futures_util::future::join3(client.batch_execute(begin), record, work).await;
        begun.map_err(|error| self.failed(&error))?;
        let new = recorded.map_err(|error| self.failed(&error))?;
        if !new {
            self.failed.lock().get_or_insert(Failure::Constraint);
            return Err(Error::new(
                Kind::Conflict,
                self.held.access.operation,
                "this operation has been carried out already",
            )
            .with_failure(Failure::Constraint)
            .with_outcome(Outcome::Applied));
        }
        done.map_err(|error| self.failed(&error))
    }

    fn defect(&self, message: &'static str) -> Error {
        Error::internal(self.held.access.operation, message)
    }
}

/// Reading a row's columns without a panic.
pub(crate) trait Columns {
    /// The value of a column, counted from 0.
    ///
    /// # Errors
    /// [`Kind::Storage`] where there is no such column, or it is of another type.
    fn column<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T>;
}

impl Columns for Row {
    fn column<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T> {
        self.try_get(index).map_err(|error| {
            Error::driver(Failure::Schema, Phase::BeforeCommit, "database.row", error.to_string())
                .with("column", index)
        })
    }
}
