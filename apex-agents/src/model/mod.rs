//! Models: any provider behind one form of request and answer.
//!
//! A [`ModelProvider`] answers a [`ModelRequest`], whole or as a [`ModelStream`]; [`Offline`] is the one without a
//! model. The features `openai`, `anthropic` and `gemini` bring a `Format` each (a wire format without IO) and the
//! `HttpProvider` that speaks it. A [`Chain`] puts several models in the place of one and records each attempt by a
//! [`Meter`] in a [`UsageSink`].

mod answer;
mod chain;
mod fault;
mod limits;
mod metering;
mod offline;
mod request;
mod stream;

#[cfg(feature = "anthropic")]
mod anthropic;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod draft;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod format;
#[cfg(feature = "gemini")]
mod gemini;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod http;
#[cfg(feature = "openai")]
mod openai;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod refusal;
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
mod sse;

pub use answer::{Finish, ModelEvent, ModelResponse, ModelUsage};
pub use chain::{Abilities, Chain, ChainAnswer, ChainEvent, ChainLink, ChainOptions, ChainStream};
pub use fault::{FaultReason, ModelFault};
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
pub use format::{Format, StreamDecoder};
#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
pub use http::{HttpOptions, HttpProvider};
pub use limits::{RateLimit, RateLimits};
pub use metering::{Asker, MemoryUsage, Meter, UsageSink};
pub use offline::Offline;
pub use request::{
    CacheHint, Effort, Image, Message, ModelRequest, OutputSchema, Part, Reasoning, Role,
    Signature, ToolCall, ToolChoice, ToolResult, ToolSpec,
};
pub use stream::{ModelStream, Writer};

use apex_core::error::Result;
use apex_core::health::CertificateSource;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// A provider of models.
///
/// Errors carry a [`ModelFault`] by which a caller can decide what next; see [`ModelFault::of`].
#[async_trait]
pub trait ModelProvider: fmt::Debug + Send + Sync {
    /// Its name, under which prices are looked up.
    fn name(&self) -> &str;

    /// The certificate of the server that it asks, to be watched; `None` where there is no TLS.
    fn certificate(&self) -> Option<Arc<dyn CertificateSource>> {
        None
    }

    /// Asks a model for an answer in one piece.
    ///
    /// # Errors
    /// There is no whole answer.
    async fn complete(&self, model: &str, request: &ModelRequest) -> Result<ModelResponse>;

    /// Asks a model for an answer piece by piece. Returns when the answer begins.
    ///
    /// # Errors
    /// No answer began; what breaks one later comes from the stream.
    async fn stream(&self, model: &str, request: &ModelRequest) -> Result<ModelStream>;
}
