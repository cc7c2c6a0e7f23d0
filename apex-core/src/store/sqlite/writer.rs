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
                WriterThread { connection, path, wakeup }.work_on(&waiting);
            })
            .map_err(|error| {
                Error::new(
                    Kind::Unavailable,
                    "sqlite.open",
                    "the system gives no thread for the writer",
                )
                .with_source(error)
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Carries out `work` on the writer's thread and answers after the commit. It is carried out also when the
    /// answer is no longer awaited. The topics that it leaves are woken after the commit.
    pub(super) async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Vec<Topic>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel::<Result<(T, Wakes)>>();
        let write = Write { operation, work: Some(work), done: None, reply };
        let sent = match &self.jobs {
            Some(jobs) => jobs.try_send(Box::new(write)),
            None => Err(TrySendError::Disconnected(Box::new(write) as Box<dyn Job>)),
        };
        match sent {
            Ok(()) => {
                let answer = answer.await;
                answer
                    .map_err(|_| gone(operation).with_outcome(Outcome::Unknown))?
                    .map(|(done, _)| done)
            }
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
    fn finish(
        self: Box<Self>,
        failed: Option<&dyn Fn(&'static str) -> Error>,
        wakeup: &Arc<dyn Wakeup>,
    );
}

/// Wakes when it is dropped. It travels with the answer, so that many readers are woken by the task that wrote, for which
/// that costs less than for a thread outside the runtime, or by the thread where nobody awaits the answer any more.
#[derive(Debug)]
struct Wakes {
    topics: Vec<Topic>,
    wakeup: Arc<dyn Wakeup>,
}

impl Drop for Wakes {
    fn drop(&mut self) {
        for topic in self.topics.drain(..) {
            self.wakeup.wake(topic);
        }
    }
}

struct Write<F, T> {
    operation: &'static str,
    work: Option<F>,
    done: Option<Result<(T, Vec<Topic>)>>,
    reply: oneshot::Sender<Result<(T, Wakes)>>,
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
        wakeup: &Arc<dyn Wakeup>,
    ) {
        let answer = match (self.done, failed) {
            (Some(Ok(_)) | None, Some(failed)) => Err(failed(self.operation)),
            (Some(Ok((value, topics))), None) => {
                Ok((value, Wakes { topics, wakeup: Arc::clone(wakeup) }))
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
        let (path, wakeup) = (self.path.as_path(), &self.wakeup);
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
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
        let failed: Option<&dyn Fn(&'static str) -> Error> =
            if whole && refused.is_none() { None } else { Some(&failed) };
        for job in group.drain(..done) {
            job.finish(failed, wakeup);
        }
    }
}

/// Says whether the transaction is still there afterwards: SQLite undoes it whole when the disk is full or fails.
fn run_in_savepoint(connection: &Connection, job: &mut dyn Job, path: &Path) -> bool {
    let execute = |sql| {
        connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;
    use crate::run::{LocalWakeup, Woken};
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use std::sync::mpsc;

    const FILL: &str = "INSERT INTO t VALUES (zeroblob(?1))";

    fn writer(connection: Connection) -> (Writer, Arc<LocalWakeup>) {
        connection.execute_batch("CREATE TABLE t (x BLOB)").unwrap();
        let wakeup = Arc::new(LocalWakeup::default());
        let writer = Writer::spawn(connection, "t.db".into(), Arc::clone(&wakeup) as _).unwrap();
        (writer, wakeup)
    }

    fn count(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    }

    /// Holds the writer's thread until the sender is dropped, so that what follows is one group.
    async fn hold(writer: &Arc<Writer>) -> mpsc::Sender<()> {
        let (go, wait) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let writer = Arc::clone(writer);
        tokio::spawn(async move {
            let held = writer.write("test", move |_, _| {
                let _ = begun.send(());
                let _ = wait.recv();
                Ok(())
            });
            held.await
        });
        begins.await.unwrap();
        go
    }

    #[tokio::test]
    async fn a_group_is_one_transaction_and_a_failure_is_its_own() {
        let (writer, wakeup) = writer(Connection::open_in_memory().unwrap());
        let writer = Arc::new(writer);
        let topic = |number: u8| Topic::Inbox(UserId::from_bytes([number; 16]));
        let mut listeners: Vec<_> = (0..5).map(|number| wakeup.listen(topic(number))).collect();
        let held = hold(&writer).await;
        let writes: Vec<_> = (0..5)
            .map(|number| {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move {
                    let work = move |connection: &Connection, wakes: &mut Vec<Topic>| {
                        wakes.push(topic(number));
                        connection.execute(FILL, [10])?;
                        match number {
                            1 => Err(Error::not_found("test", "row").into()),
                            2 => panic!("a defect"),
                            _ => Ok(count(connection)?),
                        }
                    };
                    writer.write("test", work).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        let mut answers = Vec::new();
        for write in writes {
            answers.push(write.await.unwrap().map_err(|error| error.kind()));
        }
        let expected = [Ok(1), Err(Kind::NotFound), Err(Kind::Internal), Ok(2), Ok(3)];
        assert_eq!(answers, expected);
        let woken = |listener: &mut Woken| {
            let wait = listener.wait(Duration::from_secs(20));
            wait.now_or_never().is_some()
        };
        let woken: Vec<bool> = listeners.iter_mut().map(woken).collect();
        assert_eq!(woken, [true, false, false, true, true]);
    }

    #[tokio::test]
    async fn a_full_disk_fails_what_it_undid_and_the_rest_goes_on() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "max_page_count", 40).unwrap();
        let (writer, _) = writer(connection);
        let writer = Arc::new(writer);
        let held = hold(&writer).await;
        let writes: Vec<_> = [10, 10_000_000, 20]
            .into_iter()
            .map(|bytes| {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move {
                    let work = move |connection: &Connection, _: &mut Vec<Topic>| {
                        connection.execute(FILL, [bytes])?;
                        Ok(())
                    };
                    writer.write("test", work).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        let mut answers = Vec::new();
        for write in writes {
            answers.push(write.await.unwrap().map_err(|error| (error.kind(), error.outcome())));
        }
        let full = (Kind::Storage, Outcome::NotApplied);
        assert_eq!(answers[1], Err(full));
        assert_eq!(answers[2], Ok(()));
        let kept = writer.write("test", |connection, _| Ok(count(connection)?)).await.unwrap();
        let worked = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(kept, worked as i64, "an answer is what has happened");
    }

    #[tokio::test]
    async fn past_its_limit_the_queue_refuses() {
        let (writer, _) = writer(Connection::open_in_memory().unwrap());
        let writer = Arc::new(writer);
        let held = hold(&writer).await;
        let writes = (0..=WAITING).map(|_| writer.write("test", |_, _| Ok(())));
        let mut writes = join_all(writes);
        assert!((&mut writes).now_or_never().is_none());
        drop(held);
        let refused: Vec<Error> = writes.await.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].kind(), Kind::PoolExhausted);
        assert!(refused[0].retry_after().is_some());
    }

    #[tokio::test]
    async fn what_waits_is_carried_out_when_the_writer_is_dropped() {
        let (writer, _) = writer(Connection::open_in_memory().unwrap());
        let (reply, answer) = oneshot::channel();
        let jobs = writer.jobs.clone().unwrap();
        let work = |connection: &Connection, _: &mut Vec<Topic>| {
            connection.execute(FILL, [10])?;
            Ok(count(connection)?)
        };
        jobs.try_send(Box::new(Write { operation: "test", work: Some(work), done: None, reply }))
            .unwrap();
        drop(jobs);
        drop(writer);
        assert_eq!(answer.await.unwrap().unwrap().0, 1);
    }
}
