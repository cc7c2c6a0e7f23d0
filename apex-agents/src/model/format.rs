//! The providers' wire formats, without IO: requests to JSON, responses and streams back.

use super::answer::{ModelEvent, ModelResponse};
use super::draft::{Decode, Draft};
use super::fault::FaultReason;
use super::refusal;
use super::request::ModelRequest;
use super::sse::{SseDecoder, SseFault};
use apex_core::error::{Error, Result};
use serde_json::Value;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// OpenAI's chat completions, which most other servers imitate.
    #[cfg(feature = "openai")]
    OpenAiChat,
    /// OpenAI's responses.
    #[cfg(feature = "openai")]
    OpenAiResponses,
    /// Anthropic's messages.
    #[cfg(feature = "anthropic")]
    Anthropic,
    /// Google's `generateContent`.
    #[cfg(feature = "gemini")]
    Gemini,
}

impl Format {
    /// The body of a request. In Gemini's format the model stands in the address instead.
    ///
    /// # Errors
    /// `bad_request` where the format cannot say what is asked.
    pub fn encode(self, model: &str, request: &ModelRequest, stream: bool) -> Result<Value> {
        match self {
            #[cfg(feature = "openai")]
            Self::OpenAiChat => Ok(super::openai::chat::encode(model, request, stream)),
            #[cfg(feature = "openai")]
            Self::OpenAiResponses => Ok(super::openai::responses::encode(model, request, stream)),
            #[cfg(feature = "anthropic")]
            Self::Anthropic => super::anthropic::encode(model, request, stream),
            #[cfg(feature = "gemini")]
            Self::Gemini => {
                // The address says whether to stream.
                let _ = stream;
                super::gemini::encode(model, request)
            }
        }
    }

    /// Reads a response that is not streamed; `provider` is whom errors name.
    ///
    /// # Errors
    /// What the provider says; its fault is found by [`ModelFault::of`](super::ModelFault::of).
    pub fn decode(self, provider: &str, status: u16, body: &[u8]) -> Result<ModelResponse> {
        if !(200..300).contains(&status) {
            let body = serde_json::from_slice(body)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body)));
            return Err(refusal::read(provider, status, &body));
        }
        let mut draft = Draft::new(provider);
        let body = std::str::from_utf8(body)
            .map_err(|_| draft.fault(FaultReason::Malformed, "it is not UTF-8"))?;
        match self {
            #[cfg(feature = "openai")]
            Self::OpenAiChat => super::openai::chat::whole(body, &mut draft)?,
            #[cfg(feature = "openai")]
            Self::OpenAiResponses => super::openai::responses::whole(body, &mut draft)?,
            #[cfg(feature = "anthropic")]
            Self::Anthropic => super::anthropic::whole(body, &mut draft)?,
            #[cfg(feature = "gemini")]
            Self::Gemini => super::gemini::whole(body, &mut draft)?,
        }
        draft.end()
    }

    /// Reads a stream; `provider` is whom errors name.
    #[must_use]
    pub fn decoder(self, provider: &str) -> StreamDecoder {
        let format: Box<dyn Decode> = match self {
            #[cfg(feature = "openai")]
            Self::OpenAiChat => Box::new(super::openai::chat::Stream),
            #[cfg(feature = "openai")]
            Self::OpenAiResponses => Box::new(super::openai::responses::Stream),
            #[cfg(feature = "anthropic")]
            Self::Anthropic => Box::new(super::anthropic::Stream::default()),
            #[cfg(feature = "gemini")]
            Self::Gemini => Box::new(super::gemini::Stream::default()),
        };
        StreamDecoder { sse: SseDecoder::default(), format, draft: Draft::new(provider) }
    }
}

/// Reads a streamed answer from bytes in any slices: [`feed`](Self::feed) them, take what they complete from
/// [`next`](Self::next), and [`finish`](Self::finish) at their end.
#[derive(Debug)]
pub struct StreamDecoder {
    sse: SseDecoder,
    format: Box<dyn Decode>,
    draft: Draft,
}

impl StreamDecoder {
    /// Takes the next bytes. Whether they show that the model is at work: pings do not.
    ///
    /// # Errors
    /// What the provider says in the middle of the stream, or that this is not its format. The pieces before it are
    /// left for [`next`](Self::next); the decoder is of no further use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let Self { sse, format, draft } = self;
        let mut at_work = false;
        let fed = sse.feed(bytes, |data| {
            if !draft.complete {
                at_work |= format.event(data, draft).map_err(Failed::Event)?;
            }
            Ok(())
        });
        match fed {
            Ok(()) => Ok(at_work),
            Err(Failed::Event(error)) => Err(error),
            Err(Failed::Stream(fault)) => Err(draft.fault(FaultReason::Malformed, fault.words())),
        }
    }

    /// The next piece that is complete; never [`ModelEvent::Done`].
    #[allow(clippy::should_implement_trait, reason = "more may come after nothing is there")]
    pub fn next(&mut self) -> Option<ModelEvent> {
        self.draft.next()
    }

    /// Whether the provider has said that nothing more is to come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.draft.complete
    }

    /// The whole answer, at the end of the bytes. Pieces that only the end completes are left for
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// The stream broke off.
    pub fn finish(&mut self) -> Result<ModelResponse> {
        self.draft.end()
    }

    /// An error of the connection's, with what was used by then.
    pub(crate) fn fault(&self, reason: FaultReason, words: &str) -> Error {
        self.draft.fault(reason, words)
    }
}

enum Failed {
    Event(Error),
    Stream(SseFault),
}

impl From<SseFault> for Failed {
    fn from(fault: SseFault) -> Self {
        Self::Stream(fault)
    }
}
