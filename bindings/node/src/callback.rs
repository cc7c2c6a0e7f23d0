use crate::bridge::{Bridge, Came, Said};
use apex_bindings::{Call, Callback, Error, Kind, Problem, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A function of JavaScript's, by its number there.
pub(crate) struct Function {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) number: u32,
    /// What its failures count as, where it does not say so itself.
    pub(crate) fails_as: Kind,
}

/// What it is called with. `request` is the id of the message that the run belongs to.
#[derive(Serialize)]
struct Input<'a> {
    input: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(flatten)]
    about: Option<About<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum About<'a> {
    Agent { run: String, thread: String, step: String, user: String },
    Tool { run: String, call: String, key: &'a str, user: String },
}

/// What it threw.
#[derive(Deserialize)]
struct Thrown {
    message: String,
    #[serde(default)]
    code: Option<String>,
}

impl Function {
    /// What came of a call, as a value.
    pub(crate) fn value(&self, came: Came) -> Result<Value> {
        match came {
            Came::Value(json) => serde_json::from_str(&json).map_err(|error| {
                let told = format!("what the function returned is not JSON: {error}");
                Error::new(Kind::BadOutput, "host.callback", told)
            }),
            Came::Thrown(json) => Err(match serde_json::from_str::<Thrown>(&json) {
                Ok(thrown) => {
                    Problem::of_host(thrown.code.as_deref(), self.fails_as, thrown.message)
                }
                Err(_) => Problem::of_host(None, self.fails_as, "the function threw"),
            }),
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.bridge.say(Said::Forget(self.number));
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.number)
    }
}

#[async_trait]
impl Callback for Function {
    async fn call(&self, input: Value, call: Call) -> Result<Value> {
        let about = match &call {
            Call::Agent(work) => Some(About::Agent {
                run: work.run(),
                thread: work.thread(),
                step: work.step(),
                user: work.principal().user().to_string(),
            }),
            Call::Tool(work) => Some(About::Tool {
                run: work.run(),
                call: work.call(),
                key: work.idempotency_key(),
                user: work.principal().user().to_string(),
            }),
            Call::Plain => None,
        };
        let told = Input { input: &input, request: call.request(), about };
        let told = serde_json::to_string(&told).map_err(|error| {
            Error::internal("host.callback", "the input could not be encoded").with_source(error)
        })?;
        let came = self.bridge.call(self.number, told, call).await?;
        self.value(came)
    }
}
