use netra_apex::core::error::{Error, Kind, Result};
use parking_lot::Mutex;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime as Tokio};
use tokio::task::JoinHandle;

/// The runtime of a binding: made by it, and ended by it before its language's own runtime is gone.
#[derive(Debug)]
pub struct Runtime(Mutex<Option<Tokio>>);

impl Runtime {
    /// A runtime with so many threads, by default as many as there are cores.
    ///
    /// # Errors
    /// `unavailable` when its threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        if let Some(threads) = threads {
            builder.worker_threads(threads.max(1));
        }
        let runtime = builder.thread_name("apex").enable_all().build().map_err(|error| {
            let told = "the threads of Apex cannot be started";
            Error::new(Kind::Unavailable, "runtime.start", told).with_source(error)
        })?;
        Ok(Self(Mutex::new(Some(runtime))))
    }

    /// The runtime.
    ///
    /// # Errors
    /// `draining` after it was ended.
    pub fn handle(&self) -> Result<Handle> {
        let ended = || Error::new(Kind::Draining, "runtime.handle", "this process is ending");
        self.0.lock().as_ref().map(|runtime| runtime.handle().clone()).ok_or_else(ended)
    }

    /// Begins work on it.
    ///
    /// # Errors
    /// `draining` after it was ended.
    pub fn spawn<F>(&self, work: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Ok(self.handle()?.spawn(work))
    }

    /// Ends it: what is under way is dropped where it waits, and threads are waited for at most so long. The caller
    /// holds no lock that work may wait for.
    pub fn shut_down(&self, longest: Duration) {
        let taken = self.0.lock().take();
        if let Some(runtime) = taken {
            runtime.shutdown_timeout(longest);
        }
    }
}
