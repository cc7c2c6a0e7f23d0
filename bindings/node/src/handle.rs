//! What JavaScript holds of ours: values that it can only hand back.

use apex_bindings::{
    Answer, Error, Events, Host, Kind, Pipe, Principal, Report, Result, Runtime, Serving,
};
use bytes::Bytes;
use napi_derive::napi;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender};

/// Something of Rust's that JavaScript holds. It is let go of by `release`, or when JavaScript forgets it.
#[napi]
pub struct Handle {
    held: Mutex<Option<Arc<Held>>>,
    runtime: Arc<Runtime>,
}

pub(crate) enum Held {
    Host(Box<Host>),
    User(Principal),
    Events(Box<Events>),
    Serving(Serving),
    Pipe(Pipe),
    Answer(Answer),
    Body(Body),
    Report(Box<Report>),
}

/// The body of a request, on its way in.
pub(crate) struct Body {
    pub(crate) pieces: Mutex<Option<Sender<Result<Bytes>>>>,
    pub(crate) read: Mutex<Option<Receiver<Result<Bytes>>>>,
}

#[napi]
impl Handle {
    /// Lets go of it at once.
    #[napi]
    pub fn release(&self) {
        self.drop_held();
    }
}

impl Handle {
    pub(crate) fn new(held: Held, runtime: &Arc<Runtime>) -> Self {
        Self { held: Mutex::new(Some(Arc::new(held))), runtime: Arc::clone(runtime) }
    }

    /// What is held.
    pub(crate) fn get(&self) -> Result<Arc<Held>> {
        let over = || Error::new(Kind::Cancelled, "host.handle", "this has been closed");
        self.held.lock().clone().ok_or_else(over)
    }

    fn drop_held(&self) {
        let held = self.held.lock().take();
        // Some of it wants its runtime around it when it goes.
        let handle = self.runtime.handle();
        let _inside = handle.as_ref().map(tokio::runtime::Handle::enter);
        drop(held);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.drop_held();
    }
}

/// The wrong thing was handed back: a mistake in the layer above.
pub(crate) fn wrong() -> Error {
    Error::new(Kind::BadRequest, "host.handle", "this is a handle of another kind")
}
