use super::context::{CallScope, ToolContext, ToolServices};
use super::quota::Quota;
use super::schema::Shape;
use super::{AnyTool, Effect, LookUp, Redact, ToolSource};
use crate::failure::Failure;
use crate::model::ToolSpec;
use crate::stored::Stored;
use crate::text::clip;
use apex_core::error::{Error, Kind};
use apex_core::event::ToolOutcome;
use apex_core::resilience::Deadline;
use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// The most arguments that a call may have, in bytes of JSON: they travel in an event.
const MOST_ARGUMENTS: usize = 32 * 1024;

/// How often a call that can be repeated is made, and the wait before the second time; the next one is four times as
/// long.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest sentence about a call, in bytes.
const LONGEST_SUMMARY: usize = 1024;

/// Carries tool calls out: checks the arguments, limits the time, contains panics, keeps large results aside.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    tools: FxHashMap<String, Arc<Ready>>,
    sources: Vec<Arc<dyn ToolSource>>,
    services: Arc<ToolServices>,
    redact: Arc<dyn Redact>,
    timeout: Duration,
    most_result: usize,
    quota: Option<Quota>,
}

/// A tool whose schema is compiled.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) tool: Arc<dyn AnyTool>,
    pub(crate) arguments: Shape,
}

/// On which terms a call is made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terms {
    /// What users may see of its arguments.
    pub(crate) shown: Value,
    pub(crate) effect: Effect,
    /// Whether a person has to approve it.
    pub(crate) approval: bool,
    /// Whether it does something outside of its run.
    pub(crate) leaves: bool,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Dispatched {
    pub(crate) outcome: ToolOutcome,
    pub(crate) result: Result<Stored, Failure>,
    pub(crate) summary: String,
    /// Whether the result holds what others wrote.
    pub(crate) untrusted: bool,
}

impl Dispatcher {
    pub(crate) fn new(
        tools: FxHashMap<String, Ready>,
        sources: Vec<Arc<dyn ToolSource>>,
        services: Arc<ToolServices>,
        redact: Arc<dyn Redact>,
        timeout: Duration,
        most_result: usize,
        quota: Option<Quota>,
    ) -> Self {
        let tools = tools.into_iter().map(|(name, ready)| (name, Arc::new(ready))).collect();
        Self { tools, sources, services, redact, timeout, most_result, quota }
    }

    /// The tool of this name, if there is one now.
    pub(crate) fn find(&self, tool: &str) -> Option<Arc<Ready>> {
        let of_source = || {
            let mut theirs = self.sources.iter().filter(|theirs| tool.starts_with(theirs.prefix()));
            theirs.find_map(|theirs| theirs.tools().get(tool).cloned())
        };
        self.tools.get(tool).cloned().or_else(of_source)
    }

    /// The names of the tools that there are now.
    fn names(&self) -> Vec<String> {
        let theirs = self
            .sources
            .iter()
            .flat_map(|theirs| theirs.tools().keys().cloned().collect::<Vec<_>>());
        let mut names: Vec<String> = self.tools.keys().cloned().chain(theirs).collect();
        names.sort_unstable();
        names
    }

    /// On which terms this call is made. One that will be refused is harmless.
    pub(crate) fn terms(&self, tool: &str, arguments: &Value) -> Terms {
        let shown = self.shown(tool, arguments);
        let Some(ready) = self.find(tool) else {
            return Terms { shown, effect: Effect::Read, approval: false, leaves: false };
        };
        let asked = AssertUnwindSafe(|| ready.tool.needs_approval(arguments));
        // A tool that cannot say whether a person is needed needs one.
        let needed = std::panic::catch_unwind(asked).unwrap_or(true);
        let fits = ready.arguments.faults(arguments).is_none();
        let (effect, leaves) = (ready.tool.effect(), ready.tool.leaves() && fits);
        Terms { shown, effect, approval: needed && fits, leaves }
    }

    /// What users may see of a call's arguments.
    fn shown(&self, tool: &str, arguments: &Value) -> Value {
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
        // Looked up before: by the end of the call its server may have taken the tool away.
        let untrusted = self.find(tool).is_some_and(|ready| ready.tool.is_untrusted());
        let context = ToolContext::new(Arc::clone(&self.services), scope);
        let (outcome, result) = match self.kept(tool, arguments, &context).await {
            Ok(stored) => (ToolOutcome::Ok, Ok(stored)),
            Err(failure) => (outcome_of(failure.kind), Err(failure)),
        };
        let summary = match &result {
            Err(failure) => failure.message.clone(),
            Ok(stored) => context.take_summary().unwrap_or_else(|| described(stored)),
        };
        let summary = clip(&summary, LONGEST_SUMMARY).into_owned();
        Dispatched { outcome, result, summary, untrusted }
    }

