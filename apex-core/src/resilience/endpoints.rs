use crate::error::{Error, Failure, Kind, Result};
use parking_lot::Mutex;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// So many failures in a row put an endpoint aside.
const FAILURES: u32 = 5;
/// How long it is put aside the first time; twice, three times that the next times.
const ASIDE: Duration = Duration::from_secs(30);
/// The longest that it is put aside.
const ASIDE_MOST: Duration = Duration::from_secs(300);
/// How long an endpoint that refused a write is not asked for writes.
const READS_ONLY: Duration = Duration::from_secs(10);

/// What a call needs of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// One that takes writes.
    Write,
    /// Any.
    Read,
}

/// Several addresses of one dependency instead of a single point of failure. Calls go to the first that is well and
/// does what is needed; one that fails is put aside for a while, but never more than half of them and never the last.
///
/// It keeps books only; `T` is whatever the caller connects by, such as a [`DatabaseHost`](crate::config::DatabaseHost).
#[derive(Debug)]
pub struct Endpoints<T> {
    dependency: String,
    addresses: Vec<T>,
    books: Mutex<Vec<Book>>,
}

/// An address that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a, T> {
    /// Where.
    pub address: &'a T,
    index: usize,
}

/// What an operator sees of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its place in the list.
    pub index: usize,
    /// For how long it is still put aside, in milliseconds.
    pub aside_ms: u64,
    /// For how long it is still taken to refuse writes, in milliseconds.
    pub reads_only_ms: u64,
    /// The failures in a row.
    pub failures: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Book {
    failures: u32,
    times_aside: u32,
    aside_until: Option<Instant>,
    reads_only_until: Option<Instant>,
}

impl Book {
    fn is_aside(&self, now: Instant) -> bool {
        self.aside_until.is_some_and(|until| now < until)
    }

    fn reads_only(&self, now: Instant) -> bool {
        self.reads_only_until.is_some_and(|until| now < until)
    }
}

