use super::error::{Fault, classify, classify_commit};
use crate::error::{Error, Kind, Outcome, Result};
use crate::run::{Topic, Wakeup};
use rusqlite::{Connection, TransactionBehavior};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// The writes that may wait; past that a write is refused.
const WAITING: usize = 4_096;

/// The most writes that one transaction takes.
const GROUP: usize = 512;

/// The one thread that writes. Whatever waits when it comes round is one transaction and one sync of the disk; each
/// write stands in a savepoint of its own, so that one that fails does not hurt the others. Answers and wake-ups go
/// out after the commit. Dropping it carries out what waits and ends the thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn spawn(
        connection: Connection,
        path: PathBuf,
        wakeup: Arc<dyn Wakeup>,
    ) -> Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("apex-sqlite".into())
            .spawn(move || {
                WriterThread {
                    connection,
                    path,
                    wakeup,
                }
                .work_on(&waiting);
            })
            .map_err(|error| {
                Error::new(
                    Kind::Unavailable,
                    "sqlite.open",
                    "the system gives no thread for the writer",
                )
                .with_source(error)
            })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Carries out `work` on the writer's thread and answers after the commit. It is carried out also when the
    /// answer is no longer awaited. The topics that it leaves are woken after the commit.
    pub(super) async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Vec<Topic>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let write = Write {
            operation,
            work: Some(work),
            done: None,
            reply,
        };
        let sent = match &self.jobs {
            Some(jobs) => jobs.try_send(Box::new(write)),
            None => Err(TrySendError::Disconnected(Box::new(write) as Box<dyn Job>)),
        };
        match sent {
            Ok(()) => answer
                .await
                .unwrap_or_else(|_| Err(gone(operation).with_outcome(Outcome::Unknown))),
            Err(TrySendError::Disconnected(_)) => Err(gone(operation)),
            Err(TrySendError::Full(_)) => Err(Error::new(
                Kind::PoolExhausted,
                operation,
                "too many writes wait for the database; try again",
            )
            .with("waiting", WAITING)
            .with_retry_after(Duration::from_millis(200))),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the writer of a SQLite store panicked");
        }
    }
}

fn gone(operation: &'static str) -> Error {
    Error::new(Kind::Unavailable, operation, "the store has been closed")
}

/// One write, from the queue to its answer.
trait Job: Send {
    /// Does the work inside the transaction; says whether its changes are to be kept.
    fn run(&mut self, connection: &Connection, path: &Path) -> bool;

    /// Answers. `failed` makes the error of a transaction that did not come about, for a write that had worked.
    fn finish(self: Box<Self>, failed: Option<&dyn Fn(&'static str) -> Error>, wakeup: &dyn Wakeup);
}

struct Write<F, T> {
    operation: &'static str,
    work: Option<F>,
    done: Option<Result<(T, Vec<Topic>)>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F, T> Job for Write<F, T>
where
    T: Send,
    F: FnOnce(&Connection, &mut Vec<Topic>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection, path: &Path) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let mut wakes = Vec::new();
        // The thread serves everybody: a defect in one write must not take it down.
        let done = catch_unwind(AssertUnwindSafe(|| work(connection, &mut wakes)));
        let done = match done {
            Ok(Ok(value)) => Ok((value, wakes)),
            Ok(Err(fault)) => Err(fault.into_error(self.operation, path)),
            Err(_) => Err(Error::internal(self.operation, "a database write panicked")),
        };
        let keep = done.is_ok();
        self.done = Some(done);
        keep
    }

    fn finish(
        self: Box<Self>,
        failed: Option<&dyn Fn(&'static str) -> Error>,
        wakeup: &dyn Wakeup,
    ) {
        let answer = match (self.done, failed) {
            (Some(Ok(_)) | None, Some(failed)) => Err(failed(self.operation)),
            (Some(Ok((value, wakes))), None) => {
                for topic in wakes {
                    wakeup.wake(topic);
                }
                Ok(value)
            }
            (Some(Err(error)), _) => Err(error),
            (None, None) => Err(gone(self.operation)),
        };
        // Nobody may be waiting any more.
        let _ = self.reply.send(answer);
    }
}

struct WriterThread {
    connection: Connection,
    path: PathBuf,
    wakeup: Arc<dyn Wakeup>,
}

impl WriterThread {
    fn work_on(mut self, waiting: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = waiting.recv() {
            let mut group = VecDeque::from([first]);
            while group.len() < GROUP
                && let Ok(next) = waiting.try_recv()
            {
                group.push_back(next);
            }
            // Some failures undo the whole transaction; what was still to come goes into a new one.
            while !group.is_empty() {
                self.transact(&mut group);
            }
        }
    }

    /// Carries out writes in one transaction and takes them out of `group`: all of them, or those up to the one
    /// with which the transaction was lost.
    fn transact(&mut self, group: &mut VecDeque<Box<dyn Job>>) {
        let (path, wakeup) = (self.path.as_path(), &*self.wakeup);
        let begun = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                let failed = |operation| classify(&error, operation, path);
                for job in group.drain(..) {
                    job.finish(Some(&failed), wakeup);
                }
                return;
            }
        };
        // A write that is alone needs no savepoint: the transaction is one.
        let alone = group.len() == 1;
        let (mut done, mut whole) = (0, true);
        for job in group.iter_mut() {
            done += 1;
            whole = if alone {
                job.run(&transaction, path)
            } else {
                run_in_savepoint(&transaction, &mut **job, path)
            };
            if !whole {
                break;
            }
        }
        let refused = if whole {
            transaction.commit().err()
        } else {
            drop(transaction);
            None
        };
        let failed = |operation| match &refused {
            Some(error) => classify_commit(error, operation, path),
            None => undone(operation),
        };
        let failed: Option<&dyn Fn(&'static str) -> Error> = if whole && refused.is_none() {
            None
        } else {
            Some(&failed)
        };
        for job in group.drain(..done) {
            job.finish(failed, wakeup);
        }
    }
}

/// Says whether the transaction is still there afterwards: SQLite undoes it whole when the disk is full or fails.
fn run_in_savepoint(connection: &Connection, job: &mut dyn Job, path: &Path) -> bool {
    let execute = |sql| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .is_ok()
    };
    if !execute("SAVEPOINT write") {
        return false;
    }
    let kept = job.run(connection, path) || execute("ROLLBACK TO write");
    kept && execute("RELEASE write") && !connection.is_autocommit()
}

fn undone(operation: &'static str) -> Error {
    Error::new(
        Kind::Unavailable,
        operation,
        "the write was undone because one beside it failed; try again",
    )
}
