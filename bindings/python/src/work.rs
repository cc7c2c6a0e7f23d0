//! What a function of the host's may touch while it works. `netra_apex.Context` and `netra_apex.ToolContext` wrap these.

use crate::convert::{to_json, to_python};
use crate::door;
use crate::host::User;
use apex_bindings::{AgentWork as Agent, Problem, ToolWork as Tool};
use pyo3::prelude::*;
use serde_json::Value;

/// A JSON value on its way to Python.
pub(crate) struct Json(pub(crate) Value);

impl<'py> IntoPyObject<'py> for Json {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        to_python(py, &self.0)
    }
}

/// A step of an agent.
#[pyclass(frozen)]
pub(crate) struct AgentWork(pub(crate) Agent);

#[pymethods]
impl AgentWork {
    #[getter]
    fn user(&self) -> User {
        User(self.0.principal().clone())
    }

    #[getter]
    fn run(&self) -> String {
        self.0.run()
    }

    #[getter]
    fn thread(&self) -> String {
        self.0.thread()
    }

    #[getter]
    fn step(&self) -> String {
        self.0.step()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn think<'py>(&self, py: Python<'py>, note: String) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.think(note).await.map_err(Problem::from) })
    }

    fn degraded<'py>(&self, py: Python<'py>, note: String) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.degraded(note).await.map_err(Problem::from) })
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        tool: String,
        arguments: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (work, arguments) = (self.0.clone(), to_json(arguments)?);
        door::future(py, async move { Ok(Json(work.call(tool, arguments).await?)) })
    }

    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.now().await.map_err(Problem::from) })
    }

    fn random<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.random().await.map_err(Problem::from) })
    }

    fn ask<'py>(
        &self,
        py: Python<'py>,
        question: &Bound<'py, PyAny>,
        show: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (work, question) = (self.0.clone(), to_json(question)?);
        door::future(py, async move { Ok(Json(work.ask(question, show).await?)) })
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        self.0.progress(done, total, unit);
    }

    fn plan<'py>(
        &self,
        py: Python<'py>,
        goal: &str,
        without: Vec<String>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let without: Vec<&str> = without.iter().map(String::as_str).collect();
        let plan = self.0.plan(goal, &without).map_err(|error| door::raised(py, error))?;
        plan.map(|plan| to_python(py, &plan)).transpose()
    }
}

/// A call of a tool.
#[pyclass(frozen)]
pub(crate) struct ToolWork(pub(crate) Tool);

#[pymethods]
impl ToolWork {
    #[getter]
    fn user(&self) -> User {
        User(self.0.principal().clone())
    }

    #[getter]
    fn run(&self) -> String {
        self.0.run()
    }

    #[getter]
    fn call(&self) -> String {
        self.0.call()
    }

    #[getter]
    fn idempotency_key(&self) -> &str {
        self.0.idempotency_key()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn summarise(&self, sentence: String) {
        self.0.summarise(sentence);
    }

    fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        self.0.progress(done, total, unit);
    }

    fn file<'py>(&self, py: Python<'py>, file: String) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { Ok(Json(work.file(&file).await?)) })
    }

    fn read_file<'py>(
        &self,
        py: Python<'py>,
        file: String,
        most: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { Ok(Bytes(work.read_file(&file, most).await?)) })
    }

    fn put_artifact<'py>(
        &self,
        py: Python<'py>,
        name: String,
        media_type: String,
        content: Vec<u8>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(
            py,
            async move { Ok(Json(work.put_artifact(&name, &media_type, content).await?)) },
        )
    }

    fn artifact<'py>(&self, py: Python<'py>, artifact: String) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { Ok(Bytes(work.artifact(&artifact).await?)) })
    }

    fn remember<'py>(
        &self,
        py: Python<'py>,
        name: String,
        text: String,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.remember(&name, &text).await.map_err(Problem::from) })
    }

    fn recall<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { Ok(Json(work.recall().await?)) })
    }

    fn forget<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let work = self.0.clone();
        door::future(py, async move { work.forget(&name).await.map_err(Problem::from) })
    }
}

/// Bytes on their way to Python.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'py> IntoPyObject<'py> for Bytes {
    type Target = pyo3::types::PyBytes;
    type Output = Bound<'py, pyo3::types::PyBytes>;
    type Error = std::convert::Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(pyo3::types::PyBytes::new(py, &self.0))
    }
}
