use super::Deadline;
use crate::error::{Error, Kind, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many calls a dependency gets at a time, and how many wait for their turn: a slow one fills its own places
/// and nobody else's.
///
/// Stands on tokio's semaphore, which serves in order of arrival. `governor` limits how many calls begin in a time,
/// not how many are under way, and `tower`'s limit has no bound on those that wait.
#[derive(Debug)]
pub struct Bulkhead {
    dependency: String,
    places: Semaphore,
    size: usize,
    waiting: AtomicUsize,
    queue: usize,
}

/// A call's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<'a> {
    _permit: SemaphorePermit<'a>,
}

impl Bulkhead {
    /// `size` calls at a time and `queue` that wait.
    #[must_use]
    pub fn new(dependency: impl Into<String>, size: usize, queue: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            dependency: dependency.into(),
            places: Semaphore::new(size),
            size,
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// The calls under way.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.size - self.places.available_permits().min(self.size)
    }

    /// The calls that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a place, not longer than the deadline.
    pub(super) async fn enter(&self, deadline: Deadline) -> Result<Place<'_>> {
        if let Ok(permit) = self.places.try_acquire() {
            return Ok(Place { _permit: permit });
        }
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.queue {
            return Err(self.refused("too many calls wait for it already"));
        }
        let acquired = tokio::time::timeout(deadline.left(), self.places.acquire()).await;
        match acquired {
            // The semaphore is never closed.
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(self.refused("no place became free within the deadline")),
        }
    }

    fn refused(&self, message: &str) -> Error {
        metrics::counter!("apex_bulkhead_refused_total", "dependency" => self.dependency.clone())
            .increment(1);
        Error::new(Kind::Unavailable, "bulkhead.enter", message)
            .with("dependency", &self.dependency)
            .with("at a time", self.size)
    }
}

/// Counts a waiter for as long as it waits, also when it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn places_and_queue_are_bounded_and_given_back() {
        let bulkhead = Bulkhead::new("x", 2, 1);
        let soon = Deadline::after(Duration::from_secs(1));
        let one = bulkhead.enter(soon).await.unwrap();
        let _two = bulkhead.enter(soon).await.unwrap();
        assert_eq!(bulkhead.in_use(), 2);
        {
            let mut waits = std::pin::pin!(bulkhead.enter(soon));
            assert!(waits.as_mut().now_or_never().is_none());
            assert_eq!(bulkhead.waiting(), 1);
            let refused = bulkhead.enter(soon).await.unwrap_err();
            assert!(refused.to_string().contains("too many calls wait"), "{refused}");
            drop(one);
            drop(waits.await.unwrap());
        }
        assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (1, 0));
        let _three = bulkhead.enter(soon).await.unwrap();
        assert!(
            bulkhead.enter(soon).await.unwrap_err().to_string().contains("within the deadline")
        );
    }
}
