//! The work of agents.

use apex_agents::EngineOptions;
use apex_core::config::{Checks, FaultCode, HumanDuration, Section, duration};
use serde::Deserialize;
use std::time::Duration;

/// How much agents may work at a time, and for how long.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct AgentsSection {
    /// Runs that this node works on at the same time.
    #[schemars(range(min = 1, max = 100_000))]
    pub parallel_runs: usize,
    /// Tools that compute or block at the same time on this node.
    #[schemars(range(min = 1, max = 1_024))]
    pub parallel_work: usize,
    /// How long a run may take at work, over all attempts.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "7d"))]
    pub run_deadline: Duration,
    /// How long a step of an agent that says nothing else may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "7d"))]
    pub step_deadline: Duration,
    /// How long a call of a tool that says nothing else may take.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "7d"))]
    pub tool_timeout: Duration,
}

impl Default for AgentsSection {
    fn default() -> Self {
        let EngineOptions {
            parallel_runs,
            parallel_work,
            run_deadline,
            step_deadline,
            tool_timeout,
            ..
        } = EngineOptions::default();
        Self { parallel_runs, parallel_work, run_deadline, step_deadline, tool_timeout }
    }
}

impl Section for AgentsSection {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.require(
            &["step_deadline", "run_deadline"],
            self.step_deadline <= self.run_deadline,
            FaultCode::Conflict,
            "one step may take longer than the whole run",
            "make it shorter than run_deadline",
        );
        checks.require(
            &["tool_timeout", "step_deadline"],
            self.tool_timeout <= self.step_deadline,
            FaultCode::Conflict,
            "one call of a tool may take longer than its step",
            "make it shorter than step_deadline",
        );
    }
}

impl AgentsSection {
    pub(super) fn options(&self, attempts: u32) -> EngineOptions {
        EngineOptions {
            parallel_runs: self.parallel_runs,
            parallel_work: self.parallel_work,
            run_deadline: self.run_deadline,
            step_deadline: self.step_deadline,
            tool_timeout: self.tool_timeout,
            attempts,
            ..EngineOptions::default()
        }
    }
}
