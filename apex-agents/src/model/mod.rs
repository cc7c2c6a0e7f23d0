//! Models: any provider behind one form of request and answer.
//!
//! A [`Format`] is a provider's wire format without IO.

mod answer;
mod fault;
mod limits;
mod request;

#[cfg(feature = "anthropic")]
mod anthropic;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod draft;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod format;
#[cfg(feature = "gemini")]
mod gemini;
#[cfg(feature = "openai")]
mod openai;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod refusal;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod sse;

pub use answer::{Finish, ModelEvent, ModelResponse, ModelUsage};
pub use fault::{FaultReason, ModelFault};
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
pub use format::{Format, StreamDecoder};
pub use limits::{RateLimit, RateLimits};
pub use request::{
    CacheHint, Effort, Image, Message, ModelRequest, OutputSchema, Part, Reasoning, Role,
    Signature, ToolCall, ToolChoice, ToolResult, ToolSpec,
};
