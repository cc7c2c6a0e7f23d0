//! What Rust has for an event loop: jobs that are done on the loop's own thread, all that there are at once.
//!
//! Whoever leaves one waits for no GIL, and of those that are left before the loop comes round only the first wakes it.

use crate::door;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::mem::{replace, take};
#[cfg(not(unix))]
use std::net::TcpStream as Socket;
#[cfg(unix)]
use std::os::unix::net::UnixStream as Socket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

type Job = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The mailbox of one loop. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Inner>);

struct Inner {
    letters: Mutex<Letters>,
    bell: Bell,
    /// Closed with the loop, and until then of no use.
    open: Semaphore,
}

#[derive(Default)]
struct Letters {
    jobs: Vec<Job>,
    /// Whether the loop is on its way to take them.
    rung: bool,
    /// Whether the loop is gone.
    closed: bool,
}

/// How a loop is woken.
enum Bell {
    /// By a byte in a socket that it watches.
    Socket(Socket),
    /// By its `call_soon_threadsafe`, where it watches no sockets; a weak reference to it.
    Call(Py<PyAny>),
}

impl Mailbox {
    /// The mailbox of the loop that runs on this thread.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        static ALL: OnceLock<Mutex<HashMap<usize, Mailbox>>> = OnceLock::new();
        let all = ALL.get_or_init(Mutex::default);
        let place = event_loop.as_ptr() as usize;
        let known = all.lock().get(&place).cloned();
        if let Some(known) = known.filter(|known| known.is_of(event_loop)) {
            return Ok(known);
        }
        let new = Self::open(event_loop)?;
        let mut all = all.lock();
        all.retain(|_, known| !known.is_closed());
        all.insert(place, new.clone());
        Ok(new)
    }

    fn open(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(watched) = Self::watched(event_loop)? {
            return Ok(watched);
        }
        let weak = event_loop.py().import("weakref")?.call_method1("ref", (event_loop,))?;
        Ok(Self::with(Bell::Call(weak.unbind())))
    }

    #[cfg(unix)]
    fn watched(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        use std::os::fd::AsRawFd as _;
        let (bell, rung) = Socket::pair()?;
        bell.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        let (mailbox, watched) = (Self::with(Bell::Socket(bell)), rung.as_raw_fd());
        let reader = Reader { mailbox: mailbox.clone(), rung: Some(rung), called: false.into() };
        let watches = event_loop.call_method1("add_reader", (watched, reader));
        Ok(watches.is_ok().then_some(mailbox))
    }

    /// A loop of Windows watches no sockets.
    #[cfg(not(unix))]
    fn watched(_: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        Ok(None)
    }

    fn with(bell: Bell) -> Self {
        Self(Arc::new(Inner { letters: Mutex::default(), bell, open: Semaphore::new(0) }))
    }

    /// Has something done on the loop's thread, in order. What is left for a loop that is gone is dropped.
    pub(crate) fn leave(&self, job: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static) {
        let mut letters = self.0.letters.lock();
        if letters.closed {
            return;
        }
        letters.jobs.push(Box::new(job));
        if !replace(&mut letters.rung, true) {
            drop(letters);
            self.ring();
        }
    }

    /// Waits until the loop is gone.
    pub(crate) async fn gone(&self) {
        let _ = self.0.open.acquire().await;
    }

    fn ring(&self) {
        match &self.0.bell {
            Bell::Socket(bell) => {
                // A loop that closes in this moment takes what is left for it along.
                let _ = std::io::Write::write(&mut &*bell, b"!");
            }
            Bell::Call(_) => {
                let mailbox = self.clone();
                door::with_python(move |py| mailbox.call(py));
            }
        }
    }

    fn call(self, py: Python<'_>) {
        let Bell::Call(weak) = &self.0.bell else { return };
        let reader = Reader { mailbox: self.clone(), rung: None, called: false.into() };
        // A reader that a closed loop does not take closes the mailbox.
        let _ = weak
            .call0(py)
            .and_then(|event_loop| event_loop.call_method1(py, "call_soon_threadsafe", (reader,)));
    }

    /// Whether it is this loop's, and not that of one that was in its place before.
    fn is_of(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        let is_same = match &self.0.bell {
            Bell::Socket(_) => true,
            Bell::Call(weak) => weak.call0(event_loop.py()).is_ok_and(|known| known.is(event_loop)),
        };
        is_same && !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.0.letters.lock().closed
    }

    fn close(&self) {
        let jobs = {
            let mut letters = self.0.letters.lock();
            letters.closed = true;
            take(&mut letters.jobs)
        };
        drop(jobs);
        self.0.open.close();
    }
}

/// What a loop calls when it was rung for. A loop that watches a socket keeps it until it is closed.
#[pyclass(frozen)]
pub(crate) struct Reader {
    mailbox: Mailbox,
    rung: Option<Socket>,
    called: AtomicBool,
}

#[pymethods]
impl Reader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.called.store(true, Ordering::Relaxed);
        if let Some(rung) = &self.rung {
            let _ = std::io::Read::read(&mut &*rung, &mut [0; 8]);
        }
        let jobs = {
            let mut letters = self.mailbox.0.letters.lock();
            letters.rung = false;
            take(&mut letters.jobs)
        };
        let mut done = Ok(());
        for job in jobs {
            done = done.and(job(py));
        }
        done
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.rung.is_some() || !self.called.load(Ordering::Relaxed) {
            self.mailbox.close();
        }
    }
}
