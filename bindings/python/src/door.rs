//! The one door between Python and Rust: the GIL, errors, futures, threads and their end.

use crate::mailbox::Mailbox;
use apex_bindings::{Error, Kind, Problem, Runtime};
use parking_lot::Mutex;
use pyo3::IntoPyObjectExt as _;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::OnceCell;
use std::future::Future;
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

/// How long work that is in the middle of something is waited for when the process ends.
const ENDING: Duration = Duration::from_secs(2);

/// How many threads the runtime has beside those that its own work needs, for functions of the host's that are quick.
const SPARE: usize = 2;

/// How many jobs for Python are done at one time with the GIL.
const AT_ONCE: usize = 64;

/// How often somebody who waits for a computation looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// What this process has of Apex's threads.
struct Threads {
    process: u32,
    runtime: Runtime,
    /// How many of the runtime's spare threads nobody has.
    spare: Semaphore,
    /// Who takes jobs to Python.
    courier: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

type Job = Box<dyn FnOnce(Python<'_>) + Send>;

static THREADS: OnceLock<Threads> = OnceLock::new();

fn threads() -> Result<&'static Threads, Error> {
    let threads = match THREADS.get() {
        Some(threads) => threads,
        None => {
            let started = start()?;
            THREADS.get_or_init(|| started)
        }
    };
    if threads.process != std::process::id() {
        return Err(Error::new(
            Kind::Unavailable,
            "runtime.fork",
            "this process was forked from one that has used Apex, whose threads it does not have: \
             open Apex after forking, or start processes by `spawn`",
        ));
    }
    Ok(threads)
}

fn start() -> Result<Threads, Error> {
    let (sender, jobs) = channel();
    let named = std::thread::Builder::new().name("apex-python".to_owned());
    let courier = named.spawn(move || carry(&jobs)).map_err(|error| {
        let told = "the threads of Apex cannot be started";
        Error::new(Kind::Unavailable, "runtime.start", told).with_source(error)
    })?;
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Ok(Threads {
        process: std::process::id(),
        runtime: Runtime::new(Some(cores + SPARE))?,
        spare: Semaphore::new(SPARE),
        courier: Mutex::new(Some((sender, courier))),
    })
}

/// The thread that waits for the GIL, so that no other one does.
fn carry(jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        // While the interpreter ends there is nobody to take anything to.
        Python::try_attach(|py| {
            first(py);
            for job in jobs.try_iter().take(AT_ONCE) {
                job(py);
            }
        });
    }
}

/// The right to keep a thread of the runtime's with a function of the host's. The others do without it meanwhile.
pub(crate) fn spare_thread() -> Option<SemaphorePermit<'static>> {
    threads().ok()?.spare.try_acquire().ok()
}

/// Does something with the GIL on this thread of Apex's, and waits for it; `None` once the interpreter ends.
///
/// Python's state of the thread is made once and kept for as long as the thread is there: to make it anew each time costs
/// more than most functions do.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    thread_local! { static KEPT: OnceCell<Option<Kept>> = const { OnceCell::new() } }
    let _ = KEPT.try_with(|kept| {
        kept.get_or_init(|| Python::try_attach(Kept::new));
    });
    Python::try_attach(work)
}

/// Python's state of a thread.
struct Kept(ffi::PyGILState_STATE);

#[expect(unsafe_code, reason = "pyo3 has nothing that keeps a thread's state")]
impl Kept {
    fn new(_: Python<'_>) -> Self {
        // SAFETY: this thread is attached. What is counted here is counted back when the thread ends.
        Self(unsafe { ffi::PyGILState_Ensure() })
    }
}

#[expect(unsafe_code, reason = "as above")]
impl Drop for Kept {
    fn drop(&mut self) {
        let Self(state) = *self;
        // SAFETY: this is the thread that counted, since it is kept in a variable of the thread's own.
        Python::try_attach(|_| unsafe { ffi::PyGILState_Release(state) });
    }
}

/// Has something done with the GIL soon, in order; nothing once the process ends.
pub(crate) fn with_python(job: impl FnOnce(Python<'_>) + Send + 'static) {
    if let Ok(threads) = threads()
        && let Some((courier, _)) = &*threads.courier.lock()
    {
        // It takes jobs for as long as it is there.
        let _ = courier.send(Box::new(job));
    }
}

/// Lets go of something in the runtime rather than here, where the GIL may be held.
pub(crate) fn apart<T: Send + 'static>(thing: T) {
    // In a child that was forked, and once the process ends, nothing is left to close it with.
    if let Ok(threads) = threads() {
        let _ = threads.runtime.spawn(async move { drop(thing) });
    } else {
        std::mem::forget(thing);
    }
}

