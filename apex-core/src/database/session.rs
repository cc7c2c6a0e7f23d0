//! A connection in someone's hands, and how it comes back whatever happens to them.

use super::access::Access;
use super::admission::Place;
use super::connection::Connection;
use super::pool::Lease;
use crate::error::{Error, Failure, Kind};
use parking_lot::Mutex;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a rollback may take before the connection is thrown away.
const ROLLBACK: Duration = Duration::from_secs(2);

/// Why a session was taken from who held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Taken {
    /// It was held past the second threshold.
    Leak = 10,
    /// A statement went past its limit, and the server did not end it.
    Statement,
    /// The transaction went past its limit.
    Transaction,
    /// Critical work needed the place.
    Preempted,
    /// The server has long answered, or is gone, and the answer never came.
    Silent,
    /// The database was closed.
    Closed,
}

impl Taken {
    const ALL: [Self; 6] = [
        Self::Leak,
        Self::Statement,
        Self::Transaction,
        Self::Preempted,
        Self::Silent,
        Self::Closed,
    ];

    /// As in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Statement => "statement",
            Self::Transaction => "transaction",
            Self::Preempted => "preempted",
            Self::Silent => "silent",
            Self::Closed => "closed",
        }
    }

    fn error(self, operation: &'static str) -> Error {
        let of = |kind, message| Error::new(kind, operation, message);
        match self {
            Self::Leak => of(
                Kind::DeadlineExceeded,
                "the database session was held for too long and was taken back",
            ),
            Self::Statement => {
                of(Kind::DeadlineExceeded, "a statement took longer than the limit for statements")
                    .with_failure(Failure::Timeout)
            }
            Self::Transaction => of(
                Kind::DeadlineExceeded,
                "the transaction took longer than the limit for transactions",
            )
            .with_failure(Failure::Timeout),
            Self::Preempted => {
                of(Kind::PoolExhausted, "critical work took the place of this session; try again")
                    .with_retry_after(Duration::from_millis(500))
            }
            Self::Silent => {
                of(Kind::Unavailable, "the connection to the database died without a word")
                    .with_failure(Failure::Connection)
            }
            Self::Closed => of(Kind::Draining, "the database is being closed"),
        }
    }
}

const OPEN: u8 = 0;
const COMMITTING: u8 = 1;
const ENDED: u8 = 2;

/// What a session is, for those who hold it and those who watch it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) access: Access,
    /// The place in the code that took it.
    pub(super) site: &'static Location<'static>,
    pub(super) since: Instant,
    pub(super) connection: Arc<Connection>,
    keep: Mutex<Option<(Lease, Place)>>,
    phase: AtomicU8,
    /// Statements that were sent and not answered.
    under_way: AtomicU32,
    /// When the oldest of them was sent, in microseconds since `since`, and one more; 0 for none.
    sent: AtomicU64,
    /// A statement was given up while it was under way: nobody knows what it did.
    pub(super) given_up: AtomicBool,
    /// Whether a transaction was opened and not ended.
    pub(super) open: AtomicBool,
    pub(super) warned: AtomicBool,
}

impl Held {
    pub(super) fn new(
        access: Access,
        site: &'static Location<'static>,
        lease: Lease,
        place: Place,
    ) -> Self {
        Self {
            access,
            site,
            since: Instant::now(),
            connection: Arc::clone(&lease.connection),
            keep: Mutex::new(Some((lease, place))),
            phase: AtomicU8::new(OPEN),
            under_way: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            open: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        }
    }

    /// Why it was taken away, if it was.
    pub(super) fn taken(&self) -> Option<Taken> {
        let phase = self.phase.load(Ordering::Acquire);
        Taken::ALL.into_iter().find(|taken| *taken as u8 == phase)
    }

    /// The error of a session that was taken away.
    pub(super) fn taken_error(&self) -> Option<Error> {
        self.taken().map(|taken| taken.error(self.access.operation))
    }

