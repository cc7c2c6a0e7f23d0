//! netra-apex for Node, beneath the npm package: requests in, answers and calls out, all of them as JSON and handles.
//! Whatever has a form in JavaScript (classes, promises, iterators, errors) is made there, in `host/`.

mod bridge;
mod build;
mod callback;
mod handle;
mod operations;
mod report;
mod wire;
mod work;

use apex_bindings::{Error, Kind, Logs, Problem, Result, Runtime};
use bridge::{Batch, Bridge, Came, Reply, Said, Value};
use futures_util::FutureExt as _;
use handle::{Body, Handle, Held};
use napi::Env;
use napi::bindgen_prelude::{Buffer, FnArgs, Function};
use napi_derive::napi;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the end of a thread of JavaScript waits for what blocks.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How much of a request's body waits for us.
const PIECES: usize = 2;

/// Apex in one thread of JavaScript, with a runtime of its own that ends with that thread.
#[napi]
pub struct Native {
    bridge: Arc<Bridge>,
    runtime: Arc<Runtime>,
    /// Requests that can be given up.
    leaving: Arc<Mutex<HashMap<u32, oneshot::Sender<()>>>>,
}

#[napi]
impl Native {
    /// `deliver` is called with what there is to say.
    #[napi(constructor)]
    pub fn new(env: Env, deliver: Function<'_, FnArgs<(Vec<Value>,)>, ()>) -> napi::Result<Self> {
        let failed = |error: Error| napi::Error::from_reason(Problem::from(error).to_json());
        let runtime = Arc::new(Runtime::new(None).map_err(failed)?);
        let bridge = Arc::new(Bridge::new(&deliver)?);
        let ends = (Arc::clone(&bridge), Arc::clone(&runtime));
        env.add_env_cleanup_hook(ends, |(bridge, runtime)| {
            bridge.close();
            runtime.shut_down(LAST_WAIT);
        })?;
        Ok(Self { bridge, runtime, leaving: Arc::default() })
    }

    /// Begins what `op` names, with up to two handles, its arguments as JSON, and bytes. Its answer comes by `deliver`,
    /// unless it is given here.
    #[napi]
    pub fn request(
        &self,
        id: u32,
        op: String,
        on: Option<&Handle>,
        with: Option<&Handle>,
        args: String,
        bytes: Vec<Buffer>,
    ) -> Option<Batch> {
        let bridge = Arc::clone(&self.bridge);
        let runtime = Arc::clone(&self.runtime);
        let held = on.map(Handle::get).transpose();
        let with = with.map(Handle::get).transpose();
        let bytes: Vec<Vec<u8>> = bytes.iter().map(|bytes| bytes.to_vec()).collect();
        let takes_long = op == "build";
        let work = async move {
            let asked = operations::Asked { op, held: held?, with: with?, args, bytes };
            operations::answer(asked, &bridge, &runtime).await
        };
        if takes_long { self.spawn(id, work) } else { self.prompt(id, work) }
    }

    /// As `request`, for the function that is called under that id.
    #[napi]
    pub fn work(
        &self,
        id: u32,
        call: u32,
        op: String,
        args: String,
        bytes: Vec<Buffer>,
    ) -> Option<Batch> {
        let call = self.bridge.under_way(call);
        let bytes: Vec<Vec<u8>> = bytes.iter().map(|bytes| bytes.to_vec()).collect();
        self.prompt(id, async move { Ok(work::answer(&call?, &op, &args, bytes).await?) })
    }

    /// Gives up a request.
    #[napi]
    pub fn abort(&self, id: u32) {
        drop(self.leaving.lock().remove(&id));
    }

    /// Takes in what a function that is called says of its progress, or of what came of it.
    #[napi]
    pub fn tell(&self, call: u32, op: String, args: String) {
        if let Ok(call) = self.bridge.under_way(call) {
            work::tell(&call, &op, &args);
        }
    }

