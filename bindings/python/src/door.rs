//! The one door between Python and Rust: the GIL, errors, futures, threads and their end.

use apex_bindings::{Error, Kind, Problem, Runtime};
use parking_lot::Mutex;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::task::AbortHandle;

/// How long work that is in the middle of something is waited for when the process ends.
const ENDING: Duration = Duration::from_secs(2);

/// How many jobs for Python are done at one time with the GIL.
const AT_ONCE: usize = 64;

/// How often somebody who waits for a computation looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// What this process has of Apex's threads.
struct Threads {
    process: u32,
    runtime: Runtime,
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
    Ok(Threads {
        process: std::process::id(),
        runtime: Runtime::new(None)?,
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

/// Runs Rust's work as an awaitable of the running loop. When it is cancelled there, the work is dropped here.
pub(crate) fn future<'py, F, T>(py: Python<'py>, work: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let (waiting, place) = place(py)?;
    let task = threads().and_then(|threads| {
        threads.runtime.spawn(async move {
            let ended = work.await;
            with_python(move |py| place.settle(py, ended));
        })
    });
    let abort = Abort(task.map_err(|error| raised(py, error))?.abort_handle());
    waiting.call_method1("add_done_callback", (abort,))?;
    Ok(waiting)
}

/// As [`future`]; what is there already comes without a detour.
pub(crate) fn prompt_future<'py, F, T>(py: Python<'py>, work: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let runtime = threads().and_then(|threads| threads.runtime.handle());
    let runtime = runtime.map_err(|error| raised(py, error))?;
    let mut work = Box::pin(work);
    let polled = py.detach(|| {
        let _guard = runtime.enter();
        work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    });
    match polled {
        Poll::Ready(ended) => {
            let (waiting, place) = place(py)?;
            place.settle_here(py, ended);
            Ok(waiting)
        }
        Poll::Pending => future(py, work),
    }
}

/// A future of the running loop, and where what comes of it goes.
fn place(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Place)> {
    let event_loop = running_loop(py)?;
    let waiting = event_loop.call_method0("create_future")?;
    let place = Place { event_loop: event_loop.unbind(), waiting: waiting.clone().unbind() };
    Ok((waiting, place))
}

/// The loop that runs on this thread.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "get_running_loop")?.call0()
}

/// A future of a loop's.
struct Place {
    event_loop: Py<PyAny>,
    waiting: Py<PyAny>,
}

impl Place {
    /// From another thread.
    fn settle<T>(self, py: Python<'_>, ended: Result<T, Problem>)
    where
        T: for<'a> IntoPyObject<'a>,
    {
        let (value, error) = outcome(py, ended);
        let settles = bridge(py, "settle");
        // A loop that is closed has nobody who waits.
        let _ = settles.and_then(|settles| {
            let all = (settles, self.waiting, value, error);
            self.event_loop.call_method1(py, "call_soon_threadsafe", all)
        });
    }

    /// From the loop's own thread.
    fn settle_here<T>(self, py: Python<'_>, ended: Result<T, Problem>)
    where
        T: for<'a> IntoPyObject<'a>,
    {
        let (value, error) = outcome(py, ended);
        let settles = bridge(py, "settle");
        let _ = settles.and_then(|settles| settles.call1((self.waiting, value, error)).map(drop));
    }
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
