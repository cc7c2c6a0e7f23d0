use super::context::{CallScope, ToolContext, ToolServices};
use super::schema::Shape;
use super::{AnyTool, Redact};
use crate::failure::Failure;
use crate::stored::Stored;
use crate::text::clip;
use apex_core::error::Kind;
use apex_core::event::ToolOutcome;
use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// The most arguments that a call may have, in bytes of JSON: they travel in an event.
const MOST_ARGUMENTS: usize = 32 * 1024;

/// The longest sentence about a call, in bytes.
const LONGEST_SUMMARY: usize = 1024;

/// Carries tool calls out: checks the arguments, limits the time, contains panics, keeps large results aside.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    tools: FxHashMap<String, Ready>,
    services: Arc<ToolServices>,
    redact: Arc<dyn Redact>,
    timeout: Duration,
}

/// A tool whose schema is compiled.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) tool: Arc<dyn AnyTool>,
    pub(crate) arguments: Shape,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Dispatched {
    pub(crate) outcome: ToolOutcome,
    pub(crate) result: Result<Stored, Failure>,
    pub(crate) summary: String,
}

impl Dispatcher {
    pub(crate) fn new(
        tools: FxHashMap<String, Ready>,
        services: Arc<ToolServices>,
        redact: Arc<dyn Redact>,
        timeout: Duration,
    ) -> Self {
        Self { tools, services, redact, timeout }
    }

    /// What users may see of a call's arguments.
    pub(crate) fn shown(&self, tool: &str, arguments: &Value) -> Value {
        let size = arguments.to_string().len();
        if size > MOST_ARGUMENTS {
            return format!("{size} bytes, more than a call may have").into();
        }
        let mut shown = arguments.clone();
        self.redact.redact(tool, &mut shown);
        if shown.to_string().len() > MOST_ARGUMENTS {
            return "[redacted]".into();
        }
        shown
    }

    /// Makes one call.
    pub(crate) async fn dispatch(
        &self,
        tool: &str,
        arguments: Value,
        scope: CallScope,
    ) -> Dispatched {
        let context = ToolContext::new(Arc::clone(&self.services), scope);
        let (outcome, result) = match self.call(tool, arguments, &context).await {
            Ok(stored) => (ToolOutcome::Ok, Ok(stored)),
            Err(failure) => (outcome_of(failure.kind), Err(failure)),
        };
        let summary = match &result {
            Err(failure) => failure.message.clone(),
            Ok(stored) => context.take_summary().unwrap_or_else(|| described(stored)),
        };
        Dispatched { outcome, result, summary: clip(&summary, LONGEST_SUMMARY).into_owned() }
    }

    async fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: &ToolContext,
    ) -> Result<Stored, Failure> {
        let ready = self.tools.get(tool).ok_or_else(|| {
            let mut known: Vec<&str> = self.tools.keys().map(String::as_str).collect();
            known.sort_unstable();
            let known = known.join(", ");
            Failure::new(Kind::BadArguments, format!("there is no tool {tool}; there are: {known}"))
        })?;
        if arguments.to_string().len() > MOST_ARGUMENTS {
            return Err(Failure::new(
                Kind::TooLarge,
                format!(
                    "the arguments of {tool} are larger than {MOST_ARGUMENTS} bytes; hand over an artifact"
                ),
            ));
        }
        if let Some(faults) = ready.arguments.faults(&arguments) {
            return Err(Failure::new(
                Kind::BadArguments,
                format!("the arguments of {tool} do not fit: {faults}"),
            ));
        }
        let timeout = ready.tool.timeout().unwrap_or(self.timeout);
        let work = AssertUnwindSafe(ready.tool.call(arguments, context.clone())).catch_unwind();
        let value = match tokio::time::timeout(timeout, work).await {
            Ok(Ok(done)) => done?,
            Ok(Err(panic)) => {
                let who = format!("the tool {tool}");
                return Err(Failure::panicked(Kind::ToolFailed, &who, &*panic));
            }
            Err(_) => {
                context.stop();
                let seconds = timeout.as_secs_f64();
                return Err(Failure::new(
                    Kind::DeadlineExceeded,
                    format!("{tool} did not end within {seconds} s"),
                ));
            }
        };
        let name = format!("{}-{tool}.json", context.call());
        let (principal, run) = (context.principal(), context.run());
        Ok(Stored::keep(context.artifacts(), principal, run, &name, value).await?)
    }
}

fn outcome_of(kind: Kind) -> ToolOutcome {
    match kind {
        Kind::DeadlineExceeded => ToolOutcome::Timeout,
        Kind::Cancelled => ToolOutcome::Cancelled,
        _ => ToolOutcome::Error,
    }
}

/// What came of a call whose tool did not say.
fn described(stored: &Stored) -> String {
    match stored {
        Stored::Inline(value) => clip(&value.to_string(), 200).into_owned(),
        Stored::Artifact(payload) => format!("{} bytes, kept as {}", payload.bytes, payload.name),
    }
}
