//! An Apex, its users and the events of its runs.

use crate::callback::{Contexts, Function};
use crate::convert::to_json;
use crate::door;
use crate::mailbox::Mailbox;
use crate::wire::{Answer, Body, Door, Serving};
use crate::work::{Bytes, Json};
use apex_bindings::{
    AgentSpec, Approval, Ask, Call, Callback, Error, Events as HostEvents, Head, Host, HostAgent,
    HostDoor, HostMemory, HostSecrets, HostTool, Kind, Parts, Principal, Problem, Settings,
    ToolSpec, Watcher,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Somebody who is let in.
#[pyclass(frozen, eq, hash, from_py_object)]
#[derive(Clone)]
pub(crate) struct User(pub(crate) Principal);

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.0.user() == other.0.user()
    }
}

impl Eq for User {}

impl std::hash::Hash for User {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.user().hash(state);
    }
}

#[pymethods]
impl User {
    /// The id of the account.
    #[getter]
    fn id(&self) -> String {
        self.0.user().to_string()
    }

    /// What the user may do.
    #[getter]
    fn scopes(&self) -> Vec<&'static str> {
        self.0.scopes().iter().map(|scope| scope.as_str()).collect()
    }

    fn __repr__(&self) -> String {
        format!("<User {} {}>", self.0.user(), self.0.scopes().to_names())
    }
}

/// An Apex inside this process.
#[pyclass(frozen)]
pub(crate) struct Native {
    /// `None` once it is closed.
    host: Mutex<Option<Host>>,
    contexts: Arc<Contexts>,
}

impl Native {
    fn host(&self, py: Python<'_>) -> PyResult<Host> {
        let closed = || Error::new(Kind::Draining, "host.closed", "this Apex is closed");
        self.host.lock().clone().ok_or_else(|| door::raised(py, closed()))
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // What it keeps open is closed where there is a runtime, and without the GIL.
        if let Some(host) = self.host.lock().take() {
            door::apart(host);
        }
    }
}

/// A function, and whether it is asynchronous.
type FunctionParts = (Py<PyAny>, bool);
/// An agent: what is said of it, its function, and whether that is asynchronous.
type AgentParts<'py> = (Bound<'py, PyAny>, Py<PyAny>, bool);
/// A tool: the same, then whether a person has to approve its calls (never, always, or a function that says so), and its
/// look.
type ToolParts<'py> =
    (Bound<'py, PyAny>, Py<PyAny>, bool, Bound<'py, PyAny>, Option<FunctionParts>);
/// The host's way in: the headers, whether browsers send them unasked, and the function.
type DoorParts = (Vec<String>, bool, FunctionParts);
/// Where notes are kept: what keeps one, gives all, forgets one, forgets all.
type MemoryParts = (FunctionParts, FunctionParts, FunctionParts, FunctionParts);

/// What an Apex is made of, as the package puts it together.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Made<'py> {
    settings: Option<Bound<'py, PyDict>>,
    agents: Vec<AgentParts<'py>>,
    tools: Vec<ToolParts<'py>>,
    entry: Option<String>,
    team: bool,
    door: Option<DoorParts>,
    secrets: Option<FunctionParts>,
    watcher: Option<FunctionParts>,
    memory: Option<MemoryParts>,
    contract: Option<Vec<u8>>,
}

#[pymethods]
impl Native {
    /// Builds one whose asynchronous functions run on the running loop.
    #[staticmethod]
    fn open<'py>(py: Python<'py>, made: Made<'py>) -> PyResult<Bound<'py, PyAny>> {
        let contexts = Arc::<Contexts>::default();
        let parts = parts(py, made, &contexts)?;
        door::apart_future(py, async move {
            Ok(Self { host: Mutex::new(Some(parts.build().await?)), contexts })
        })
    }

