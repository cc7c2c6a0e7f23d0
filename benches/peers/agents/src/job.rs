//! The job, the same for all: a model wants `add` called so many times, one call a turn, and then says `done`.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the agents are told.
pub const INSTRUCTIONS: &str = "Answer questions about sums. Add by the tool, never yourself.";
/// What they are asked.
pub const QUESTION: &str = "What is the sum?";
/// The tool, and what it is for.
pub const TOOL: (&str, &str) = ("add", "Adds two numbers.");
/// What they answer.
pub const ANSWER: &str = "done";
/// What the tool is called with.
pub const ARGUMENTS: &str = r#"{"a":1,"b":2}"#;

/// The arguments of the tool.
#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Add {
    pub a: i64,
    pub b: i64,
}

/// What a model does next.
pub enum Turn {
    Call,
    Answer,
}

/// How many turns a run takes, and whether its tool ever returns.
#[derive(Debug, Clone)]
pub struct Job {
    turns: usize,
    holds: bool,
    waiting: Arc<AtomicUsize>,
}

impl Job {
    /// Runs of so many calls.
    pub fn new(turns: usize) -> Self {
        Self { turns, holds: false, waiting: Arc::default() }
    }

    /// Runs that wait in their first call for good.
    pub fn holding() -> Self {
        Self { holds: true, ..Self::new(1) }
    }

    /// What the model does once it has so many results.
    pub fn turn(&self, results: usize) -> Turn {
        if results < self.turns { Turn::Call } else { Turn::Answer }
    }

    /// What the tool does.
    pub async fn add(&self, numbers: Add) -> i64 {
        if self.holds {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            pending::<()>().await;
        }
        numbers.a + numbers.b
    }

    /// The runs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// More turns than any run takes, for limits.
    pub fn limit(&self) -> usize {
        self.turns + 8
    }
}
