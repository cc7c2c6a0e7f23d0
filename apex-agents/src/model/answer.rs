//! What a model answers, in one form for every provider.

use super::limits::RateLimits;
use super::request::{Message, Part, Role, ToolCall};
use crate::cost::price::Tokens;
use serde::{Deserialize, Serialize};

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelResponse {
    /// The provider.
    pub provider: String,
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// The model that answered, as the provider names it; often more exact than what was asked for.
    pub model: String,
    /// What it said, in order.
    pub parts: Vec<Part>,
    /// Why it stopped.
    pub finish: Finish,
    /// What is billed; `None` where the provider did not say.
    pub usage: Option<ModelUsage>,
    /// The id under which the provider's support finds the request.
    pub request: Option<String>,
    /// What is left of the key's limits, as far as the provider said; no part of what is kept.
    #[serde(skip)]
    pub limits: RateLimits,
}

impl ModelResponse {
    /// All text, without thoughts.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The calls that the model wants made.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// The answer as a message, for the next request.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message { role: Role::Assistant, parts: self.parts }
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done.
    #[default]
    Stop,
    /// It wants calls made.
    ToolCalls,
    /// It ran out of tokens; the answer is cut off.
    Length,
    /// It, or a filter, declined.
    Refused,
    /// The provider paused a long turn; send the conversation again to go on.
    Paused,
    /// Another reason, in the provider's word.
    Other(String),
}

/// What an answer used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelUsage {
    /// The tokens: cached and cache-writing ones are part of the input, reasoning is part of the output.
    pub tokens: Tokens,
    /// The service tier that was billed, where the provider names one.
    pub tier: Option<String>,
    /// Whether the counts contradict each other and are the best reading of them.
    pub estimated: bool,
}

/// A piece of an answer on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// The next piece of the text.
    Text(String),
    /// The next piece of the visible thoughts.
    Reasoning(String),
    /// A call, once its arguments are whole.
    ToolCall(ToolCall),
    /// The end: the whole answer. Nothing follows.
    Done(Box<ModelResponse>),
}
