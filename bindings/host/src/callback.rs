use crate::{AgentWork, ToolWork};
use async_trait::async_trait;
use netra_apex::core::error::Result;
use serde_json::Value;
use std::fmt;

/// A function of the host's: JSON in, JSON out.
///
/// The work around it may end first (it was cancelled, or took too long): then the future is dropped, and the binding
/// tells the host's function to stop in the way of its language. An exception becomes the error, with its message.
#[async_trait]
pub trait Callback: fmt::Debug + Send + Sync + 'static {
    /// Calls it.
    ///
    /// # Errors
    /// Whatever the function could not do; see [`Problem::of_host`](crate::Problem::of_host).
    async fn call(&self, input: Value, call: Call) -> Result<Value>;
}

/// On whose behalf a function of the host's is called.
#[derive(Debug, Clone)]
pub enum Call {
    /// A step of an agent's.
    Agent(AgentWork),
    /// A call of a tool's.
    Tool(ToolWork),
    /// Nobody's run: a login at the door, say.
    Plain,
}

impl Call {
    /// The id of the message whose run it is, by which the host knows what it said the message with; see
    /// [`Host::start`](crate::Host::start).
    #[must_use]
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Agent(work) => work.request(),
            Self::Tool(work) => work.request(),
            Self::Plain => None,
        }
    }
}
