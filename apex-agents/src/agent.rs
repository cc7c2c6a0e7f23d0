//! What an agent is: a name, a purpose, and typed work that turns an input into an output.
//!
//! An agent is [declared](crate::agent()), or written typed as a free async function ([`agent_fn`]) or a small struct
//! that implements [`Agent`]; the one place where its types are erased is at the end of this file. The events that users see of it
//! are the runtime's doing, not the agent's.

use crate::context::Context;
use crate::failure::Failure;
use crate::plan::Plan;
use apex_core::error::{Kind, Result};
use apex_core::event::{RunResult, RunStatus};
use apex_core::id::FileId;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

/// What the user asked: the input of the agent that a run begins with, and a part of every other agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The words.
    pub text: String,
    /// The files that belong to them.
    pub files: Vec<FileId>,
}

impl Request {
    /// It as an agent's input, with what a plan made of its words, if it made something of them.
    pub(crate) fn input(&self, question: Option<&str>) -> Value {
        json!({ "text": question.unwrap_or(&self.text), "files": self.files })
    }
}

/// What an agent's output means for the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The output is handed to the steps that need it.
    HandOn,
    /// These steps follow.
    Plan(Plan),
    /// The user has the answer: the run ends with it, and steps that have not begun do not begin.
    Answer(RunResult),
}

/// The output of an agent. A `String` or a [`RunResult`] is the run's answer, a [`Plan`] says which steps follow,
/// and any other type is handed on after `impl AgentOutput for MyOutput {}`.
pub trait AgentOutput: Serialize + JsonSchema + Send + Sync + 'static {
    /// What it means for the run.
    fn then(&self) -> Then {
        Then::HandOn
    }
}

impl AgentOutput for RunResult {
    fn then(&self) -> Then {
        Then::Answer(self.clone())
    }
}

impl AgentOutput for String {
    fn then(&self) -> Then {
        RunResult { status: RunStatus::Answered, text: self.clone(), artifacts: Vec::new() }.then()
    }
}

/// A JSON string is the run's answer; any other value is handed on.
impl AgentOutput for Value {
    fn then(&self) -> Then {
        match self {
            Self::String(text) => text.then(),
            _ => Then::HandOn,
        }
    }
}

impl AgentOutput for Plan {
    fn then(&self) -> Then {
        Then::Plan(self.clone())
    }
}

/// An agent.
///
/// It works through its [`Context`] alone, and takes time and randomness from it: after a crash it runs again from
/// its start, and what it had already done is answered from the journal, in order. Its input is an object with the
/// fields of the [`Request`], and in a [`Plan`] one field more for each step that it needs, named as that step's
/// agent; it takes those that it declares.
#[async_trait]
pub trait Agent: fmt::Debug + Send + Sync + 'static {
    /// What it works on.
    type Input: DeserializeOwned + JsonSchema + Send;
    /// What it makes.
    type Output: AgentOutput;

    /// Its name: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    fn name(&self) -> &str;

    /// What it is for, in a sentence that users read.
    fn purpose(&self) -> &str;

    /// How long a step of it may take, tool calls included, where that differs from the engine's default.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// The tools that it calls, by their names, as far as they are known before it runs: an engine whose registry lacks
    /// one is not built.
    fn tools(&self) -> &[String] {
        &[]
    }

    /// Words and phrases by which a question is one for it to answer: without a model, Apex's supervisor has the agent
    /// answer whose phrase the question holds, the longest first. Capitals and signs make no difference.
    fn triggers(&self) -> &[String] {
        &[]
    }

    /// The JSON Schema of its input, whose fields say whose results it takes; that of its type, unless it is only
    /// known at run time.
    fn input_schema(&self) -> Value {
        schemars::schema_for!(Self::Input).to_value()
    }

    /// The JSON Schema that its output is held against; that of its type, unless it is only known at run time.
    fn output_schema(&self) -> Value {
        schemars::schema_for!(Self::Output).to_value()
    }

    /// Does the work.
    ///
    /// # Errors
    /// Whatever it could not do; the step ends as `error`, and the run with it unless the plan says that the step
    /// is optional.
    async fn run(&self, input: Self::Input, context: Context) -> Result<Self::Output>;
}

