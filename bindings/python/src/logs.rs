//! The log of Apex, to Python's.

use crate::convert::to_python;
use crate::door;
use apex_bindings::{Logs, Record};
use pyo3::prelude::*;
use serde_json::Value;

/// Hands every line of the log from this level on to `write(level, name, message, fields)`; once for a process.
#[pyfunction]
pub(crate) fn collect_logs(py: Python<'_>, level: u8, write: Py<PyAny>) -> PyResult<()> {
    let logs = Logs::collect(level).map_err(|error| door::raised(py, error))?;
    let carry = move || {
        while let Some(record) = logs.next() {
            // While the interpreter ends there is no log.
            Python::try_attach(|py| hand_over(py, &write, record));
        }
    };
    std::thread::Builder::new().name("apex-logs".to_owned()).spawn(carry)?;
    Ok(())
}

fn hand_over(py: Python<'_>, write: &Py<PyAny>, record: Record) {
    let Record { level, target, message, fields, dropped } = record;
    let written = to_python(py, &Value::Object(fields))
        .and_then(|fields| write.call1(py, (level, target, message, fields, dropped)));
    if let Err(exception) = written {
        exception.write_unraisable(py, Some(write.bind(py)));
    }
}
