//! Usage files and their reports.

use crate::convert::to_python;
use crate::door;
use apex_bindings::{Content, Error, Problem};
use pyo3::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// A report whose figures were computed twice.
#[pyclass(frozen)]
pub(crate) struct Report(apex_bindings::Report);

#[pymethods]
impl Report {
    /// As JSON: `report.json`.
    fn json(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_json())
    }

    /// As Markdown: `report.md`.
    fn markdown(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_markdown())
    }

    /// As a page: `report.html`.
    fn html(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.to_html())
    }

    /// In a few lines.
    fn summary(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.summary())
    }
}

/// A path, or a name with its bytes.
#[derive(FromPyObject)]
pub(crate) enum File {
    Named((String, Vec<u8>)),
    Path(PathBuf),
}

impl From<File> for Content {
    fn from(file: File) -> Self {
        match file {
            File::Named((name, bytes)) => Self::Bytes(name, bytes.into()),
            File::Path(path) => Self::Path(path),
        }
    }
}

/// Analyses usage files; Ctrl-C ends it.
#[pyfunction]
pub(crate) fn analyse(
    py: Python<'_>,
    files: Vec<File>,
    contract: Option<Vec<u8>>,
) -> PyResult<Report> {
    let files: Vec<Content> = files.into_iter().map(Content::from).collect();
    let report = door::compute(py, |stop| {
        let mut observe = |_| match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        Ok(apex_bindings::analyse(&files, contract.as_deref(), &mut observe)?)
    })?;
    Ok(Report(report))
}

/// Looks at the beginning of a usage file.
#[pyfunction]
pub(crate) fn look<'py>(py: Python<'py>, file: File) -> PyResult<Bound<'py, PyAny>> {
    let file = Content::from(file);
    let seen = door::compute(py, |_| {
        let seen = apex_bindings::look(&file)?;
        serde_json::to_value(seen).map_err(|error| {
            let told = "what was seen could not be encoded";
            Problem::from(Error::internal("host.look", told).with_source(error))
        })
    })?;
    to_python(py, &seen)
}
