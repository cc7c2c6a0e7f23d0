use serde::{Deserialize, Serialize};

/// A step of a plan: one agent's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlanStep {
    /// The agent.
    pub agent: String,
    /// What it is to do here; empty for the agent's own purpose.
    pub purpose: String,
    /// The agents whose results it is handed.
    pub needs: Vec<String>,
    /// Whether the run goes on without it when it fails; then those that need it find its field absent.
    pub optional: bool,
}

impl PlanStep {
    /// A step that the run cannot do without.
    #[must_use]
    pub fn new(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), purpose: String::new(), needs: Vec::new(), optional: false }
    }

    /// Says what the agent is to do here.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// Says whose results it is handed.
    #[must_use]
    pub fn needs<const N: usize>(mut self, agents: [&str; N]) -> Self {
        self.needs = agents.map(str::to_owned).to_vec();
        self
    }

    /// Says that the run can do without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}
