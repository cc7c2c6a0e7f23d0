//! The one way between the threads of Apex and the thread of JavaScript.
//!
//! What Rust has to say waits in a list. The first thing in an empty list wakes JavaScript by a weak threadsafe function,
//! which keeps no process alive, and JavaScript then takes all of it at once: however much there is, it is one crossing.
//! JavaScript answers by plain synchronous calls. No promise, reference or error of JavaScript's is ever held here.

use crate::handle::Handle;
use apex_bindings::{Call, Error, Kind, Problem, Result};
use napi::bindgen_prelude::{Buffer, Either4, FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::mem::{replace, take};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A value that crosses: a number, text (mostly JSON), bytes, or something to be handed back to us.
pub(crate) type Value = Either4<u32, String, Buffer, Handle>;

/// Fours of what is said (see [`Said`]), the id that it is about, and two values.
pub(crate) type Batch = Vec<Value>;

type Waker = ThreadsafeFunction<(), (), FnArgs<(Batch,)>, napi::Status, false, true, 0>;

/// Something for JavaScript.
pub(crate) enum Said {
    /// The request of that id is answered, by one value or two.
    Answer(u32, Reply),
    /// It failed, with a report in JSON.
    Failure(u32, String),
    /// A function is to be called, with JSON; the call has that id.
    Call { call: u32, function: u32, input: String },
    /// The answer to the call of that id is no longer waited for.
    Cancel(u32),
    /// A function is told something, and nobody waits for it.
    Tell { function: u32, input: String },
    /// A function will not be called any more.
    Forget(u32),
    /// The run of the message of that id calls nothing any more.
    Past(String),
}

/// The answer to a request.
pub(crate) struct Reply(pub(crate) Value, pub(crate) Value);

impl Reply {
    pub(crate) fn nothing() -> Self {
        Self(Value::A(0), Value::A(0))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self(Value::B(text.into()), Value::A(0))
    }

    pub(crate) fn flag(flag: bool) -> Self {
        Self(Value::A(u32::from(flag)), Value::A(0))
    }

    pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Value::C(bytes.into().into()), Value::A(0))
    }

    pub(crate) fn handle(text: impl Into<String>, handle: Handle) -> Self {
        Self(Value::B(text.into()), Value::D(handle))
    }
}

impl Said {
    /// The answer to a request.
    pub(crate) fn answer(request: u32, answer: std::result::Result<Reply, Problem>) -> Self {
        match answer {
            Ok(reply) => Self::Answer(request, reply),
            Err(problem) => Self::Failure(request, problem.to_json()),
        }
    }

    /// It alone, for JavaScript that waits for it right now.
    pub(crate) fn at_once(self) -> Batch {
        let mut batch = Batch::new();
        self.put(&mut batch);
        batch
    }

    fn put(self, batch: &mut Batch) {
        let (what, id, first, second) = match self {
            Self::Answer(id, Reply(first, second)) => (0, id, first, second),
            Self::Failure(id, report) => (1, id, Value::B(report), Value::A(0)),
            Self::Call { call, function, input } => (2, call, Value::A(function), Value::B(input)),
            Self::Cancel(call) => (3, call, Value::A(0), Value::A(0)),
            Self::Tell { function, input } => (4, function, Value::B(input), Value::A(0)),
            Self::Forget(function) => (5, function, Value::A(0), Value::A(0)),
            Self::Past(request) => (6, 0, Value::B(request), Value::A(0)),
        };
        batch.extend([Value::A(what), Value::A(id), first, second]);
    }
}

/// What a function of the host's came to.
#[derive(Debug)]
pub(crate) enum Came {
    /// It gave this, as JSON.
    Value(String),
    /// It threw this, as JSON.
    Thrown(String),
}

/// A call of a function of the host's that is under way.
struct Open {
    call: Call,
    answer: oneshot::Sender<Came>,
}

#[derive(Default)]
struct List {
    batch: Batch,
    /// Whether JavaScript is on its way to take it.
    woken: bool,
    /// Whether nobody will.
    closed: bool,
}

/// Both directions between Rust and one thread of JavaScript.
pub(crate) struct Bridge {
    list: Arc<Mutex<List>>,
    waker: Waker,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    last: u32,
    open: HashMap<u32, Open>,
    closed: bool,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge({} open calls)", self.open_calls())
    }
}

impl Bridge {
    /// A bridge to `deliver`, which is called with what there is to say, on the thread of JavaScript.
    pub(crate) fn new(deliver: &Function<'_, FnArgs<(Batch,)>, ()>) -> napi::Result<Self> {
        let list = Arc::new(Mutex::new(List::default()));
        let taken = Arc::clone(&list);
        let waker = deliver
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .weak::<true>()
            .build_callback(move |_| {
                let mut list = taken.lock();
                list.woken = false;
                Ok(FnArgs::from((take(&mut list.batch),)))
            })?;
        Ok(Self { list, waker, calls: Mutex::default() })
    }

    /// Says it; a JavaScript that has ended hears nothing any more.
    pub(crate) fn say(&self, said: Said) {
        let mut list = self.list.lock();
        if list.closed {
            return;
        }
        said.put(&mut list.batch);
        if !replace(&mut list.woken, true) {
            drop(list);
            self.waker.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&self, request: u32, answer: std::result::Result<Reply, Problem>) {
        self.say(Said::answer(request, answer));
    }

    /// Calls a function of the host's and waits for what comes of it. Dropping the future tells the function to stop.
    pub(crate) async fn call(&self, function: u32, input: String, call: Call) -> Result<Came> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut calls = self.calls.lock();
            if calls.closed {
                return Err(over());
            }
            calls.last = calls.last.wrapping_add(1);
            let id = calls.last;
            calls.open.insert(id, Open { call, answer });
            id
        };
        let leaving = Leaving { bridge: self, call: id };
        self.say(Said::Call { call: id, function, input });
        let came = answered.await;
        drop(leaving);
        came.map_err(|_| over())
    }

    /// What came of a call; one that nobody waits for any more is passed over.
    pub(crate) fn settle(&self, call: u32, came: Came) {
        let open = self.calls.lock().open.remove(&call);
        if let Some(open) = open {
            // Whoever waited may have gone in this moment.
            let _ = open.answer.send(came);
        }
    }

    /// On whose behalf a call that is under way was made.
    pub(crate) fn under_way(&self, call: u32) -> Result<Call> {
        let over = || Error::new(Kind::Cancelled, "host.call", "this call has ended");
        self.calls.lock().open.get(&call).map(|open| open.call.clone()).ok_or_else(over)
    }

    /// How many calls of functions of the host's are under way.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.lock().open.len()
    }

    /// JavaScript ends: nothing is said any more, and calls under way fail.
    pub(crate) fn close(&self) {
        let batch = {
            let mut list = self.list.lock();
            list.closed = true;
            take(&mut list.batch)
        };
        drop(batch);
        let open = {
            let mut calls = self.calls.lock();
            calls.closed = true;
            take(&mut calls.open)
        };
        drop(open);
    }
}

fn over() -> Error {
    Error::new(
        Kind::Draining,
        "host.call",
        "the JavaScript that this function belongs to has ended",
    )
}

/// Tells JavaScript when the answer to a call is no longer waited for.
struct Leaving<'a> {
    bridge: &'a Bridge,
    call: u32,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let open = self.bridge.calls.lock().open.remove(&self.call);
        if open.is_some() {
            self.bridge.say(Said::Cancel(self.call));
        }
    }
}
