use crate::model::Chain;
use crate::tool::{Redact, SecretNames};
use apex_core::error::{Error, Kind, Result};
use apex_core::run::RunLimits;
use std::sync::Arc;
use std::time::Duration;

/// How an [`super::Engine`] works. Deadlines never extend those around them: a tool call ends with its step, a step
/// with its run.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How many runs this node works on at the same time; 256. A waiting run costs little, and what computes is
    /// limited by `parallel_work`.
    pub parallel_runs: usize,
    /// How many tools compute or block at the same time on this node; 4.
    pub parallel_work: usize,
    /// How long a run may take at work, over all attempts; an hour.
    pub run_deadline: Duration,
    /// How long a step of an agent that says nothing else may take; five minutes.
    pub step_deadline: Duration,
    /// How long a call of a tool that says nothing else may take; a minute.
    pub tool_timeout: Duration,
    /// The attempts after which a run that keeps getting lost has failed; that of the run log's limits.
    pub attempts: u32,
    /// Takes secrets out of what is shown of tool calls.
    pub redact: Arc<dyn Redact>,
    /// The models that agents may ask; without any they do what can be done by rules, and say so.
    pub models: Option<Chain>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            parallel_runs: 256,
            parallel_work: 4,
            run_deadline: Duration::from_secs(60 * 60),
            step_deadline: Duration::from_secs(5 * 60),
            tool_timeout: Duration::from_secs(60),
            attempts: RunLimits::default().attempts,
            redact: Arc::new(SecretNames),
            models: None,
        }
    }
}

impl EngineOptions {
    /// Passes options with which work can be done.
    pub(super) fn check(&self) -> Result<()> {
        let counts = [
            ("parallel_runs", self.parallel_runs),
            ("parallel_work", self.parallel_work),
            ("attempts", self.attempts as usize),
        ];
        let times = [
            ("run_deadline", self.run_deadline),
            ("step_deadline", self.step_deadline),
            ("tool_timeout", self.tool_timeout),
        ];
        let zeros = counts
            .into_iter()
            .filter_map(|(key, count)| (count == 0).then_some(key))
            .chain(times.into_iter().filter_map(|(key, time)| time.is_zero().then_some(key)));
        let faults: Vec<String> = zeros
            .map(|key| format!("{key} is zero, and nothing could be done; raise it"))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Config, "engine.options", faults.join("; ")))
    }
}
