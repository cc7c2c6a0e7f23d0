mod model;

pub use model::Model;

use crate::failure::Failure;
use crate::model::{Chain, ToolSpec};
use crate::registry::Specs;
use crate::stored::Stored;
use crate::team::Team;
use crate::tool::{Progress, Redact, Shown};
use apex_core::budget::Balance;
use apex_core::clock::{Clock, Timestamp};
use apex_core::error::{Error, Kind, Result};
use apex_core::file::ArtifactStore;
use apex_core::id::{ReservationId, RunId, StepId, ThreadId};
use apex_core::money::Usage;
use apex_core::principal::Principal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What an agent may touch while it works on one step, in the name of the run's owner and of nobody else.
///
/// Everything that has an effect or an answer from outside goes through it and is journaled in the order in which
/// the agent asks. An agent that is run again after a crash gets the same answers and no completed call is made
/// twice; if it asks for something else than before, its step fails with the first difference.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) principal: Principal,
    pub(crate) run: RunId,
    pub(crate) thread: ThreadId,
    pub(crate) step: StepId,
    pub(crate) continues: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) artifacts: Arc<dyn ArtifactStore>,
    pub(crate) asks: mpsc::Sender<Asked>,
    pub(crate) progress: Progress,
    /// The models, where there are any.
    pub(crate) chain: Option<Chain>,
    /// Who is there.
    pub(crate) team: Arc<Team>,
    /// The tools that there are, as models see them.
    pub(crate) tools: Arc<Specs>,
    pub(crate) shown: mpsc::Sender<Shown>,
    /// How many bytes of the step's text were shown.
    pub(crate) text: AtomicU64,
    pub(crate) cancelled: CancellationToken,
    pub(crate) redact: Arc<dyn Redact>,
    /// Whether the run has read what others wrote; then links in what it says are looked at.
    pub(crate) wary: Arc<AtomicBool>,
    /// What the user asked, and the links that the host allows.
    pub(crate) asked: String,
    pub(crate) links: Arc<[String]>,
}

/// What an agent asks of the run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Think(String),
    Degraded(String),
    Call {
        tool: String,
        arguments: Value,
    },
    /// The time, with the one to give if the journal has none.
    Now(Timestamp),
    /// A random number, with the one to give if the journal has none.
    Random(u64),
    /// A question to a model, by the digest of the request; and whether there is a model.
    Model {
        digest: String,
        there: bool,
    },
    /// Tells how the question in this place of the journal goes.
    Told {
        place: usize,
        what: Telling,
    },
}

/// How a question to a model goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Telling {
    /// A model is to be asked, which may use up to so much; refused when the budget has not as much left.
    Begun { provider: String, model: String, bound: Usage, reservation: Option<ReservationId> },
    /// A visible thought of the model's.
    Thought(String),
    /// What is left of the budgets of the run's user.
    Left(Vec<Balance>),
    /// An attempt has ended; `answered` says whether with the answer, `retracted` why what was shown of it does not
    /// hold.
    Ended {
        provider: String,
        model: String,
        answered: bool,
        usage: Usage,
        bound: Usage,
        reservation: Option<ReservationId>,
        retracted: Option<String>,
    },
    /// This came of it, and nothing more will.
    Came(Came),
}

/// What comes of a question to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Came {
    /// A [`ModelResponse`](crate::model::ModelResponse).
    Answer(Stored),
    /// Nothing: there is no model.
    Nothing,
    /// No model answered.
    Failed(Failure),
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Done,
    Result(Stored),
    Time(Timestamp),
    Number(u64),
    /// The question in this place of the journal is to be asked.
    Go(usize),
    Came(Came),
}

/// An [`Ask`] on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) step: StepId,
    // Room is made for many at once.
    pub(crate) ask: Box<Ask>,
    pub(crate) reply: oneshot::Sender<std::result::Result<Reply, Failure>>,
}

