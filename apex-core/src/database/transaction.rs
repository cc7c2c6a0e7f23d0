use super::fault;
use super::session::Held;
use crate::error::{Error, Failure, Kind, Outcome, Phase, Result};
use parking_lot::Mutex;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

/// What a piece of work does to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each statement reads by itself.
    Read,
    /// All statements take effect, or none.
    Write,
}

impl Mode {
    const fn begin(self) -> Option<&'static str> {
        match self {
            Self::Read => None,
            Self::Write => Some("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
        }
    }
}

/// Parameters of a statement.
pub(crate) type Parameters<'p> = &'p [&'p (dyn ToSql + Sync)];

/// A session at work. Statements are static texts, prepared once for each connection; values travel beside them.
/// Several may be under way at a time. Once one has failed, the others of a write fail, too, and nothing is
/// committed.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    held: Arc<Held>,
    mode: Mode,
    begun: AtomicBool,
    failed: Mutex<Option<Failure>>,
    /// A statement that had been prepared before does not fit the tables any more.
    stale: AtomicBool,
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
            stale: AtomicBool::new(false),
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
            let statement = self.prepared(sql).await?;
            let rows = self.held.connection.client.query(&statement.0, parameters).await;
            self.fresh(statement.1, rows)
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
            let statement = self.prepared(sql).await?;
            let rows = self.held.connection.client.execute(&statement.0, parameters).await;
            self.fresh(statement.1, rows)
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

    /// What an error of the driver is to the caller.
    fn failed(&self, error: &tokio_postgres::Error) -> Error {
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

    /// Whether a connection that has not prepared its statements yet would do better.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    async fn prepared(
        &self,
        sql: &'static str,
    ) -> Result<(Statement, bool), tokio_postgres::Error> {
        self.held.connection.prepared(sql).await
    }

    /// Notes a statement that was `prepared` before a migration and does not fit what is there after it.
    fn fresh<T>(
        &self,
        prepared: bool,
        answer: Result<T, tokio_postgres::Error>,
    ) -> Result<T, tokio_postgres::Error> {
        const STALE: [SqlState; 2] =
            [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];
        if let Err(error) = &answer
            && prepared
            && error.code().is_some_and(|code| STALE.contains(code))
        {
            self.stale.store(true, Ordering::Release);
        }
        answer
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
                    let statement = self.prepared(super::ledger::RECORD).await?;
                    client.execute(&statement.0, &[&id]).await.map(|rows| rows == 1)
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
