//! What a host's agent or tool may touch while it works, as handles whose answers are JSON.

use netra_apex::agents::model::ModelRequest;
use netra_apex::agents::{Context, ToolContext};
use netra_apex::core::error::{Error, Kind, Result, correlation};
use netra_apex::core::principal::Principal;
use serde::Serialize;
use serde_json::Value;
use std::io::Read as _;
use std::str::FromStr;
use std::sync::Arc;

/// A step of an agent of the host's.
#[derive(Debug, Clone)]
pub struct AgentWork {
    context: Context,
    request: Option<Arc<str>>,
}

/// A call of a tool of the host's.
#[derive(Debug, Clone)]
pub struct ToolWork {
    context: ToolContext,
    request: Option<Arc<str>>,
}

/// What a step of an agent and a call of a tool have in common.
macro_rules! common {
    ($($work:ident of $context:ident),*) => {$(
        impl $work {
            pub(crate) fn new(context: $context) -> Self {
                Self { context, request: request() }
            }

            /// The id of the message that began the run, on the node that works on it.
            #[must_use]
            pub fn request(&self) -> Option<&str> {
                self.request.as_deref()
            }

            /// In whose name the work is done.
            #[must_use]
            pub fn principal(&self) -> &Principal {
                self.context.principal()
            }

            /// The run's id.
            #[must_use]
            pub fn run(&self) -> String {
                self.context.run().to_string()
            }

            #[doc = concat!("As [`", stringify!($context), "::progress`].")]
            pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
                self.context.progress(done, total, unit);
            }

            #[doc = concat!("As [`", stringify!($context), "::is_cancelled`].")]
            #[must_use]
            pub fn is_cancelled(&self) -> bool {
                self.context.is_cancelled()
            }
        }
    )*};
}

common!(AgentWork of Context, ToolWork of ToolContext);

impl AgentWork {
    /// The conversation's id.
    #[must_use]
    pub fn thread(&self) -> String {
        self.context.thread().to_string()
    }

    /// The step, such as `s1`.
    #[must_use]
    pub fn step(&self) -> String {
        self.context.step().to_string()
    }

    /// As [`Context::think`].
    ///
    /// # Errors
    /// As there.
    pub async fn think(&self, note: String) -> Result<()> {
        self.context.think(note).await
    }

    /// As [`Context::degraded`].
    ///
    /// # Errors
    /// As there.
    pub async fn degraded(&self, note: String) -> Result<()> {
        self.context.degraded(note).await
    }

    /// As [`Context::call`].
    ///
    /// # Errors
    /// As there.
    pub async fn call(&self, tool: String, arguments: Value) -> Result<Value> {
        self.context.call(tool, arguments).await
    }

    /// The time in milliseconds since 1970, as [`Context::now`].
    ///
    /// # Errors
    /// As there.
    pub async fn now(&self) -> Result<i64> {
        self.context.now().await.map(|at| at.as_millis())
    }

    /// As [`Context::random`].
    ///
    /// # Errors
    /// As there.
    pub async fn random(&self) -> Result<u64> {
        self.context.random().await
    }

    /// Asks a model; with `show`, the user sees the answer as it comes. The question is a [`ModelRequest`] as JSON; the
    /// answer a `ModelResponse`, with its `text` beside its parts.
    ///
    /// # Errors
    /// `bad_arguments` for what is no question; as `Model::ask`.
    pub async fn ask(&self, question: Value, show: bool) -> Result<Value> {
        let question: ModelRequest = serde_json::from_value(question).map_err(|error| {
            let told = format!("this is no question to a model: {error}");
            Error::new(Kind::BadArguments, "model.request", told)
        })?;
        let model = self.context.model();
        let answer = match show {
            true => model.stream(question).await?,
            false => model.ask(question).await?,
        };
        let text = answer.text();
        let mut answer = json(&answer)?;
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("text".to_owned(), text.into());
        }
        Ok(answer)
    }

    /// The plan whose last step is this agent's, as `Team::plan`; `None` where there is none.
    ///
    /// # Errors
    /// `internal`.
    pub fn plan(&self, goal: &str, without: &[&str]) -> Result<Option<Value>> {
        self.context.team().plan(goal, without).map(|plan| json(&plan)).transpose()
    }
}

impl ToolWork {
    /// The call, such as `c1`.
    #[must_use]
    pub fn call(&self) -> String {
        self.context.call().to_string()
    }

    /// As [`ToolContext::idempotency_key`].
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        self.context.idempotency_key()
    }

    /// As [`ToolContext::summarise`].
    pub fn summarise(&self, sentence: String) {
        self.context.summarise(sentence);
    }

    /// What is known of one of the user's files.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn file(&self, file: &str) -> Result<Value> {
        json(&self.context.file(id(file, "file")?).await?)
    }

    /// The content of one of the user's files, up to `most` bytes.
    ///
    /// # Errors
    /// `not_found`; `too_large` for a longer one; `storage_failed`.
    pub async fn read_file(&self, file: &str, most: u64) -> Result<Vec<u8>> {
        let content = self.context.open(id(file, "file")?).await?;
        self.context.blocking(move |_| read(content, most)).await
    }

    /// As [`ToolContext::put_artifact`].
    ///
    /// # Errors
    /// As there.
    pub async fn put_artifact(
        &self,
        name: &str,
        media_type: &str,
        content: Vec<u8>,
    ) -> Result<Value> {
        json(&self.context.put_artifact(name, media_type, content).await?)
    }

    /// As [`ToolContext::artifact`].
    ///
    /// # Errors
    /// As there.
    pub async fn artifact(&self, artifact: &str) -> Result<Vec<u8>> {
        self.context.artifact(id(artifact, "artifact")?).await.map(Vec::from)
    }

    /// As [`ToolContext::remember`].
    ///
    /// # Errors
    /// As there.
    pub async fn remember(&self, name: &str, text: &str) -> Result<()> {
        self.context.remember(name, text).await
    }

    /// As [`ToolContext::recall`].
    ///
    /// # Errors
    /// As there.
    pub async fn recall(&self) -> Result<Value> {
        json(&self.context.recall().await?)
    }

    /// As [`ToolContext::forget`].
    ///
    /// # Errors
    /// As there.
    pub async fn forget(&self, name: &str) -> Result<()> {
        self.context.forget(name).await
    }
}

/// What is read, up to `most` bytes.
pub(crate) fn read(content: impl std::io::Read, most: u64) -> Result<Vec<u8>> {
    const OPERATION: &str = "file.read";
    let mut bytes = Vec::new();
    content.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| {
        Error::new(Kind::Storage, OPERATION, "the file cannot be read").with_source(error)
    })?;
    if bytes.len() as u64 > most {
        let long = "the file is longer than what is to be read of it";
        return Err(Error::new(Kind::TooLarge, OPERATION, long).with("limit", most));
    }
    Ok(bytes)
}

/// An id as text; what is none names nothing.
pub(crate) fn id<T: FromStr>(text: &str, what: &'static str) -> Result<T> {
    text.parse().map_err(|_| Error::not_found("host.id", what))
}

pub(crate) fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| {
        Error::internal("host.json", "a value could not be encoded").with_source(error)
    })
}

/// The message whose run this task works on: a run's work goes under its message's id.
fn request() -> Option<Arc<str>> {
    correlation::current().map(|id| id.to_string().into())
}
