use crate::{AgentWork, Call, Callback};
use async_trait::async_trait;
use netra_apex::agents::{Agent, AgentOutput, Context, Plan, Then};
use netra_apex::core::error::{Error, Kind, Result};
use netra_apex::core::event::RunResult;
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What a host says of an agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Its name: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// What it is for, in a sentence that users read.
    pub purpose: String,
    /// The JSON Schema of its input, whose fields say whose results it takes.
    pub input: Value,
    /// What it makes.
    #[serde(default)]
    pub output: OutputSpec,
    /// How long a step of it may take, in milliseconds, where that differs from the engine's default.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Words and phrases by which a question is one for it to answer, where no model says who does.
    #[serde(default)]
    pub triggers: Vec<String>,
}

/// What an agent of a host's makes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSpec {
    /// The answer, as Markdown.
    Text,
    /// The answer, with what belongs to it.
    Result,
    /// The steps that follow.
    Plan,
    /// A value that fits this schema, to be handed on.
    Schema(Value),
    /// Any of those.
    #[default]
    Any,
}

/// What the function of an agent has to answer with, as JSON: `{"text": …}`, `{"result": …}`, `{"plan": …}` or
/// `{"value": …}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// The user's answer, as Markdown.
    Text(String),
    /// The user's answer.
    Result(RunResult),
    /// The steps that follow.
    Plan(Plan),
    /// What is handed on.
    Value(Value),
}

/// An agent that is a function of the host's.
#[derive(Debug)]
pub struct HostAgent {
    spec: AgentSpec,
    work: Arc<dyn Callback>,
}

impl HostAgent {
    /// An agent of which the host says `spec` and whose steps `work` does.
    #[must_use]
    pub fn new(spec: AgentSpec, work: Arc<dyn Callback>) -> Self {
        Self { spec, work }
    }
}

/// What a host's agent made, with what it means for the run.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct HostOutput {
    value: Value,
    #[serde(skip)]
    #[schemars(skip)]
    then: Then,
}

impl AgentOutput for HostOutput {
    fn then(&self) -> Then {
        self.then.clone()
    }
}

impl TryFrom<Made> for HostOutput {
    type Error = Error;

    fn try_from(made: Made) -> Result<Self> {
        let then = match &made {
            Made::Text(text) => text.then(),
            Made::Result(result) => result.then(),
            Made::Plan(plan) => plan.then(),
            Made::Value(_) => Then::HandOn,
        };
        let value = match made {
            Made::Text(text) => Value::String(text),
            Made::Result(result) => crate::context::json(&result)?,
            Made::Plan(plan) => crate::context::json(&plan)?,
            Made::Value(value) => value,
        };
        Ok(Self { value, then })
    }
}

#[async_trait]
impl Agent for HostAgent {
    type Input = Value;
    type Output = HostOutput;

    fn name(&self) -> &str {
        &self.spec.name
    }

    fn purpose(&self) -> &str {
        &self.spec.purpose
    }

    fn deadline(&self) -> Option<Duration> {
        self.spec.deadline_ms.map(Duration::from_millis)
    }

    fn triggers(&self) -> &[String] {
        &self.spec.triggers
    }

    fn input_schema(&self) -> Value {
        self.spec.input.clone()
    }

    fn output_schema(&self) -> Value {
        match &self.spec.output {
            OutputSpec::Text => schema_for!(String).to_value(),
            OutputSpec::Result => schema_for!(RunResult).to_value(),
            OutputSpec::Plan => schema_for!(Plan).to_value(),
            OutputSpec::Schema(schema) => schema.clone(),
            OutputSpec::Any => Value::Bool(true),
        }
    }

    async fn run(&self, input: Value, context: Context) -> Result<HostOutput> {
        let made = self.work.call(input, Call::Agent(AgentWork::new(context))).await?;
        let made: Made = serde_json::from_value(made).map_err(|error| {
            let told = format!("what it returned is no answer, no plan and no value: {error}");
            Error::new(Kind::BadOutput, "agent.run", told).with("agent", &self.spec.name)
        })?;
        made.try_into()
    }
}
