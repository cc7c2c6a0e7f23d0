//! Pieces of work as the stores want them: one statement, or a transaction, with patience where others depend on it.

use crate::database::{Access, Database, Parameters, Transaction};
use crate::error::{Error, Kind, Result, correlation};
use futures_util::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

/// For how long critical work asks again for a session: less than a lease, so that who waits still has it.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long it waits in between where nobody says.
const PAUSE: Duration = Duration::from_millis(100);

tokio::task_local! {
    /// Whether a statement of this task has been sent.
    static SENT: Arc<AtomicBool>;
}

/// Reads to the end even when nobody waits any more. Readers come and go, and a statement that is given up in the
/// middle costs its connection. One that still waits for a session is given up.
pub(super) async fn finished<T, R>(read: R) -> Result<T>
where
    T: Send + 'static,
    R: Future<Output = Result<T>> + Send + 'static,
{
    let sent = Arc::new(AtomicBool::new(false));
    let reading = SENT.scope(Arc::clone(&sent), read);
    let task = match correlation::current() {
        Some(id) => tokio::spawn(correlation::within(id, reading)),
        None => tokio::spawn(reading),
    };
    let mut waited = Waited { task, sent };
    (&mut waited.task)
        .await
        .map_err(|error| Error::internal("run_log.read", "a read broke off").with_source(error))?
}

/// Who waits for a read.
struct Waited<T> {
    task: JoinHandle<T>,
    sent: Arc<AtomicBool>,
}

impl<T> Drop for Waited<T> {
    fn drop(&mut self) {
        if !self.sent.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}

impl Database {
    /// The rows of a statement that only reads: one way to the server and back.
    pub(super) async fn fetch(
        &self,
        access: Access,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        let patience = Patience::of(access);
        loop {
            let read = self
                .read(access, |transaction| {
                    let _ = SENT.try_with(|sent| sent.store(true, Ordering::Release));
                    Box::pin(transaction.query(sql, parameters))
                })
                .await;
            match read {
                Err(error) => patience.bear(error).await?,
                rows => return rows,
            }
        }
    }

    /// The rows of a statement that writes, and is committed.
    pub(super) async fn once(
        &self,
        access: Access,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>> {
        self.transact(access, |transaction| Box::pin(transaction.query(sql, parameters))).await
    }

    /// A transaction, as [`Database::write`]; critical work asks again when there is no session. What users begin is
    /// refused at once instead, so that what is under way ends.
    pub(super) async fn transact<'c, T, F>(&self, access: Access, work: F) -> Result<T>
    where
        T: Send,
        F: for<'a> Fn(&'a Transaction<'c>) -> BoxFuture<'a, Result<T>> + Send + Sync,
    {
        let patience = Patience::of(access);
        loop {
            match self.write(access, &work).await {
                Err(error) => patience.bear(error).await?,
                done => return done,
            }
        }
    }
}

/// How long a piece of work may ask again.
struct Patience(Option<Instant>);

impl Patience {
    fn of(access: Access) -> Self {
        Self(access.is_critical().then(|| Instant::now() + PATIENCE))
    }

    /// Waits where it makes sense to ask again.
    async fn bear(&self, error: Error) -> Result<()> {
        let again = error.kind() == Kind::PoolExhausted
            && self.0.is_some_and(|until| Instant::now() < until);
        if !again {
            return Err(error);
        }
        let pause = error.retry_after().unwrap_or(PAUSE).min(Duration::from_secs(1));
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        Ok(())
    }
}
