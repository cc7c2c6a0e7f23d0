//! Tools: what agents act with. A tool is written typed, as a free async function ([`tool_fn`]) or as a small struct
//! that implements [`Tool`]; the schema of its arguments follows from their type, and every call is checked
//! against it before the tool sees it.

mod context;
mod dispatcher;
mod progress;
mod quota;
mod redaction;
mod schema;

pub use apex_core::resilience::Effect;
pub use context::ToolContext;
pub use redaction::{Redact, SecretNames};

pub(crate) use context::{CallScope, ToolServices};
pub(crate) use dispatcher::{Dispatched, Dispatcher, Ready, Terms};
pub(crate) use progress::{Progress, Shown};
pub(crate) use quota::Quota;
pub(crate) use schema::Shape;

use apex_core::error::{Error, Kind, Result};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A tool.
#[async_trait]
pub trait Tool: fmt::Debug + Send + Sync + 'static {
    /// What it is called with.
    type Arguments: DeserializeOwned + JsonSchema + Send;
    /// What it gives back.
    type Result: Serialize + Send;

    /// Its name: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    fn name(&self) -> &str;

    /// What it does, in a sentence for users and models.
    fn description(&self) -> &str;

    /// How long a call may take, where that differs from the engine's default; never longer than its step.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// What making a call twice does. It decides three things:
    ///
    /// | | `Read`, `Idempotent` | `Once` |
    /// |---|---|---|
    /// | a call fails, and may work later | it is made again, with the same key, up to three times within its time limit | the agent is told |
    /// | a node is lost during a call | it is made again, with the same key | it is [looked up](Tool::look_up), or ends as `outcome_unknown` |
    /// | a node drains during a call | it is made again elsewhere, with the same key | it has 3 s to end first; after that it counts as lost |
    /// | several calls of a run at once | side by side | one after the other, in order |
    ///
    /// One that does not say is taken for `Once`: to be too careful costs time, to be too careless a second payment.
    fn effect(&self) -> Effect {
        Effect::Once
    }

    /// Whether a person has to approve a call with these arguments before it is made. The run then waits for the
    /// decision, also for days; a call that is denied, or that nobody decides on in time, fails with `denied`.
    fn needs_approval(&self, _arguments: &Self::Arguments) -> bool {
        false
    }

    /// Whether its results hold what others wrote: documents, pages, mail. From then on each call of the run that
    /// [leaves](Tool::leaves) it needs a person's approval, and links in what it says are taken out unless the user
    /// wrote them or the host allows them.
    fn is_untrusted(&self) -> bool {
        false
    }

    /// Whether a call does something outside of its run: changes anything, or tells anybody what its arguments hold.
    /// Every call does that may not be repeated, or repeated at no cost; one that only reads does not. A tool that only
    /// keeps results of its run, or that reads from strangers, says otherwise.
    fn leaves(&self) -> bool {
        self.effect() != Effect::Read
    }

    /// The JSON Schema of its arguments; that of their type, unless it is only known at run time.
    fn arguments_schema(&self) -> Value {
        schemars::schema_for!(Self::Arguments).to_value()
    }

    /// Looks up by its [key](ToolContext::idempotency_key) what came of a call whose node was lost; asked only of
    /// tools whose effect is `Once`.
    ///
    /// # Errors
    /// Why it could not be looked up; the call then ends as `outcome_unknown`, as for one that cannot tell.
    async fn look_up(
        &self,
        _arguments: Self::Arguments,
        _context: ToolContext,
    ) -> Result<LookUp<Self::Result>> {
        Ok(LookUp::Unknown)
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever it could not do; the agent that called it decides what follows.
    async fn call(&self, arguments: Self::Arguments, context: ToolContext) -> Result<Self::Result>;
}

/// Which calls of tools that others wrote a person has to approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approvals {
    /// Those of tools that may write.
    #[default]
    Writes,
    /// All.
    Always,
    /// None, but those that a run may not make by itself.
    Never,
}

/// What came of a call whose node was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUp<T> {
    /// It took effect, with this result.
    Done(T),
    /// It did not take effect and will not; it is made now.
    NotDone,
    /// Nobody can tell.
    Unknown,
}

/// A tool from an async function. Unless it [says otherwise](ToolFn::effect), its calls are never repeated.
///
/// ```
/// use apex_agents::{ToolContext, tool_fn};
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add { a: i64, b: i64 }
/// let add = tool_fn("add", "Adds two numbers.", |n: Add, _: ToolContext| async move { Ok(n.a + n.b) });
/// # let _ = add;
/// ```
pub fn tool_fn<A, T, F, W>(
    name: impl Into<String>,
    description: impl Into<String>,
    work: F,
) -> ToolFn<A, T, F>
where
    F: Fn(A, ToolContext) -> W,
    W: Future<Output = Result<T>>,
{
    ToolFn {
        name: name.into(),
        description: description.into(),
        timeout: None,
        effect: Effect::Once,
        untrusted: false,
        leaves: None,
        needs_approval: None,
        look_up: None,
        work,
        types: PhantomData,
    }
}

/// A tool from an async function; [`tool_fn`] makes it.
pub struct ToolFn<A, T, F> {
    name: String,
    description: String,
    timeout: Option<Duration>,
    effect: Effect,
    untrusted: bool,
    leaves: Option<bool>,
    needs_approval: Option<NeedsApproval<A>>,
    look_up: Option<LooksUp<A, T>>,
    work: F,
    types: PhantomData<fn(A) -> T>,
}

