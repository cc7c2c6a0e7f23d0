use crate::{Call, Callback, ToolWork};
use async_trait::async_trait;
use netra_apex::agents::{Effect, LookUp, Tool, ToolContext};
use netra_apex::core::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a host says of a tool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    /// Its name: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// What it does, in a sentence for users and models.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub arguments: Value,
    /// How long a call may take, in milliseconds, where that differs from the engine's default.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// What making a call twice does.
    #[serde(default)]
    pub effect: EffectName,
}

/// [`Effect`] by name.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectName {
    /// Nothing is changed.
    Read,
    /// Twice is the same as once.
    Idempotent,
    /// It must not be made twice.
    #[default]
    Once,
}

/// Which calls a person has to approve.
#[derive(Clone, Default)]
pub enum Approval {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Those of which this says so, by their arguments; an answer that fails is a yes. It is asked while a run's events
    /// wait, so it answers at once.
    When(Arc<NeedsApproval>),
}

/// Says of a call's arguments whether a person has to approve it.
pub type NeedsApproval = dyn Fn(&Value) -> Result<bool> + Send + Sync;

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::When(_) => "When(…)",
        })
    }
}

/// What looks up what came of a call whose node was lost, by the tool's `look_up`: a function that is called with the
/// arguments, and whose answer is `{"done": result}`, `"not_done"` or `"unknown"`.
pub type LooksUp = Option<Arc<dyn Callback>>;

/// A tool that is a function of the host's.
#[derive(Debug)]
pub struct HostTool {
    spec: ToolSpec,
    approval: Approval,
    look_up: LooksUp,
    work: Arc<dyn Callback>,
}

impl HostTool {
    /// A tool of which the host says `spec` and whose calls `work` makes.
    #[must_use]
    pub fn new(spec: ToolSpec, work: Arc<dyn Callback>) -> Self {
        Self { spec, approval: Approval::Never, look_up: None, work }
    }

    /// Says which calls a person has to approve.
    #[must_use]
    pub fn approval(mut self, approval: Approval) -> Self {
        self.approval = approval;
        self
    }

    /// Says how a call whose node was lost is looked up.
    #[must_use]
    pub fn look_up(mut self, look_up: LooksUp) -> Self {
        self.look_up = look_up;
        self
    }
}

/// The answer of a look.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Done(Value),
    NotDone,
    Unknown,
}

#[async_trait]
impl Tool for HostTool {
    type Arguments = Value;
    type Result = Value;

    fn name(&self) -> &str {
        &self.spec.name
    }

    fn description(&self) -> &str {
        &self.spec.description
    }

    fn timeout(&self) -> Option<Duration> {
        self.spec.timeout_ms.map(Duration::from_millis)
    }

    fn effect(&self) -> Effect {
        match self.spec.effect {
            EffectName::Read => Effect::Read,
            EffectName::Idempotent => Effect::Idempotent,
            EffectName::Once => Effect::Once,
        }
    }

    fn needs_approval(&self, arguments: &Value) -> bool {
        match &self.approval {
            Approval::Never => false,
            Approval::Always => true,
            Approval::When(says) => says(arguments).unwrap_or(true),
        }
    }

    fn arguments_schema(&self) -> Value {
        self.spec.arguments.clone()
    }

    async fn look_up(&self, arguments: Value, context: ToolContext) -> Result<LookUp<Value>> {
        let Some(look_up) = &self.look_up else {
            return Ok(LookUp::Unknown);
        };
        let found = look_up.call(arguments, Call::Tool(ToolWork::new(context))).await?;
        let found = serde_json::from_value(found).map_err(|_| {
            let told = "a look answers with {\"done\": result}, \"not_done\" or \"unknown\"";
            Error::new(Kind::BadOutput, "tool.look_up", told).with("tool", &self.spec.name)
        })?;
        Ok(match found {
            Found::Done(result) => LookUp::Done(result),
            Found::NotDone => LookUp::NotDone,
            Found::Unknown => LookUp::Unknown,
        })
    }

    async fn call(&self, arguments: Value, context: ToolContext) -> Result<Value> {
        self.work.call(arguments, Call::Tool(ToolWork::new(context))).await
    }
}