    fn user<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(User(host.user(&name).await?)) })
    }

    /// Starts a run; `context` is what its functions will find.
    fn start<'py>(
        &self,
        py: Python<'py>,
        user: User,
        ask: &Bound<'py, PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (host, mut ask) = (self.host(py)?, read::<Ask>(ask)?);
        let request = ask.request.get_or_insert_with(Host::request_id).to_lowercase();
        let kept = self.contexts.keep(request, context);
        door::future(py, async move { Ok(Json(host.start(&user.0, ask, kept).await?)) })
    }

    fn result<'py>(&self, py: Python<'py>, user: User, run: String) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.result(&user.0, &run).await?)) })
    }

    #[pyo3(signature = (user, run, after=0, epoch=None))]
    fn follow<'py>(
        &self,
        py: Python<'py>,
        user: User,
        run: String,
        after: u64,
        epoch: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move {
            let events = host.follow(&user.0, &run, after, epoch.as_deref()).await?;
            Ok(Events(Arc::new(events)))
        })
    }

    fn run<'py>(&self, py: Python<'py>, user: User, run: String) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.run(&user.0, &run).await?)) })
    }

    fn cancel<'py>(&self, py: Python<'py>, user: User, run: String) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { host.cancel(&user.0, &run).await.map_err(Problem::from) })
    }

    fn stop<'py>(
        &self,
        py: Python<'py>,
        user: User,
        run: String,
        step: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(
            py,
            async move { host.stop(&user.0, &run, &step).await.map_err(Problem::from) },
        )
    }

    fn decide<'py>(
        &self,
        py: Python<'py>,
        user: User,
        run: String,
        approval: String,
        digest: String,
        decision: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move {
            let decided = host.decide(&user.0, &run, &approval, &digest, &decision).await;
            decided.map_err(Problem::from)
        })
    }

    fn threads<'py>(
        &self,
        py: Python<'py>,
        user: User,
        shared: bool,
        cursor: Option<String>,
        most: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move {
            Ok(Json(host.threads(&user.0, shared, cursor.as_deref(), most).await?))
        })
    }

    fn messages<'py>(
        &self,
        py: Python<'py>,
        user: User,
        thread: String,
        cursor: Option<String>,
        most: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move {
            Ok(Json(host.messages(&user.0, &thread, cursor.as_deref(), most).await?))
        })
    }

    fn forget<'py>(
        &self,
        py: Python<'py>,
        user: User,
        thread: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { host.forget(&user.0, &thread).await.map_err(Problem::from) })
    }

    fn upload<'py>(
        &self,
        py: Python<'py>,
        user: User,
        name: String,
        content: Vec<u8>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.upload(&user.0, &name, content).await?)) })
    }

    fn upload_path<'py>(
        &self,
        py: Python<'py>,
        user: User,
        name: String,
        path: PathBuf,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.upload_path(&user.0, &name, path).await?)) })
    }

    fn files<'py>(&self, py: Python<'py>, user: User) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.files(&user.0).await?)) })
    }

    fn file<'py>(
        &self,
        py: Python<'py>,
        user: User,
        file: String,
        most: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Bytes(host.file(&user.0, &file, most).await?)) })
    }

    fn delete_file<'py>(
        &self,
        py: Python<'py>,
        user: User,
        file: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(
            py,
            async move { host.delete_file(&user.0, &file).await.map_err(Problem::from) },
        )
    }

    fn artifacts<'py>(
        &self,
        py: Python<'py>,
        user: User,
        run: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.artifacts(&user.0, &run).await?)) })
    }

    fn artifact<'py>(
        &self,
        py: Python<'py>,
        user: User,
        artifact: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Bytes(host.artifact(&user.0, &artifact).await?)) })
    }

    fn usage<'py>(
        &self,
        py: Python<'py>,
        user: User,
        run: Option<String>,
        by: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.usage(&user.0, run.as_deref(), &by).await?)) })
    }

    fn ticket<'py>(&self, py: Python<'py>, user: User) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.ticket(&user.0).await?)) })
    }

    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Json(host.health().await?)) })
    }

    fn serve<'py>(&self, py: Python<'py>, address: Option<String>) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        door::future(py, async move { Ok(Serving::new(host.serve(address.as_deref()).await?)) })
    }

    /// Answers a request of the host's server: its answer, and where its body goes.
    #[allow(clippy::type_complexity, reason = "that is what a request is")]
    fn respond<'py>(
        &self,
        py: Python<'py>,
        method: String,
        target: String,
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        peer: Option<String>,
    ) -> PyResult<(Body, Bound<'py, PyAny>)> {
        let host = self.host(py)?;
        let head = head(method, target, headers, peer);
        let (body, pieces) = Body::new();
        let answer =
            door::future(py, async move { Ok(Answer::new(host.respond(head, pieces).await?)) })?;
        Ok((body, answer))
    }

    /// Checks who asks for an upgrade: `(subprotocol, pipe)`, or the answer that refuses.
    fn knock<'py>(
        &self,
        py: Python<'py>,
        target: String,
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        peer: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        let head = head("GET".to_owned(), target, headers, peer);
        door::future(py, async move { Ok(Door(host.knock(head).await?)) })
    }

    fn drain<'py>(&self, py: Python<'py>, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
        let host = self.host(py)?;
        let deadline = Duration::try_from_secs_f64(seconds)
            .map_err(|_| PyValueError::new_err("a time in seconds is not negative"))?;
        door::future(py, async move { Ok(host.drain(deadline).await) })
    }

    /// Lets go of everything.
    fn close(&self) {
        if let Some(host) = self.host.lock().take() {
            door::apart(host);
        }
    }
}

