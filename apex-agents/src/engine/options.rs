use super::machine::Budget;
use crate::model::Chain;
use crate::tool::{Redact, SecretNames};
use apex_core::config::{Checks, FaultCode, HumanDuration, Section, WebUrl, duration};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::RunBudget;
use apex_core::money::Usd;
use apex_core::run::RunLimits;
use apex_core::trace::TraceBridge;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use std::time::Duration;

/// How much agents may work at a time, and for how long. Deadlines never extend those around them: a tool call ends
/// with its step, a step with its run.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct EngineOptions {
    /// Runs that this node works on at the same time.
    // A waiting run costs little, and what computes is limited by `parallel_work`.
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
    /// The tokens of models, sent and received, that one run may use; absent for no limit. A question is asked only
    /// while as much is left as it may use.
    #[schemars(range(min = 1_000, max = 1_000_000_000_000_u64))]
    pub run_tokens: Option<u64>,
    /// What one run may pay for models, in US dollars; absent for no limit. Models without a price count by their
    /// tokens only.
    pub run_usd: Option<Usd>,
    /// The steps that one run may take, over all attempts.
    #[schemars(range(min = 1, max = 100_000))]
    pub run_steps: u32,
    /// Whether what each run asked for and got is kept among its artifacts when it ends, for it to be replayed.
    // It holds what people wrote and what models answered, once more.
    pub record: bool,
    /// The calls of tools that one user may make in a minute, over all runs and nodes; absent for no limit. One that
    /// is too many gets `rate_limited` and the time after which there is another.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub user_calls_per_minute: Option<u32>,
    /// How long a run waits for a person to approve a call; after that the call counts as denied.
    #[serde(with = "duration")]
    #[schemars(with = "HumanDuration", extend("x-minimum" = "1s", "x-maximum" = "30d"))]
    pub approval_timeout: Duration,
    /// The longest message, in bytes.
    #[schemars(range(min = 256, max = 16_384))]
    pub message_bytes: usize,
    /// The most files of one message.
    #[schemars(range(min = 0, max = 32))]
    pub message_files: usize,
    /// The largest result of a tool, in bytes of JSON.
    #[schemars(range(min = 4_096, max = 67_108_864))]
    pub result_bytes: usize,
    /// Whether a run that has read what others wrote (a document, a page, a result of an MCP server) is held back: what
    /// it calls needs a person's approval unless it only reads, and links in what it says are taken out.
    pub guard: bool,
    /// What links may begin with that stay all the same, such as `https://docs.example.com/`. Those that the user wrote
    /// stay, too.
    #[serde(deserialize_with = "links")]
    #[schemars(with = "Vec<String>")]
    pub links: Arc<[String]>,
    /// The limits that the run log was opened with: its lease says how often a node has to give a sign of life, its
    /// attempts after how many a run that keeps getting lost has failed.
    #[serde(skip)]
    pub runs: RunLimits,
    /// Takes secrets out of what is shown of tool calls.
    #[serde(skip)]
    pub redact: Arc<dyn Redact>,
    /// The models that agents may ask; without any they do what can be done by rules, and say so.
    #[serde(skip)]
    pub models: Option<Chain>,
    /// Joins the spans of runs to the traces of the host's exporter.
    #[serde(skip)]
    pub traces: Option<Arc<dyn TraceBridge>>,
}

impl Section for EngineOptions {
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
        checks.require(
            &["links"],
            self.links.iter().all(|link| link.parse::<WebUrl>().is_ok()),
            FaultCode::Format,
            "one of them is no address that links can begin with",
            "write https://HOST/PATH, without a query",
        );
        checks.require(
            &["run_usd"],
            self.run_usd.is_none_or(|usd| usd > Usd::ZERO),
            FaultCode::Range,
            "a run may pay nothing for models",
            "make it more than 0, or configure no model",
        );
    }
}

fn links<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Arc<[String]>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::from)
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            parallel_runs: 256,
            parallel_work: 4,
            run_deadline: Duration::from_secs(60 * 60),
            step_deadline: Duration::from_secs(5 * 60),
            tool_timeout: Duration::from_secs(60),
            run_tokens: None,
            run_usd: None,
            run_steps: 256,
            record: false,
            user_calls_per_minute: None,
            approval_timeout: Duration::from_secs(24 * 60 * 60),
            message_bytes: 16 * 1024,
            message_files: 32,
            result_bytes: 16 * 1024 * 1024,
            guard: true,
            links: Arc::default(),
            runs: RunLimits::default(),
            redact: Arc::new(SecretNames),
            models: None,
            traces: None,
        }
    }
}

impl EngineOptions {
    /// What one run may use.
    pub(super) fn budget(&self) -> Budget {
        Budget {
            tokens: self.run_tokens,
            usd: self.run_usd,
            steps: self.run_steps,
            time: self.run_deadline,
        }
    }

    /// What one run may use, as its first event tells it.
    pub(super) fn told_budget(&self) -> RunBudget {
        RunBudget {
            tokens: self.run_tokens,
            usd: self.run_usd,
            steps: self.run_steps,
            seconds: self.run_deadline.as_secs(),
        }
    }

    /// How often a lease is renewed, and, without being woken, how often a node looks for lost runs.
    pub(super) fn renew_every(&self) -> Duration {
        self.runs.lease / 3
    }

    /// After how long without a renewal its holder gives a lease up, by its own monotonic clock: well before the store
    /// gives it to somebody else.
    pub(super) fn give_up_after(&self) -> Duration {
        self.runs.lease * 2 / 3
    }

    /// Passes options with which work can be done.
    pub(super) fn validate(&self) -> Result<()> {
        let counts = [
            ("parallel_runs", self.parallel_runs),
            ("parallel_work", self.parallel_work),
            ("attempts", self.runs.attempts as usize),
            ("run_steps", self.run_steps as usize),
        ];
        let times = [
            ("run_deadline", self.run_deadline),
            ("step_deadline", self.step_deadline),
            ("tool_timeout", self.tool_timeout),
            ("approval_timeout", self.approval_timeout),
            ("lease", self.runs.lease),
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