type NeedsApproval<A> = Box<dyn Fn(&A) -> bool + Send + Sync>;
type LooksUp<A, T> =
    Box<dyn Fn(A, ToolContext) -> BoxFuture<'static, Result<LookUp<T>>> + Send + Sync>;

impl<A, T, F> ToolFn<A, T, F> {
    /// Says what making a call twice does; see [`Tool::effect`].
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Says that its results hold what others wrote; see [`Tool::is_untrusted`].
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.untrusted = true;
        self
    }

    /// Says whether a call does something outside of its run, where that does not follow from its effect; see
    /// [`Tool::leaves`].
    #[must_use]
    pub fn leaves(mut self, leaves: bool) -> Self {
        self.leaves = Some(leaves);
        self
    }

    /// Says which calls a person has to approve: `|_| true` for all. See [`Tool::needs_approval`].
    #[must_use]
    pub fn needs_approval(mut self, rule: impl Fn(&A) -> bool + Send + Sync + 'static) -> Self {
        self.needs_approval = Some(Box::new(rule));
        self
    }

    /// Says how a call whose node was lost is looked up; see [`Tool::look_up`].
    #[must_use]
    pub fn look_up<W>(mut self, work: impl Fn(A, ToolContext) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Result<LookUp<T>>> + Send + 'static,
    {
        self.look_up = Some(Box::new(move |arguments, context| Box::pin(work(arguments, context))));
        self
    }

    /// Says how long a call may take, where that differs from the engine's default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<A, T, F> fmt::Debug for ToolFn<A, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tool({})", self.name)
    }
}

#[async_trait]
impl<A, T, F, W> Tool for ToolFn<A, T, F>
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    T: Serialize + Send + 'static,
    F: Fn(A, ToolContext) -> W + Send + Sync + 'static,
    W: Future<Output = Result<T>> + Send + 'static,
{
    type Arguments = A;
    type Result = T;

    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn is_untrusted(&self) -> bool {
        self.untrusted
    }

    fn leaves(&self) -> bool {
        self.leaves.unwrap_or(self.effect != Effect::Read)
    }

    fn needs_approval(&self, arguments: &A) -> bool {
        self.needs_approval.as_ref().is_some_and(|rule| rule(arguments))
    }

    async fn look_up(&self, arguments: A, context: ToolContext) -> Result<LookUp<T>> {
        match &self.look_up {
            Some(look_up) => look_up(arguments, context).await,
            None => Ok(LookUp::Unknown),
        }
    }

    async fn call(&self, arguments: A, context: ToolContext) -> Result<T> {
        (self.work)(arguments, context).await
    }
}

/// A [`Tool`] with its types erased.
#[async_trait]
pub(crate) trait AnyTool: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn description(&self) -> &str;
    fn timeout(&self) -> Option<Duration>;
    fn effect(&self) -> Effect;
    fn is_untrusted(&self) -> bool;
    fn leaves(&self) -> bool;
    fn arguments_schema(&self) -> Value;
    /// Arguments that do not fit need none: they are refused.
    fn needs_approval(&self, arguments: &Value) -> bool;
    async fn look_up(&self, arguments: Value, context: ToolContext) -> Result<LookUp<Value>>;
    async fn call(&self, arguments: Value, context: ToolContext) -> Result<Value>;
}

/// Tools that come and go while a node works.
pub(crate) trait ToolSource: fmt::Debug + Send + Sync {
    /// What the names of all its tools begin with; no other tool's does.
    fn prefix(&self) -> &str;

    /// The tools that there are now, by their names.
    fn tools(&self) -> Arc<FxHashMap<String, Arc<Ready>>>;
}

/// The one place where tools lose their types.
#[derive(Debug)]
pub(crate) struct Erased<T>(pub(crate) T);

#[async_trait]
impl<T: Tool> AnyTool for Erased<T> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn description(&self) -> &str {
        self.0.description()
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }

    fn effect(&self) -> Effect {
        self.0.effect()
    }

    fn is_untrusted(&self) -> bool {
        self.0.is_untrusted()
    }

    fn leaves(&self) -> bool {
        self.0.leaves()
    }

    fn arguments_schema(&self) -> Value {
        self.0.arguments_schema()
    }

    fn needs_approval(&self, arguments: &Value) -> bool {
        T::Arguments::deserialize(arguments).is_ok_and(|typed| self.0.needs_approval(&typed))
    }

    async fn look_up(&self, arguments: Value, context: ToolContext) -> Result<LookUp<Value>> {
        let arguments = self.typed(arguments)?;
        Ok(match self.0.look_up(arguments, context).await? {
            LookUp::Done(result) => LookUp::Done(self.untyped(&result)?),
            LookUp::NotDone => LookUp::NotDone,
            LookUp::Unknown => LookUp::Unknown,
        })
    }

    async fn call(&self, arguments: Value, context: ToolContext) -> Result<Value> {
        let arguments = self.typed(arguments)?;
        let result = self.0.call(arguments, context).await?;
        self.untyped(&result)
    }
}

impl<T: Tool> Erased<T> {
    fn typed(&self, arguments: Value) -> Result<T::Arguments> {
        serde_json::from_value(arguments).map_err(|_| {
            // What serde says may hold the value, which may be a secret.
            let name = self.0.name();
            let told = format!("the arguments of {name} fit its schema but not its type");
            Error::new(Kind::BadArguments, "tool.call", told)
        })
    }

    fn untyped(&self, result: &T::Result) -> Result<Value> {
        serde_json::to_value(result).map_err(|error| {
            let name = self.0.name();
            let told = format!("what {name} returned is not JSON: {error}");
            Error::new(Kind::BadOutput, "tool.call", told)
        })
    }
}
