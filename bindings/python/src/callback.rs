//! Functions of the host's in the place of agents, tools and whatever else asks.

use crate::convert::{to_json, to_python};
use crate::door;
use crate::mailbox::Mailbox;
use crate::work::{AgentWork, ToolWork};
use apex_bindings::{Call, Callback, Error, Kind, Problem, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many messages' context variables are kept for the functions that their runs will call; the oldest go first.
const MOST_CONTEXTS: usize = 4_096;

/// Within which time a function ends that is called on a thread of the runtime's the next time, rather than on one for
/// what may take long.
const QUICK: Duration = Duration::from_micros(500);

/// The context variables with which messages were said, by the messages' ids.
#[derive(Default)]
pub(crate) struct Contexts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    contexts: HashMap<String, (u64, Py<PyAny>)>,
    /// The messages by their numbers, the oldest first.
    order: BTreeMap<u64, String>,
    last: u64,
}

impl Kept {
    fn remove(&mut self, number: u64) -> Option<(u64, Py<PyAny>)> {
        self.order.remove(&number).and_then(|request| self.contexts.remove(&request))
    }
}

/// Lets go of the context variables of one message when it is dropped.
pub(crate) struct KeptContext {
    all: Arc<Contexts>,
    number: u64,
}

impl Drop for KeptContext {
    fn drop(&mut self) {
        let gone = self.all.0.lock().remove(self.number);
        // What it holds may have finalizers of its own.
        drop(gone);
    }
}

impl Contexts {
    /// Keeps them for as long as what it gives is there, in place of those that the message was said with before.
    pub(crate) fn keep(self: &Arc<Self>, request: String, context: Py<PyAny>) -> KeptContext {
        let (number, gone) = {
            let mut kept = self.0.lock();
            kept.last += 1;
            let number = kept.last;
            let before = kept.contexts.insert(request.clone(), (number, context));
            if let Some((before, _)) = &before {
                kept.order.remove(before);
            }
            kept.order.insert(number, request);
            let oldest = kept.order.keys().next().copied();
            let full = oldest.filter(|_| kept.order.len() > MOST_CONTEXTS);
            (number, (before, full.and_then(|oldest| kept.remove(oldest))))
        };
        drop(gone);
        KeptContext { all: Arc::clone(self), number }
    }

    /// A copy of the context of that message's, or an empty one.
    fn of<'py>(&self, py: Python<'py>, request: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let kept = request.and_then(|request| {
            self.0.lock().contexts.get(request).map(|(_, context)| context.clone_ref(py))
        });
        match kept {
            Some(context) => context.bind(py).call_method0("copy"),
            None => door::bridge(py, "Context")?.call0(),
        }
    }
}

/// A function `(input, work)` of the host's. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Function(Arc<Inner>);

struct Inner {
    function: Py<PyAny>,
    /// The loop that it runs on, with its mailbox; one without runs on a thread.
    event_loop: Option<(Py<PyAny>, Mailbox)>,
    /// Whether it was quick the last time.
    quick: AtomicBool,
    contexts: Arc<Contexts>,
    /// As what its exceptions count that say nothing else.
    otherwise: Kind,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function(…)")
    }
}

impl Function {
    pub(crate) fn new(
        function: Py<PyAny>,
        event_loop: Option<(Py<PyAny>, Mailbox)>,
        contexts: Arc<Contexts>,
        otherwise: Kind,
    ) -> Self {
        let quick = AtomicBool::new(false);
        Self(Arc::new(Inner { function, event_loop, quick, contexts, otherwise }))
    }

    /// Calls it at once, on this thread, with the GIL.
    pub(crate) fn call_here(&self, py: Python<'_>, input: &Value, call: &Call) -> Result<Value> {
        let called = || {
            let context = self.0.contexts.of(py, call.request())?;
            let (input, work) = (to_python(py, input)?, work(py, call)?);
            let function = self.0.function.bind(py);
            to_json(&context.call_method1("run", (function, input, work))?)
        };
        called().map_err(|exception| failed(py, &exception, self.0.otherwise))
    }

    async fn on_thread(&self, input: Value, call: Call) -> Result<Value> {
        if self.0.quick.load(Ordering::Relaxed)
            && let Some(_place) = door::spare_thread()
        {
            let made = self.timed(&input, &call);
            if !self.0.quick.load(Ordering::Relaxed) {
                // Whoever gave it so much time and no more has a look first.
                tokio::task::yield_now().await;
            }
            return made.unwrap_or_else(|| Err(ending()));
        }
        let this = self.clone();
        // What has begun goes on to its end, whoever waits for it.
        match tokio::task::spawn_blocking(move || this.timed(&input, &call)).await {
            Ok(Some(made)) => made,
            Ok(None) | Err(_) => Err(ending()),
        }
    }

