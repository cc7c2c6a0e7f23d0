//! The native half of `netra_apex`: handles and values, with no rule of Apex's. What Python sees of it is in the package
//! beside; nobody else imports this.
//!
//! Everything goes through one [door]: it releases the GIL, raises errors as `netra_apex.exceptions` has them, and turns
//! Rust's futures into asyncio's. What Rust has for a loop of asyncio's it leaves in the loop's [mailbox]. Its threads
//! wait for the GIL only where others are there to go on meanwhile: to call a function that is not asynchronous.
//!
//! `_native.pyi` is written by hand and compared with the built module by mypy's `stubtest`: the generator of pyo3 0.30
//! (`experimental-inspect`) says `Any` of every function that gives an awaitable, more than half of them.

mod callback;
mod convert;
mod door;
mod host;
mod logs;
mod mailbox;
mod report;
mod wire;
mod work;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use std::sync::OnceLock;

#[pymodule(gil_used = true)]
mod _native {
    use super::*;

    #[pymodule_export]
    use callback::Done;
    #[pymodule_export]
    use door::{Abort, shut_down};
    #[pymodule_export]
    use host::{Events, Native, User};
    #[pymodule_export]
    use logs::collect_logs;
    #[pymodule_export]
    use report::{Report, analyse, look};
    #[pymodule_export]
    use wire::{Answer, Body, Pipe, Serving};
    #[pymodule_export]
    use work::{AgentWork, ToolWork};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        refuse_others(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Passes in the interpreter that came first. What is kept for it is no other one's: each has modules of its own.
fn refuse_others(py: Python<'_>) -> PyResult<()> {
    static FIRST: OnceLock<usize> = OnceLock::new();
    let own = py.import("sys")?.getattr("modules")?.as_ptr() as usize;
    if *FIRST.get_or_init(|| own) == own {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "netra_apex works in one interpreter of a process, and subinterpreters are others: use processes",
    ))
}