    /// Makes one call outside of a run: its result is given back whole, and kept nowhere.
    #[cfg(feature = "mcp")]
    pub(crate) async fn answer(
        &self,
        tool: &str,
        arguments: Value,
        scope: CallScope,
    ) -> Result<Value, Failure> {
        let context = ToolContext::new(Arc::clone(&self.services), scope);
        self.call(tool, arguments, &context).await
    }

    async fn kept(
        &self,
        tool: &str,
        arguments: Value,
        context: &ToolContext,
    ) -> Result<Stored, Failure> {
        let value = self.call(tool, arguments, context).await?;
        let (size, most) = (value.to_string().len(), self.most_result);
        if size > most {
            let told = format!(
                "what {tool} gave back has {size} bytes, more than the {most} that are taken"
            );
            return Err(Failure::new(Kind::TooLarge, told));
        }
        let name = format!("{}-{tool}.json", context.call());
        let (principal, run) = (context.principal(), context.run());
        Ok(Stored::keep(context.artifacts(), principal, run, &name, value).await?)
    }

    async fn call(
        &self,
        tool: &str,
        arguments: Value,
        context: &ToolContext,
    ) -> Result<Value, Failure> {
        let ready = self.find(tool).ok_or_else(|| {
            let known = self.names().join(", ");
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
        if let Some(quota) = &self.quota {
            quota.take(context.principal(), tool).await?;
        }
        let timeout = ready.tool.timeout().unwrap_or(self.timeout);
        let deadline = Deadline::after(timeout);
        let work = AssertUnwindSafe(ready.make(tool, arguments, context, deadline)).catch_unwind();
        match tokio::time::timeout(timeout, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => {
                let who = format!("the tool {tool}");
                Err(Failure::panicked(Kind::ToolFailed, &who, &*panic))
            }
            Err(_) => {
                context.stop();
                let seconds = timeout.as_secs_f64();
                Err(Failure::new(
                    Kind::DeadlineExceeded,
                    format!("{tool} did not end within {seconds} s"),
                ))
            }
        }
    }
}

impl Ready {
    /// As models see it.
    pub(crate) fn spec(&self, name: &str) -> ToolSpec {
        ToolSpec {
            name: name.to_owned(),
            description: self.tool.description().to_owned(),
            arguments: self.tool.arguments_schema(),
        }
    }

    /// Makes the call, more than once where that can help and do no harm.
    async fn make(
        &self,
        tool: &str,
        arguments: Value,
        context: &ToolContext,
        deadline: Deadline,
    ) -> Result<Value, Failure> {
        let effect = self.tool.effect();
        if context.is_in_doubt() && !effect.repeatable() {
            let look = || self.tool.look_up(arguments.clone(), context.clone());
            return match again(look, Effect::Read, deadline).await {
                Ok(LookUp::Done(value)) => Ok(value),
                Ok(LookUp::NotDone) => Ok(self.tool.call(arguments, context.clone()).await?),
                Ok(LookUp::Unknown) => Err(in_doubt(tool, "")),
                Err(error) => Err(in_doubt(tool, &format!("; looking it up failed: {error}"))),
            };
        }
        let call = || self.tool.call(arguments.clone(), context.clone());
        Ok(again(call, effect, deadline).await?)
    }
}

/// Does something again when it failed, may work later, and there is time.
async fn again<T, W>(work: impl Fn() -> W, effect: Effect, deadline: Deadline) -> Result<T, Error>
where
    W: Future<Output = Result<T, Error>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        // At random, so that those that failed together do not come back together.
        let wait = error.retry_after().unwrap_or(pause.mul_f64(0.5 + fastrand::f64() / 2.0));
        if !effect.repeatable() || !error.may_repeat(true) || !deadline.allows(wait) {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        pause *= 4;
    }
    work().await
}

fn in_doubt(tool: &str, why: &str) -> Failure {
    Failure::new(
        Kind::InDoubt,
        format!(
            "the node of a call of {tool} was lost; whether it took effect is not known, and it is not made again{why}"
        ),
    )
}

fn outcome_of(kind: Kind) -> ToolOutcome {
    match kind {
        Kind::DeadlineExceeded => ToolOutcome::Timeout,
        Kind::Cancelled => ToolOutcome::Cancelled,
        Kind::InDoubt => ToolOutcome::Interrupted,
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