fn head(
    method: String,
    target: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    peer: Option<String>,
) -> Head {
    Head { method, target, headers, peer: peer.and_then(|peer| peer.parse().ok()) }
}

/// The events of one run.
#[pyclass(frozen)]
pub(crate) struct Events(Arc<HostEvents>);

#[pymethods]
impl Events {
    /// What comes next, all that is there, as a JSON list; `None` at the end.
    fn next_many<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let events = Arc::clone(&self.0);
        door::future(
            py,
            async move { Ok(events.next_many().await?.map(|batch| Bytes(batch.json))) },
        )
    }
}

fn parts(py: Python<'_>, made: Made<'_>, contexts: &Arc<Contexts>) -> PyResult<Parts> {
    let running = door::running_loop(py)?;
    let mailbox = Mailbox::of(&running)?;
    let function = |function: Py<PyAny>, is_async: bool, otherwise: Kind| {
        let event_loop = is_async.then(|| (running.clone().unbind(), mailbox.clone()));
        Function::new(function, event_loop, Arc::clone(contexts), otherwise)
    };
    let callback = |(work, is_async): FunctionParts, otherwise| {
        Arc::new(function(work, is_async, otherwise)) as Arc<dyn Callback>
    };
    let mut parts = Parts {
        settings: made.settings.map(|settings| read::<Settings>(&settings)).transpose()?,
        entry: made.entry,
        team: made.team,
        contract: made.contract,
        ..Parts::default()
    };
    for (spec, work, is_async) in made.agents {
        let work = callback((work, is_async), Kind::AgentFailed);
        parts.agents.push(HostAgent::new(read::<AgentSpec>(&spec)?, work));
    }
    for (spec, work, is_async, approval, look_up) in made.tools {
        let work = callback((work, is_async), Kind::ToolFailed);
        let approval = match approval.extract::<bool>() {
            Ok(false) => Approval::Never,
            Ok(true) => Approval::Always,
            Err(_) => {
                let says = function(approval.unbind(), false, Kind::ToolFailed);
                Approval::When(Arc::new(move |arguments| {
                    let said = Python::try_attach(|py| says.call_here(py, arguments, &Call::Plain));
                    // Whatever else it says is a yes.
                    Ok(said.is_none_or(|said| said.ok() != Some(false.into())))
                }))
            }
        };
        let look_up = look_up.map(|look_up| callback(look_up, Kind::ToolFailed));
        let tool = HostTool::new(read::<ToolSpec>(&spec)?, work);
        parts.tools.push(tool.approval(approval).look_up(look_up));
    }
    if let Some((headers, ambient, verify)) = made.door {
        let door = HostDoor::new(headers, ambient, callback(verify, Kind::Unavailable));
        parts.doors.push(door.map_err(|error| door::raised(py, error))?);
    }
    parts.secrets = made.secrets.map(|asks| HostSecrets(callback(asks, Kind::Unavailable)));
    parts.watcher = made.watcher.map(|told| Watcher(callback(told, Kind::Internal)));
    parts.memory = made.memory.map(|(keep, notes, forget, forget_all)| HostMemory {
        keep: callback(keep, Kind::Storage),
        notes: callback(notes, Kind::Storage),
        forget: callback(forget, Kind::Storage),
        forget_all: callback(forget_all, Kind::Storage),
    });
    Ok(parts)
}

/// A value of Python's as one of ours.
pub(crate) fn read<T: DeserializeOwned>(value: &Bound<'_, PyAny>) -> PyResult<T> {
    let value = to_json(value)?;
    serde_json::from_value(value).map_err(|error| PyValueError::new_err(error.to_string()))
}