    /// Whether the commit was sent.
    pub(super) fn is_committing(&self) -> bool {
        self.phase.load(Ordering::Acquire) == COMMITTING
    }

    /// From here on only silence or a limit takes the session away, and the outcome is then unknown.
    pub(super) fn begin_commit(&self) -> bool {
        self.phase.compare_exchange(OPEN, COMMITTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Marks the beginning of a statement; dropping the mark before [`Sent::answered`] says that it was given up.
    pub(super) fn send(&self) -> Sent<'_> {
        if self.under_way.fetch_add(1, Ordering::AcqRel) == 0 {
            self.sent.store(self.micros() + 1, Ordering::Release);
        }
        Sent { held: self, answered: false }
    }

    /// For how long a statement has been under way.
    pub(super) fn waits_for_answer(&self) -> Option<Duration> {
        match self.sent.load(Ordering::Acquire) {
            0 => None,
            sent => Some(Duration::from_micros((self.micros() + 1).saturating_sub(sent))),
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }

    /// When the statement under way was sent; 0 for none. It tells statements apart.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Claims the session from who holds it; then [`Self::evict`]. After the commit was sent only silence does so,
    /// and the phase stays, so that who holds it knows that the outcome is unknown.
    pub(super) fn claim(&self, taken: Taken) -> bool {
        let open =
            self.phase.compare_exchange(OPEN, taken as u8, Ordering::AcqRel, Ordering::Acquire);
        let claimed = match open {
            Ok(_) => true,
            Err(COMMITTING) => taken != Taken::Preempted,
            Err(_) => false,
        };
        if claimed {
            metrics::counter!("apex_database_taken_back_total", "reason" => taken.name())
                .increment(1);
        }
        claimed
    }

    /// Ends the connection, and what it does on the server, and frees the place, whatever who holds it does.
    pub(super) async fn evict(&self) {
        let Some((lease, place)) = self.keep.lock().take() else {
            return;
        };
        if self.waits_for_answer().is_some() && !self.is_committing() {
            lease.connection.canceller().cancel().await;
        }
        drop(lease);
        drop(place);
    }

    /// Ends the session in order: `clean` says that nothing is under way and no transaction open.
    pub(super) fn end(&self, clean: bool) {
        let Some((lease, place)) = self.keep.lock().take() else {
            return;
        };
        self.phase.store(ENDED, Ordering::Release);
        if clean {
            lease.give_back();
        } else {
            drop(lease);
        }
        drop(place);
    }

    /// Undoes what was begun. Says whether the connection is as good as new.
    pub(super) async fn roll_back(&self) -> bool {
        if self.under_way.load(Ordering::Acquire) > 0 || self.given_up.load(Ordering::Acquire) {
            self.connection.canceller().cancel().await;
            return false;
        }
        if !self.open.load(Ordering::Acquire) {
            return true;
        }
        match timeout(ROLLBACK, self.connection.client.batch_execute("ROLLBACK")).await {
            Ok(Ok(())) => {
                self.open.store(false, Ordering::Release);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, operation = self.access.operation, "a rollback failed");
                false
            }
            Err(_) => {
                tracing::warn!(operation = self.access.operation, "a rollback was not answered");
                false
            }
        }
    }

    /// What is left to do for a session that was dropped in the middle.
    pub(super) async fn clean_up(&self) {
        // A commit that was sent is not taken back; its answer may still come.
        let committing = self.is_committing();
        let clean = if committing {
            let answer = self.connection.client.batch_execute("ROLLBACK");
            matches!(timeout(ROLLBACK, answer).await, Ok(Ok(())))
        } else {
            self.roll_back().await
        };
        self.end(clean);
    }
}

/// A statement under way.
pub(super) struct Sent<'h> {
    held: &'h Held,
    answered: bool,
}

impl Sent<'_> {
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.held.given_up.store(true, Ordering::Release);
            return;
        }
        if self.held.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.held.sent.store(0, Ordering::Release);
        }
    }
}