    /// Takes in what a function gave, as JSON.
    #[napi]
    pub fn gave(&self, call: u32, json: String) {
        self.bridge.settle(call, Came::Value(json));
    }

    /// Takes in what a function threw, as JSON.
    #[napi]
    pub fn threw(&self, call: u32, json: String) {
        self.bridge.settle(call, Came::Thrown(json));
    }

    /// A body for a request that has one.
    #[napi]
    pub fn body(&self) -> Handle {
        let (pieces, read) = tokio::sync::mpsc::channel(PIECES);
        let body = Body { pieces: Mutex::new(Some(pieces)), read: Mutex::new(Some(read)) };
        Handle::new(Held::Body(body), &self.runtime)
    }

    /// Tells a function each line of the log from this level on; once for a process.
    #[napi]
    pub fn logs(&self, id: u32, level: u8, function: u32) {
        let bridge = Arc::clone(&self.bridge);
        let begun = Logs::collect(level).and_then(|logs| {
            let tells = move || {
                while let Some(record) = logs.next() {
                    let input = report::log_line(&record);
                    bridge.say(Said::Tell { function, input });
                }
            };
            let thread = std::thread::Builder::new().name("apex-log".to_owned());
            thread.spawn(tells).map_err(|error| {
                let told = "the thread of the log cannot be started";
                Error::new(Kind::Unavailable, "host.logs", told).with_source(error)
            })
        });
        self.bridge.answer(id, begun.map(|_| Reply::nothing()).map_err(Problem::from));
    }

    /// How many calls of functions are under way.
    #[napi]
    pub fn open_calls(&self) -> u32 {
        u32::try_from(self.bridge.open_calls()).unwrap_or(u32::MAX)
    }
}

impl Native {
    /// Does work whose answer goes to the request of that id, unless it is given up. An answer that is there already is
    /// given at once.
    fn prompt(&self, id: u32, work: impl Work) -> Option<Batch> {
        let mut work = Box::pin(work);
        let begun = self.runtime.handle().map(|runtime| {
            let _inside = runtime.enter();
            let polls = || work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            catch_unwind(AssertUnwindSafe(polls))
        });
        match begun {
            Ok(Ok(Poll::Ready(answer))) => Some(Said::answer(id, answer).at_once()),
            Ok(Err(_)) => Some(Said::answer(id, Err(panicked().into())).at_once()),
            Ok(Ok(Poll::Pending)) | Err(_) => self.spawn(id, work),
        }
    }

    /// As [`Self::prompt`], for work that may keep the one who begins it.
    fn spawn(&self, id: u32, work: impl Work) -> Option<Batch> {
        let (leave, left) = oneshot::channel();
        self.leaving.lock().insert(id, leave);
        let (bridge, leaving) = (Arc::clone(&self.bridge), Arc::clone(&self.leaving));
        let begun = self.runtime.spawn(async move {
            let answered = tokio::select! {
                _ = left => None,
                answered = AssertUnwindSafe(work).catch_unwind() => Some(answered),
            };
            leaving.lock().remove(&id);
            match answered {
                Some(Ok(answer)) => bridge.answer(id, answer),
                Some(Err(_)) => bridge.answer(id, Err(panicked().into())),
                None => {}
            }
        });
        let error = begun.err()?;
        self.leaving.lock().remove(&id);
        Some(Said::answer(id, Err(error.into())).at_once())
    }
}

/// What answers a request.
trait Work: Future<Output = std::result::Result<Reply, Problem>> + Send + 'static {}

impl<T> Work for T where T: Future<Output = std::result::Result<Reply, Problem>> + Send + 'static {}

fn panicked() -> Error {
    Error::internal("host.request", "the work panicked")
}

/// The arguments of a request, from JSON.
fn read<T: serde::de::DeserializeOwned>(json: &str, op: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        let told = format!("{op}: {error}");
        Error::new(Kind::BadRequest, "host.request", told)
    })
}

/// A value as JSON.
fn write(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::internal("host.request", "an answer could not be encoded").with_source(error)
    })
}
