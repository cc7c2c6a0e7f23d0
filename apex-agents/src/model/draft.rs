//! An answer as far as it has arrived; each format's decoder fills one.

use super::answer::{Finish, ModelEvent, ModelResponse, ModelUsage};
use super::fault::{FaultReason, ModelFault};
use super::request::{Part, Reasoning, Signature, ToolCall};
use apex_core::error::{Error, Result};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Deref;

/// The most that an answer holds in all: far beyond what any model writes.
const MAX_ANSWER: usize = 16 << 20;

/// The most calls in one answer.
const MAX_CALLS: usize = 1_024;

/// Turns a format's events into pieces of an answer.
pub(crate) trait Decode: std::fmt::Debug + Send {
    /// Takes an event's data. Whether it shows that the model is at work: a ping does not.
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<bool>;
}

/// A text of an event's, borrowed from it where nothing in it is escaped: most of what each event repeats is only
/// looked at.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<Text<'_>> for String {
    fn from(text: Text<'_>) -> Self {
        text.0.into_owned()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) provider: String,
    pub(crate) id: Option<String>,
    pub(crate) model: String,
    pub(crate) finish: Option<Finish>,
    pub(crate) usage: Option<ModelUsage>,
    /// Nothing more is to come.
    pub(crate) complete: bool,
    parts: Vec<Part>,
    /// Calls whose arguments are still arriving, by the provider's number.
    open: Vec<(u64, ToolCall)>,
    size: usize,
    calls: usize,
    events: VecDeque<ModelEvent>,
}

impl Draft {
    pub(crate) fn new(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }

    pub(crate) fn next(&mut self) -> Option<ModelEvent> {
        self.events.pop_front()
    }

    pub(crate) fn text(&mut self, piece: impl Into<String>) -> Result<()> {
        let piece = piece.into();
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        if let Some(Part::Text(text)) = self.parts.last_mut() {
            text.push_str(&piece);
        } else {
            self.parts.push(Part::Text(piece.clone()));
        }
        self.events.push_back(ModelEvent::Text(piece));
        Ok(())
    }

    pub(crate) fn reasoning(&mut self, piece: impl Into<String>) -> Result<()> {
        let piece = piece.into();
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        match self.parts.last_mut() {
            Some(Part::Reasoning(reasoning)) if reasoning.signature.is_none() => {
                reasoning.text.push_str(&piece);
            }
            _ => {
                self.parts.push(Part::Reasoning(Reasoning { text: piece.clone(), signature: None }))
            }
        }
        self.events.push_back(ModelEvent::Reasoning(piece));
        Ok(())
    }

    /// Ends the thoughts with what the provider wants to see again.
    pub(crate) fn sign(&mut self, format: &'static str, value: String) -> Result<()> {
        self.grow(value.len())?;
        let signature = Some(Signature { format: format.into(), value });
        match self.parts.last_mut() {
            Some(Part::Reasoning(reasoning)) if reasoning.signature.is_none() => {
                reasoning.signature = signature;
            }
            _ => self.parts.push(Part::Reasoning(Reasoning { text: String::new(), signature })),
        }
        Ok(())
    }

    /// Thoughts of which there is nothing but what the provider wants to see again.
    #[cfg(feature = "anthropic")]
    pub(crate) fn sign_apart(&mut self, format: &'static str, value: String) -> Result<()> {
        self.parts.push(Part::Reasoning(Reasoning::default()));
        self.sign(format, value)
    }

    /// A call whose arguments follow, or a further piece of one.
    #[cfg(any(feature = "openai", feature = "anthropic"))]
    pub(crate) fn call_piece(
        &mut self,
        number: u64,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
    ) -> Result<()> {
        self.grow(arguments.len())?;
        // Some servers number every call 0 and tell them apart by their ids only.
        let known = self.open.iter_mut().rev().find(|(open, call)| {
            *open == number && id.is_none_or(|id| id.is_empty() || id == call.id)
        });
        if let Some((_, call)) = known {
            call.arguments.push_str(arguments);
            return Ok(());
        }
        if self.calls + self.open.len() >= MAX_CALLS {
            return Err(self.fault(FaultReason::Malformed, "it has more calls than 1024"));
        }
        self.open.push((
            number,
            ToolCall {
                id: id.unwrap_or_default().to_owned(),
                name: name.unwrap_or_default().to_owned(),
                arguments: arguments.to_owned(),
                signature: None,
            },
        ));
        Ok(())
    }

    /// The arguments of this call are whole.
    #[cfg(feature = "anthropic")]
    pub(crate) fn close_call(&mut self, number: u64) -> Result<()> {
        match self.open.iter().position(|(open, _)| *open == number) {
            Some(at) => {
                let (_, call) = self.open.remove(at);
                self.call(call)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn close_calls(&mut self) -> Result<()> {
        for (_, call) in std::mem::take(&mut self.open) {
            self.call(call)?;
        }
        Ok(())
    }

    /// A whole call.
    pub(crate) fn call(&mut self, mut call: ToolCall) -> Result<()> {
        self.grow(call.arguments.len())?;
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(self.fault(FaultReason::Malformed, "it has more calls than 1024"));
        }
        if call.id.is_empty() {
            // Results are matched by ids, across the turns of a conversation.
            let answer = self.id.as_deref().unwrap_or("answer");
            call.id = format!("call_{answer}_{}", self.calls);
        }
        self.parts.push(Part::ToolCall(call.clone()));
        self.events.push_back(ModelEvent::ToolCall(call));
        Ok(())
    }

    /// The usage, to be changed.
    #[cfg(feature = "gemini")]
    pub(crate) fn usage_mut(&mut self) -> &mut ModelUsage {
        self.usage.get_or_insert_default()
    }

    /// An error of this provider's, with what was used by then.
    pub(crate) fn fault(&self, reason: FaultReason, words: &str) -> Error {
        ModelFault { usage: self.usage.clone(), ..ModelFault::new(&self.provider, reason) }
            .error(words, None)
    }

    pub(crate) fn malformed(&self, error: &serde_json::Error) -> Error {
        self.fault(FaultReason::Malformed, &error.to_string())
    }

    /// The whole answer, if it is whole.
    pub(crate) fn end(&mut self) -> Result<ModelResponse> {
        let Some(finish) = self.finish.take() else {
            return Err(self.fault(FaultReason::Broken, "it ended before it said why"));
        };
        self.close_calls()?;
        let finish = match finish {
            Finish::Stop if self.calls > 0 => Finish::ToolCalls,
            finish => finish,
        };
        Ok(ModelResponse {
            provider: self.provider.clone(),
            id: self.id.take(),
            model: std::mem::take(&mut self.model),
            parts: std::mem::take(&mut self.parts),
            finish,
            usage: self.usage.take(),
            ..ModelResponse::default()
        })
    }

    fn grow(&mut self, more: usize) -> Result<()> {
        self.size += more;
        if self.size > MAX_ANSWER {
            return Err(self.fault(FaultReason::Malformed, "it is longer than 16 MiB"));
        }
        Ok(())
    }
}
