//! Tools: what agents act with. A tool is written typed, as a free async function ([`tool_fn`]) or as a small struct
//! that implements [`Tool`]; the schema of its arguments follows from their type, and every call is checked
//! against it before the tool sees it.

mod context;
mod dispatcher;
mod progress;
mod redaction;
mod schema;

pub use context::ToolContext;
pub use redaction::{Redact, SecretNames};

pub(crate) use context::{CallScope, ToolServices};
pub(crate) use dispatcher::{Dispatched, Dispatcher, Ready};
pub(crate) use progress::{Progress, Shown};
pub(crate) use schema::Shape;

use crate::failure::Failure;
use apex_core::error::{Kind, Result};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
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

    /// The JSON Schema of its arguments; that of their type, unless it is only known at run time.
    fn arguments_schema(&self) -> Value {
        schemars::schema_for!(Self::Arguments).to_value()
    }

    /// Does it.
    ///
    /// # Errors
    /// Whatever it could not do; the agent that called it decides what follows.
    async fn call(&self, arguments: Self::Arguments, context: ToolContext) -> Result<Self::Result>;
}

/// A tool from an async function.
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
        work,
        types: PhantomData,
    }
}

/// A tool from an async function; [`tool_fn`] makes it.
pub struct ToolFn<A, T, F> {
    name: String,
    description: String,
    timeout: Option<Duration>,
    work: F,
    types: PhantomData<fn(A) -> T>,
}

impl<A, T, F> ToolFn<A, T, F> {
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

    async fn call(&self, arguments: A, context: ToolContext) -> Result<T> {
        (self.work)(arguments, context).await
    }
}

/// A [`Tool`] with its types erased.
#[async_trait]
pub(crate) trait AnyTool: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn timeout(&self) -> Option<Duration>;
    fn arguments_schema(&self) -> Value;
    async fn call(
        &self,
        arguments: Value,
        context: ToolContext,
    ) -> std::result::Result<Value, Failure>;
}

/// The one place where tools lose their types.
#[derive(Debug)]
pub(crate) struct Erased<T>(pub(crate) T);

#[async_trait]
impl<T: Tool> AnyTool for Erased<T> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn timeout(&self) -> Option<Duration> {
        self.0.timeout()
    }

    fn arguments_schema(&self) -> Value {
        self.0.arguments_schema()
    }

    async fn call(
        &self,
        arguments: Value,
        context: ToolContext,
    ) -> std::result::Result<Value, Failure> {
        let arguments = serde_json::from_value(arguments).map_err(|_| {
            // What serde says may hold the value, which may be a secret.
            let name = self.0.name();
            Failure::new(
                Kind::BadArguments,
                format!("the arguments of {name} fit its schema but not its type"),
            )
        })?;
        let result = self.0.call(arguments, context).await?;
        serde_json::to_value(result).map_err(|error| {
            let name = self.0.name();
            Failure::new(Kind::BadOutput, format!("what {name} returned is not JSON: {error}"))
        })
    }
}
