//! The wire: a listener of Apex's own, and requests and sockets of the host's.

use crate::door;
use crate::work::Bytes;
use apex_bindings as host;
use apex_bindings::{Error, Frame, Knocked, Problem};
use bytes::Bytes as Piece;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Apex on a listener of its own.
#[pyclass(frozen)]
pub(crate) struct Serving(Arc<host::Serving>);

impl Serving {
    pub(crate) fn new(serving: host::Serving) -> Self {
        Self(Arc::new(serving))
    }
}

#[pymethods]
impl Serving {
    #[getter]
    fn host(&self) -> String {
        self.0.address().ip().to_string()
    }

    #[getter]
    fn port(&self) -> u16 {
        self.0.address().port()
    }

    fn stop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let serving = Arc::clone(&self.0);
        door::future(py, async move { serving.stop().await.map_err(Problem::from) })
    }

    fn ended<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let serving = Arc::clone(&self.0);
        door::future(py, async move { serving.ended().await.map_err(Problem::from) })
    }
}

/// Where the body of a request goes.
#[pyclass(frozen)]
pub(crate) struct Body(Mutex<Option<mpsc::Sender<Result<Piece, Error>>>>);

impl Body {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Result<Piece, Error>>) {
        let (sender, pieces) = mpsc::channel(1);
        (Self(Mutex::new(Some(sender))), pieces)
    }
}

#[pymethods]
impl Body {
    /// Hands a piece over, and waits while nobody reads; `False` when nobody will.
    fn send<'py>(&self, py: Python<'py>, piece: Vec<u8>) -> PyResult<Bound<'py, PyAny>> {
        let sender = self.0.lock().clone();
        door::future(py, async move {
            Ok(match sender {
                Some(sender) => sender.send(Ok(piece.into())).await.is_ok(),
                None => false,
            })
        })
    }

    /// That was all.
    fn end(&self) {
        self.0.lock().take();
    }

    /// The client has gone before its end.
    fn break_off<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let sender = self.0.lock().take();
        door::future(py, async move {
            if let Some(sender) = sender {
                let told = "the client has gone";
                let gone = Error::new(host::Kind::Cancelled, "host.body", told);
                // Nobody may read any more.
                let _ = sender.send(Err(gone)).await;
            }
            Ok(())
        })
    }
}

/// The answer to a request.
#[pyclass(frozen)]
pub(crate) struct Answer(Arc<host::Answer>);

impl Answer {
    pub(crate) fn new(answer: host::Answer) -> Self {
        Self(Arc::new(answer))
    }
}

#[pymethods]
impl Answer {
    #[getter]
    fn status(&self) -> u16 {
        self.0.status
    }

    #[getter]
    fn headers(&self) -> Vec<(Bytes, Bytes)> {
        let headers = self.0.headers.iter();
        headers.map(|(name, value)| (Bytes(name.clone().into()), Bytes(value.clone()))).collect()
    }

    /// The next piece of the body; `None` at its end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let answer = Arc::clone(&self.0);
        door::future(py, async move { Ok(answer.next().await?.map(|piece| Bytes(piece.to_vec()))) })
    }
}

/// A conversation whose frames the host carries.
#[pyclass(frozen)]
pub(crate) struct Pipe(Arc<host::Pipe>);

#[pymethods]
impl Pipe {
    fn text<'py>(&self, py: Python<'py>, text: String) -> PyResult<Bound<'py, PyAny>> {
        let pipe = Arc::clone(&self.0);
        door::future(py, async move { Ok(pipe.text(text).await) })
    }

    fn binary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pipe = Arc::clone(&self.0);
        door::future(py, async move { Ok(pipe.binary().await) })
    }

    fn alive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pipe = Arc::clone(&self.0);
        door::future(py, async move { Ok(pipe.alive().await) })
    }

    /// What is to be sent next: `("text", text)`, `("ping", None)` or `("close", (code, reason))`; `None` at the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pipe = Arc::clone(&self.0);
        door::future(py, async move { Ok(pipe.next().await.map(Said)) })
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pipe = Arc::clone(&self.0);
        door::future(py, async move {
            pipe.close().await;
            Ok(())
        })
    }
}

/// A frame on its way to Python.
struct Said(Frame);

impl<'py> IntoPyObject<'py> for Said {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(match self.0 {
            Frame::Text(text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                ("text", text).into_pyobject(py)?.into_any()
            }
            Frame::Ping => ("ping", py.None()).into_pyobject(py)?.into_any(),
            Frame::Close(code, reason) => ("close", (code, reason)).into_pyobject(py)?.into_any(),
        })
    }
}

/// What the door said, on its way to Python.
pub(crate) struct Door(pub(crate) Knocked);

impl<'py> IntoPyObject<'py> for Door {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(match self.0 {
            Knocked::Accepted { subprotocol, pipe } => {
                let pipe = Bound::new(py, Pipe(Arc::new(pipe)))?;
                (subprotocol, pipe).into_pyobject(py)?.into_any()
            }
            Knocked::Refused(answer) => Bound::new(py, Answer::new(answer))?.into_any(),
        })
    }
}