/// An agent from an async function.
///
/// ```
/// use apex_agents::{Context, Request, agent_fn};
/// let hello = agent_fn("hello", "Greets.", |ask: Request, _: Context| async move {
///     Ok(format!("Hello, {}!", ask.text))
/// });
/// # let _ = hello;
/// ```
pub fn agent_fn<I, O, F, W>(
    name: impl Into<String>,
    purpose: impl Into<String>,
    work: F,
) -> AgentFn<I, O, F>
where
    F: Fn(I, Context) -> W,
    W: Future<Output = Result<O>>,
{
    AgentFn {
        name: name.into(),
        purpose: purpose.into(),
        deadline: None,
        triggers: Vec::new(),
        work,
        types: PhantomData,
    }
}

/// An agent from an async function; [`agent_fn`] makes it.
pub struct AgentFn<I, O, F> {
    name: String,
    purpose: String,
    deadline: Option<Duration>,
    triggers: Vec<String>,
    work: F,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O, F> AgentFn<I, O, F> {
    /// Says how long a step of it may take, where that differs from the engine's default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Says by which words and phrases a question is one for it. See [`Agent::triggers`].
    #[must_use]
    pub fn triggers<T: Into<String>>(mut self, phrases: impl IntoIterator<Item = T>) -> Self {
        self.triggers = phrases.into_iter().map(Into::into).collect();
        self
    }
}

impl<I, O, F> fmt::Debug for AgentFn<I, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({})", self.name)
    }
}

#[async_trait]
impl<I, O, F, W> Agent for AgentFn<I, O, F>
where
    I: DeserializeOwned + JsonSchema + Send + 'static,
    O: AgentOutput,
    F: Fn(I, Context) -> W + Send + Sync + 'static,
    W: Future<Output = Result<O>> + Send + 'static,
{
    type Input = I;
    type Output = O;

    fn name(&self) -> &str {
        &self.name
    }

    fn purpose(&self) -> &str {
        &self.purpose
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn triggers(&self) -> &[String] {
        &self.triggers
    }

    async fn run(&self, input: I, context: Context) -> Result<O> {
        (self.work)(input, context).await
    }
}

/// What an agent made, its types erased.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) output: Value,
    pub(crate) then: Then,
}

/// An [`Agent`] with its types erased.
#[async_trait]
pub(crate) trait AnyAgent: fmt::Debug + Send + Sync {
    fn name(&self) -> &str;
    fn purpose(&self) -> &str;
    fn deadline(&self) -> Option<Duration>;
    fn tools(&self) -> &[String];
    fn triggers(&self) -> &[String];
    fn input_schema(&self) -> Value;
    fn output_schema(&self) -> Value;
    async fn run(&self, input: Value, context: Context) -> std::result::Result<Made, Failure>;
}

/// The one place where agents lose their types.
#[derive(Debug)]
pub(crate) struct Erased<A>(pub(crate) A);

#[async_trait]
impl<A: Agent> AnyAgent for Erased<A> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn purpose(&self) -> &str {
        self.0.purpose()
    }

    fn deadline(&self) -> Option<Duration> {
        self.0.deadline()
    }

    fn tools(&self) -> &[String] {
        self.0.tools()
    }

    fn triggers(&self) -> &[String] {
        self.0.triggers()
    }

    fn input_schema(&self) -> Value {
        self.0.input_schema()
    }

    fn output_schema(&self) -> Value {
        self.0.output_schema()
    }

    async fn run(&self, input: Value, context: Context) -> std::result::Result<Made, Failure> {
        let input = serde_json::from_value(input).map_err(|error| {
            let name = self.0.name();
            Failure::new(
                Kind::AgentFailed,
                format!("what agent {name} was handed does not fit its input: {error}"),
            )
        })?;
        let made = self.0.run(input, context).await?;
        let then = made.then();
        let output = serde_json::to_value(made).map_err(|error| {
            let name = self.0.name();
            Failure::new(
                Kind::BadOutput,
                format!("what agent {name} returned is not JSON: {error}"),
            )
        })?;
        Ok(Made { output, then })
    }
}