impl<T> Endpoints<T> {
    /// Addresses in order of preference.
    ///
    /// # Errors
    /// [`Kind::Config`] when there are none.
    pub fn new(dependency: impl Into<String>, addresses: Vec<T>) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::new(Kind::Config, "endpoints.new", "a dependency needs an address"));
        }
        let books = Mutex::new(vec![Book::default(); addresses.len()]);
        Ok(Self { dependency: dependency.into(), addresses, books })
    }

    /// The endpoint to call now.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when none is known to take writes and a write is needed: nothing was sent.
    pub fn choose(&self, need: Need) -> Result<Endpoint<'_, T>> {
        let now = Instant::now();
        let books = self.books.lock();
        let fits = |book: &Book| need == Need::Read || !book.reads_only(now);
        let well = books.iter().position(|book| fits(book) && !book.is_aside(now));
        // When all that fit are put aside, the one that comes back first is better than none.
        let chosen = well.or_else(|| {
            let fitting = books.iter().enumerate().filter(|(_, book)| fits(book));
            fitting.min_by_key(|(_, book)| book.aside_until).map(|(index, _)| index)
        });
        let found =
            chosen.and_then(|index| Some(Endpoint { address: self.addresses.get(index)?, index }));
        found.ok_or_else(|| {
            Error::new(Kind::Unavailable, "endpoints.choose", "no endpoint takes writes now")
                .with("dependency", &self.dependency)
                .with_retry_after(Duration::from_secs(1))
        })
    }

    /// Hears how a call to an endpoint went.
    pub fn heard<R>(&self, endpoint: Endpoint<'_, T>, result: &Result<R>) {
        let now = Instant::now();
        let mut books = self.books.lock();
        let aside = books.iter().filter(|book| book.is_aside(now)).count();
        let may_put_aside = (aside + 1) * 2 <= books.len();
        let Some(book) = books.get_mut(endpoint.index) else {
            return;
        };
        let failure = match result {
            Ok(_) => None,
            Err(error) => error.failure(),
        };
        match failure {
            Some(Failure::ReadOnly) => {
                book.failures = 0;
                book.reads_only_until = Some(now + READS_ONLY);
                tracing::warn!(
                    dependency = self.dependency,
                    endpoint = endpoint.index,
                    "endpoint takes no writes"
                );
            }
            Some(failure) if failure.consequence().counts_for_breaker => {
                book.failures = book.failures.saturating_add(1);
                if book.failures >= FAILURES && may_put_aside && !book.is_aside(now) {
                    book.times_aside = book.times_aside.saturating_add(1);
                    book.failures = 0;
                    book.aside_until = Some(now + (ASIDE * book.times_aside).min(ASIDE_MOST));
                    let dependency = self.dependency.clone();
                    metrics::counter!("apex_endpoints_put_aside_total", "dependency" => dependency)
                        .increment(1);
                    tracing::warn!(
                        dependency = self.dependency,
                        endpoint = endpoint.index,
                        "endpoint put aside"
                    );
                }
            }
            _ if result.is_ok() => {
                *book = Book {
                    times_aside: book.times_aside.saturating_sub(1),
                    reads_only_until: book.reads_only_until,
                    ..Book::default()
                };
            }
            _ => book.failures = 0,
        }
    }

    /// How each endpoint is doing.
    #[must_use]
    pub fn status(&self) -> Vec<EndpointStatus> {
        let now = Instant::now();
        let left = |until: Option<Instant>| {
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
        };
        let books = self.books.lock();
        let status = |(index, book): (usize, &Book)| EndpointStatus {
            index,
            aside_ms: left(book.aside_until),
            reads_only_ms: left(book.reads_only_until),
            failures: book.failures,
        };
        books.iter().enumerate().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;

    fn failed(failure: Failure) -> Result<()> {
        Err(Error::driver(failure, Phase::BeforeCommit, "test", "x"))
    }

    #[tokio::test(start_paused = true)]
    async fn writes_follow_the_one_that_takes_them_and_reads_go_on() {
        let endpoints = Endpoints::new("postgres", vec!["a", "b"]).unwrap();
        let first = endpoints.choose(Need::Write).unwrap();
        assert_eq!(*first.address, "a");
        endpoints.heard(first, &failed(Failure::ReadOnly));
        assert_eq!(*endpoints.choose(Need::Write).unwrap().address, "b");
        assert_eq!(*endpoints.choose(Need::Read).unwrap().address, "a");
        let second = endpoints.choose(Need::Write).unwrap();
        endpoints.heard(second, &failed(Failure::ReadOnly));
        let none = endpoints.choose(Need::Write).unwrap_err();
        assert_eq!(none.kind(), Kind::Unavailable);
        assert!(endpoints.choose(Need::Read).is_ok());
        tokio::time::advance(READS_ONLY).await;
        assert_eq!(
            *endpoints.choose(Need::Write).unwrap().address,
            "a",
            "asked again after a while"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_half_are_put_aside_and_never_the_last() {
        let endpoints = Endpoints::new("x", vec![0, 1, 2, 3]).unwrap();
        for _ in 0..100 {
            endpoints.heard(endpoints.choose(Need::Read).unwrap(), &failed(Failure::Connection));
        }
        let aside = endpoints.status().iter().filter(|status| status.aside_ms > 0).count();
        assert_eq!(aside, 2);
        assert_eq!(*endpoints.choose(Need::Read).unwrap().address, 2);

        let alone = Endpoints::new("x", vec![0]).unwrap();
        for _ in 0..100 {
            alone.heard(alone.choose(Need::Write).unwrap(), &failed(Failure::Timeout));
        }
        assert!(alone.choose(Need::Write).is_ok());
        assert!(Endpoints::<u8>::new("x", Vec::new()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_content_says_nothing_about_the_endpoint() {
        let endpoints = Endpoints::new("x", vec![0, 1]).unwrap();
        for _ in 0..100 {
            endpoints.heard(endpoints.choose(Need::Read).unwrap(), &failed(Failure::Constraint));
        }
        assert_eq!(*endpoints.choose(Need::Read).unwrap().address, 0);
    }
}
