//! Calls into the host's code and stores: never waited for without end, and never the end of more than themselves.

use apex_core::error::{Error, Kind, Outcome, Result, correlation};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

const OPERATION: &str = "transport.call";

/// Waits for something that may be dropped half way, such as a read. A panic is an error of this call.
pub(crate) async fn in_time<T>(
    longest: Duration,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(longest, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(answer)) => answer.map_err(correlation::tie),
        Ok(Err(_)) => Err(panicked()),
        Err(_) => Err(too_late()),
    }
}

/// Waits for a write. It goes on to its end by itself, also when whoever waits for it gives up or goes away: nothing
/// is left half done because a client hung up.
pub(crate) async fn to_the_end<T: Send + 'static>(
    longest: Duration,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let call: BoxFuture<'static, Result<T>> = match correlation::current() {
        Some(id) => Box::pin(correlation::within(id, call)),
        None => Box::pin(call),
    };
    match tokio::time::timeout(longest, tokio::spawn(call)).await {
        Ok(Ok(answer)) => answer.map_err(correlation::tie),
        Ok(Err(_)) => Err(panicked()),
        Err(_) => Err(too_late()),
    }
}

fn panicked() -> Error {
    Error::internal(OPERATION, "the call panicked").with_outcome(Outcome::Unknown)
}

fn too_late() -> Error {
    Error::new(Kind::DeadlineExceeded, OPERATION, "no answer in time; ask again under the same ids")
        .with_outcome(Outcome::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LONGEST: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_write_goes_on_when_nobody_waits_any_more() {
        let done = Arc::new(AtomicBool::new(false));
        let write = {
            let done = Arc::clone(&done);
            async move {
                tokio::time::sleep(3 * LONGEST).await;
                done.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        let error = to_the_end(LONGEST, write).await.unwrap_err();
        assert_eq!(error.kind(), Kind::DeadlineExceeded);
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(!done.load(Ordering::SeqCst));
        tokio::time::sleep(3 * LONGEST).await;
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_of_the_call() {
        let panics = async { panic!("as asked") };
        let error = in_time::<()>(LONGEST, panics).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        let error = to_the_end::<()>(LONGEST, async { panic!("as asked") }).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
        let error = in_time::<()>(LONGEST, std::future::pending()).await;
        assert_eq!(error.unwrap_err().kind(), Kind::DeadlineExceeded);
    }
}
