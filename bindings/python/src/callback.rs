//! Functions of the host's in the place of agents, tools and whatever else asks.

use crate::convert::{to_json, to_python};
use crate::door;
use crate::work::{AgentWork, ToolWork};
use apex_bindings::{Call, Callback, Error, Kind, Problem, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How many messages' context variables are kept for the functions that their runs will call; the oldest go first.
const MOST_CONTEXTS: usize = 4_096;

/// The context variables with which messages were said, by the messages' ids.
#[derive(Default)]
pub(crate) struct Contexts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    contexts: HashMap<String, Py<PyAny>>,
    /// The messages, the oldest first.
    order: VecDeque<String>,
}

impl Contexts {
    pub(crate) fn keep(&self, request: String, context: Py<PyAny>) {
        let mut gone = None;
        {
            let Kept { contexts, order } = &mut *self.0.lock();
            if contexts.insert(request.clone(), context).is_none() {
                order.push_back(request);
            }
            if order.len() > MOST_CONTEXTS
                && let Some(oldest) = order.pop_front()
            {
                gone = contexts.remove(&oldest);
            }
        }
        // What it holds may have finalizers of its own.
        drop(gone);
    }

    /// A copy of the context of that message's, or an empty one.
    fn of<'py>(&self, py: Python<'py>, request: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let kept = request.and_then(|request| {
            self.0.lock().contexts.get(request).map(|context| context.clone_ref(py))
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
    /// The loop that it runs on; one without runs on a thread.
    event_loop: Option<Py<PyAny>>,
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
        event_loop: Option<Py<PyAny>>,
        contexts: Arc<Contexts>,
        otherwise: Kind,
    ) -> Self {
        Self(Arc::new(Inner { function, event_loop, contexts, otherwise }))
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
        let this = self.clone();
        let work = move || Python::try_attach(|py| this.call_here(py, &input, &call));
        // What has begun goes on to its end, whoever waits for it.
        match tokio::task::spawn_blocking(work).await {
            Ok(Some(made)) => made,
            Ok(None) | Err(_) => Err(ending()),
        }
    }

    async fn on_loop(&self, input: Value, call: Call) -> Result<Value> {
        let (sender, made) = oneshot::channel();
        let state = Arc::new(State {
            sender: Mutex::new(Some(sender)),
            task: Mutex::default(),
            otherwise: self.0.otherwise,
        });
        let mut guard = Guard { function: self.clone(), state: Some(Arc::clone(&state)) };
        let this = self.clone();
        door::with_python(move |py| this.begin(py, &input, &call, state));
        let made = made.await;
        guard.state = None;
        made.unwrap_or_else(|_| Err(loop_closed()))
    }

    fn begin(&self, py: Python<'_>, input: &Value, call: &Call, state: Arc<State>) {
        let begun = || {
            let Some(event_loop) = &self.0.event_loop else { return Ok(()) };
            let context = self.0.contexts.of(py, call.request())?;
            let (input, work) = (to_python(py, input)?, work(py, call)?);
            let done = Bound::new(py, Done(Arc::clone(&state)))?;
            let (begin, function) = (door::bridge(py, "begin")?, self.0.function.bind(py));
            let all = (begin, event_loop, function, input, work, done, context);
            event_loop.call_method1(py, "call_soon_threadsafe", all).map(drop)
        };
        if let Err(exception) = begun() {
            let closed = self.0.event_loop.as_ref().is_some_and(|event_loop| {
                let closed = event_loop.call_method0(py, "is_closed");
                closed.and_then(|closed| closed.is_truthy(py)).unwrap_or(true)
            });
            state.end(Err(if closed {
                loop_closed()
            } else {
                failed(py, &exception, Kind::Unavailable)
            }));
        }
    }
}

#[async_trait]
impl Callback for Function {
    async fn call(&self, input: Value, call: Call) -> Result<Value> {
        match self.0.event_loop {
            Some(_) => self.on_loop(input, call).await,
            None => self.on_thread(input, call).await,
        }
    }
}

/// A call on a loop.
struct State {
    sender: Mutex<Option<oneshot::Sender<Result<Value>>>>,
    /// The task, once it has begun.
    task: Mutex<Option<Py<PyAny>>>,
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
struct Guard {
    function: Function,
    state: Option<Arc<State>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let function = self.function.clone();
        door::with_python(move |py| {
            let task = state.task.lock().as_ref().map(|task| task.clone_ref(py));
            if let (Some(task), Some(event_loop)) = (task, &function.0.event_loop) {
                let cancels = task.getattr(py, "cancel");
                // A loop that is closed has no task to cancel.
                let _ = cancels.and_then(|cancels| {
                    event_loop.call_method1(py, "call_soon_threadsafe", (cancels,))
                });
            }
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