    /// Calls it on this thread, and sees how long it takes; `None` once the process ends.
    fn timed(&self, input: &Value, call: &Call) -> Option<Result<Value>> {
        door::attached(|py| {
            let began = Instant::now();
            let made = self.call_here(py, input, call);
            self.0.quick.store(began.elapsed() < QUICK, Ordering::Relaxed);
            made
        })
    }

    async fn on_loop(&self, mailbox: &Mailbox, input: Value, call: Call) -> Result<Value> {
        let (sender, made) = oneshot::channel();
        let task = Arc::default();
        let state = Arc::new(State {
            sender: Mutex::new(Some(sender)),
            task: Arc::clone(&task),
            otherwise: self.0.otherwise,
        });
        let mut guard = Guard { mailbox, state: Some(Arc::clone(&state)) };
        let this = self.clone();
        mailbox.leave(move |py| {
            this.begin(py, &input, &call, state);
            Ok(())
        });
        let made = tokio::select! {
            biased;
            made = made => made.unwrap_or_else(|_| Err(loop_closed())),
            () = mailbox.gone() => {
                // A task that its loop has left behind holds what holds it.
                drop(task.lock().take());
                Err(loop_closed())
            }
        };
        guard.state = None;
        made
    }

    fn begin(&self, py: Python<'_>, input: &Value, call: &Call, state: Arc<State>) {
        let begun = || {
            let Some((event_loop, _)) = &self.0.event_loop else { return Ok(()) };
            let context = self.0.contexts.of(py, call.request())?;
            let (input, work) = (to_python(py, input)?, work(py, call)?);
            let done = Bound::new(py, Done(Arc::clone(&state)))?;
            let function = self.0.function.bind(py);
            let all = (event_loop, function, input, work, done, context);
            door::bridge(py, "begin")?.call1(all).map(drop)
        };
        if let Err(exception) = begun() {
            state.end(Err(failed(py, &exception, Kind::Unavailable)));
        }
    }
}

#[async_trait]
impl Callback for Function {
    async fn call(&self, input: Value, call: Call) -> Result<Value> {
        match &self.0.event_loop {
            Some((_, mailbox)) => self.on_loop(mailbox, input, call).await,
            None => self.on_thread(input, call).await,
        }
    }
}

/// A call on a loop.
struct State {
    sender: Mutex<Option<oneshot::Sender<Result<Value>>>>,
    /// The task, once it has begun.
    task: Arc<Mutex<Option<Py<PyAny>>>>,
    otherwise: Kind,
}

impl State {
    fn end(&self, made: Result<Value>) {
        let waiting = self.sender.lock().take();
        if let Some(waiting) = waiting {
            // Nobody may wait any more.
            let _ = waiting.send(made);
        }
    }
}

/// What a task is told that works for Rust.
#[pyclass(frozen)]
pub(crate) struct Done(Arc<State>);

#[pymethods]
impl Done {
    /// Whether somebody still waits for the task; if so, it is the one to be cancelled.
    fn begun(&self, task: Py<PyAny>) -> bool {
        let waited_for = self.0.sender.lock().as_ref().is_some_and(|waiting| !waiting.is_closed());
        *self.0.task.lock() = Some(task);
        waited_for
    }

    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) {
        let made = task.call_method0("result").and_then(|made| to_json(&made));
        let made = made.map_err(|exception| failed(py, &exception, self.0.otherwise));
        let task = self.0.task.lock().take();
        drop(task);
        self.0.end(made);
    }
}

/// Cancels the task when nobody waits for it any more.
struct Guard<'a> {
    mailbox: &'a Mailbox,
    state: Option<Arc<State>>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        self.mailbox.leave(move |py| {
            let task = state.task.lock().as_ref().map(|task| task.clone_ref(py));
            task.map_or(Ok(()), |task| task.call_method0(py, "cancel").map(drop))
        });
    }
}

/// The handle that the function gets.
fn work<'py>(py: Python<'py>, call: &Call) -> PyResult<Bound<'py, PyAny>> {
    Ok(match call {
        Call::Agent(work) => Bound::new(py, AgentWork(work.clone()))?.into_any(),
        Call::Tool(work) => Bound::new(py, ToolWork(work.clone()))?.into_any(),
        Call::Plain => py.None().into_bound(py),
    })
}

/// What went wrong in a function of the host's. Its stack goes to the log.
fn failed(py: Python<'_>, exception: &PyErr, otherwise: Kind) -> Error {
    if exception.is_instance_of::<CancelledError>(py) {
        return Error::new(Kind::Cancelled, "host.callback", "the task was cancelled");
    }
    let (code, message) = door::told(py, exception);
    Problem::of_host(code.as_deref(), otherwise, message)
}

fn loop_closed() -> Error {
    let told = "the event loop that the host's functions run on is closed";
    Error::new(Kind::Unavailable, "host.callback", told)
}

fn ending() -> Error {
    Error::new(Kind::Draining, "host.callback", "this process is ending")
}