/// Ends the threads; called by Python's `atexit`.
#[pyfunction]
pub(crate) fn shut_down(py: Python<'_>) {
    let Some(threads) = THREADS.get().filter(|threads| threads.process == std::process::id())
    else {
        return;
    };
    py.detach(|| {
        threads.runtime.shut_down(ENDING);
        let taken = threads.courier.lock().take();
        if let Some((sender, courier)) = taken {
            drop(sender);
            let _ = courier.join();
        }
    });
}

/// Runs Rust's work as an awaitable of the running loop: what is there already comes without a detour. When it is
/// cancelled there, the work is dropped here.
pub(crate) fn future<'py, F, T>(py: Python<'py>, work: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let runtime = runtime(py)?;
    let mut work = Box::pin(work);
    let polled = py.detach(|| {
        let _inside = runtime.enter();
        work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    });
    match polled {
        Poll::Ready(ended) => {
            let waiting = running_loop(py)?.call_method0("create_future")?;
            settle(py, &waiting, ended)?;
            Ok(waiting)
        }
        Poll::Pending => apart_future(py, work),
    }
}

/// As [`future`], of work that may keep the one who begins it.
pub(crate) fn apart_future<'py, F, T>(py: Python<'py>, work: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let (runtime, event_loop) = (runtime(py)?, running_loop(py)?);
    let mailbox = Mailbox::of(&event_loop)?;
    let waiting = event_loop.call_method0("create_future")?;
    let waits = waiting.clone().unbind();
    let task = runtime.spawn(async move {
        let ended = work.await;
        mailbox.leave(move |py| settle(py, waits.bind(py), ended));
    });
    waiting.call_method1("add_done_callback", (Abort(task.abort_handle()),))?;
    Ok(waiting)
}

fn runtime(py: Python<'_>) -> PyResult<Handle> {
    let runtime = threads().and_then(|threads| threads.runtime.handle());
    runtime.map_err(|error| raised(py, error))
}

/// The loop that runs on this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

/// Ends a future of the running loop's.
fn settle<T>(py: Python<'_>, waiting: &Bound<'_, PyAny>, ended: Result<T, Problem>) -> PyResult<()>
where
    T: for<'a> IntoPyObject<'a>,
{
    let (value, error) = outcome(py, ended);
    bridge(py, "settle")?.call1((waiting, value, error)).map(drop)
}

fn outcome<T>(py: Python<'_>, ended: Result<T, Problem>) -> (Py<PyAny>, Py<PyAny>)
where
    T: for<'a> IntoPyObject<'a>,
{
    let ended =
        ended.map_err(|problem| raised(py, problem)).and_then(|value| value.into_py_any(py));
    match ended {
        Ok(value) => (value, py.None()),
        Err(error) => (py.None(), error.into_value(py).into_any()),
    }
}

/// What a loop tells when a future of it is done: where it was cancelled, the work behind it is dropped.
#[pyclass(frozen)]
pub(crate) struct Abort(AbortHandle);

#[pymethods]
impl Abort {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if future.call_method0("cancelled")?.is_truthy()? {
            self.0.abort();
        }
        Ok(())
    }
}

/// Waits for a computation without the GIL. Ctrl-C sets the flag that it gets, and is raised when it has stopped.
pub(crate) fn compute<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&AtomicBool) -> Result<T, Problem> + Send,
) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| work(&stop));
        let mut interrupted = None;
        while !running.is_finished() {
            py.detach(|| std::thread::sleep(if interrupted.is_none() { SHORT } else { LOOK }));
            if interrupted.is_none()
                && let Err(signal) = py.check_signals()
            {
                stop.store(true, Ordering::Relaxed);
                interrupted = Some(signal);
            }
        }
        let ended = py.detach(|| running.join());
        match (interrupted, ended) {
            (Some(signal), _) => Err(signal),
            (None, Ok(ended)) => ended.map_err(|problem| raised(py, problem)),
            (None, Err(_)) => {
                Err(raised(py, Error::internal("door.compute", "a computation panicked")))
            }
        }
    })
}

/// How often somebody looks for the end of a short computation.
const SHORT: Duration = Duration::from_millis(2);

/// The exception that a problem is.
pub(crate) fn raised(py: Python<'_>, problem: impl Into<Problem>) -> PyErr {
    let made = bridge(py, "exception").and_then(|make| make.call1((problem.into().to_json(),)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// A function of `netra_apex._bridge`, which has what is said more easily in Python.
pub(crate) fn bridge<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static BRIDGE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        BRIDGE.get_or_try_init(py, || py.import("netra_apex._bridge").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// The exception's code, if it is one of Apex's, and what it says.
pub(crate) fn told(py: Python<'_>, exception: &PyErr) -> (Option<String>, String) {
    let value = exception.value(py);
    let stack = exception.traceback(py);
    let with_stack = value.setattr("__traceback__", stack);
    let told = with_stack.and_then(|()| bridge(py, "told")?.call1((value,)));
    told.and_then(|told| told.extract())
        .unwrap_or_else(|_| (None, "an exception that does not say what it is".to_owned()))
}