impl Context {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// In whose name the step is done.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.inner.principal
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.inner.run
    }

    /// The conversation.
    #[must_use]
    pub fn thread(&self) -> ThreadId {
        self.inner.thread
    }

    /// Whether the conversation had begun before this run.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.inner.continues
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> StepId {
        self.inner.step
    }

    /// Tells the user a thought or what comes next; on record when this returns.
    ///
    /// # Errors
    /// `cancelled` when the step has ended.
    pub async fn think(&self, note: impl Into<String>) -> Result<()> {
        self.ask(Ask::Think(note.into())).await.map(drop)
    }

    /// Says what cannot be done in full, and why; the run's result tells the user.
    ///
    /// # Errors
    /// `cancelled` when the step has ended.
    pub async fn degraded(&self, note: impl Into<String>) -> Result<()> {
        self.ask(Ask::Degraded(note.into())).await.map(drop)
    }

    /// Calls a tool and waits for its result. Calls may be made side by side; they are journaled in the order in
    /// which they begin.
    ///
    /// # Errors
    /// What the tool says; `bad_arguments` for a tool that does not exist or arguments that do not fit its schema;
    /// `deadline_exceeded`; `bad_output` for a result that is no `T`; `denied` when a person decided against it, or
    /// nobody decided in time; `outcome_unknown` when a node was lost in a call that must not be made twice;
    /// `cancelled` when the step has ended.
    pub async fn call<T: DeserializeOwned>(
        &self,
        tool: impl Into<String> + Send,
        arguments: impl Serialize + Send,
    ) -> Result<T> {
        let tool = tool.into();
        let arguments = serde_json::to_value(arguments).map_err(|error| {
            Error::new(Kind::BadArguments, "agent.call", "the arguments are not JSON")
                .with("tool", &tool)
                .with_source(error)
        })?;
        let ask = Ask::Call { tool: tool.clone(), arguments };
        let Reply::Result(stored) = self.ask(ask).await? else {
            return Err(mismatch());
        };
        let value = stored.load(&*self.inner.artifacts, &self.inner.principal).await?;
        serde_json::from_value(value).map_err(|error| {
            Error::new(
                Kind::BadOutput,
                "agent.call",
                "the tool's result is not what the agent expects",
            )
            .with("tool", tool)
            .with_source(error)
        })
    }

    /// The time, the same when the agent is run again.
    ///
    /// # Errors
    /// `cancelled` when the step has ended.
    pub async fn now(&self) -> Result<Timestamp> {
        match self.ask(Ask::Now(self.inner.clock.now())).await? {
            Reply::Time(at) => Ok(at),
            _ => Err(mismatch()),
        }
    }

    /// A random number, the same when the agent is run again.
    ///
    /// # Errors
    /// `cancelled` when the step has ended.
    pub async fn random(&self) -> Result<u64> {
        let fresh = uuid_bits(&*self.inner.clock);
        match self.ask(Ask::Random(fresh)).await? {
            Reply::Number(number) => Ok(number),
            _ => Err(mismatch()),
        }
    }

    /// The agents that there are, and what each of them takes.
    #[must_use]
    pub fn team(&self) -> &Team {
        &self.inner.team
    }

    /// Those of these tools that there are, as models see them.
    pub(crate) fn tools(&self, names: &[String]) -> Vec<ToolSpec> {
        self.inner.tools.of(names)
    }

    /// The models that a step may ask.
    #[must_use]
    pub fn model(&self) -> Model<'_> {
        Model(self)
    }

    /// Says how far the step is, in a unit such as `files`; shown at most ten times a second, never recorded.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        self.inner.progress.tell(done, total, unit);
    }

    /// Whether the step is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.is_cancelled()
    }

    /// Waits until the step is to stop. An agent need not look: it is stopped anyway.
    pub async fn cancelled(&self) {
        self.inner.cancelled.cancelled().await;
    }

    async fn ask(&self, ask: Ask) -> Result<Reply> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { step: self.inner.step, ask: Box::new(ask), reply };
        let over = || Error::new(Kind::Cancelled, "agent.ask", "the step has ended");
        self.inner.asks.send(asked).await.map_err(|_| over())?;
        let answer = answer.await.map_err(|_| over())?;
        answer.map_err(|failure| failure.into_error("agent.ask"))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} {})", self.inner.run, self.inner.step)
    }
}

fn mismatch() -> Error {
    Error::internal("agent.ask", "an ask was answered with an answer to another")
}

fn uuid_bits(clock: &dyn Clock) -> u64 {
    // An id's last 62 bits are random; mixing two fills all 64.
    let [a, b] = [RunId::new(clock), RunId::new(clock)].map(|id| {
        let [.., b0, b1, b2, b3, b4, b5, b6, b7] = *id.as_bytes();
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    });
    a ^ b.rotate_left(32)
}
