//! What a model is asked, in one form for every provider.

use apex_core::error::{Error, Kind, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

/// What a picture counts as, and an answer without a limit.
const IMAGE_TOKENS: u64 = 2_000;
const MOST_OUTPUT_TOKENS: u32 = 16_384;

/// A request to a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRequest {
    /// The instructions above the conversation.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<ToolSpec>,
    /// Whether it must call one.
    pub tool_choice: ToolChoice,
    /// The JSON Schema that the answer must fit.
    pub output: Option<OutputSchema>,
    /// How hard a model that reasons should think; others refuse it.
    pub effort: Option<Effort>,
    /// The most tokens to answer with, reasoning included.
    pub max_output_tokens: Option<u32>,
    /// Between 0 (always the likeliest word) and 2.
    pub temperature: Option<f64>,
    /// Whether the provider should keep the request's beginning for the next one.
    pub cache: Option<CacheHint>,
}

impl ModelRequest {
    /// By which it is known again: a hexadecimal digest of all that it says, but for the
    /// tools: those of servers come and go while a run waits, and it goes on all the same.
    pub(crate) fn digest(&self) -> Result<String> {
        let told = Self { tools: Vec::new(), ..self.clone() };
        let json = serde_json::to_vec(&told).map_err(|error| {
            Error::new(Kind::BadArguments, "model.request", "the request cannot be encoded")
                .with_source(error)
        })?;
        let digest = Sha256::digest(json);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// How many tokens it sends and may get at most, estimated: a token of three bytes is short in every language, and
    /// what the answer is not limited to is taken as much.
    pub(crate) fn bound(&self) -> (u64, u64) {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        let images = parts.filter(|part| matches!(part, Part::Image(_))).count() as u64;
        let bytes = serde_json::to_vec(self).map_or(0, |json| json.len() as u64);
        let sent = (bytes / 3).saturating_add(images.saturating_mul(IMAGE_TOKENS));
        (sent, self.max_output_tokens.unwrap_or(MOST_OUTPUT_TOKENS).into())
    }

    /// A request with one message of the user's.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self { messages: vec![Message::user(text)], ..Self::default() }
    }
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one who asks; results of tools come from here too.
    User,
    /// The model.
    Assistant,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What it holds, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A text of the user's.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, parts: vec![Part::Text(text.into())] }
    }

    /// The results of tools.
    #[must_use]
    pub fn results(results: impl IntoIterator<Item = ToolResult>) -> Self {
        Self { role: Role::User, parts: results.into_iter().map(Part::ToolResult).collect() }
    }
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture, from the user only.
    #[serde(skip_deserializing)]
    Image(Image),
    /// What the model thought before it answered.
    Reasoning(Reasoning),
    /// A call that the model wants made.
    ToolCall(ToolCall),
    /// What a call gave.
    ToolResult(ToolResult),
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// By its bytes.
    Inline {
        /// Such as `image/png`.
        media_type: String,
        /// The file.
        #[serde(serialize_with = "digest")]
        data: Bytes,
    },
    /// By an address that the provider fetches.
    Url(String),
}

/// A picture as it stands in a request's digest.
fn digest<S: Serializer>(data: &Bytes, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:x?}", Sha256::digest(data).as_slice()))
}

/// A model's thoughts, as far as the provider shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reasoning {
    /// The visible part; empty where the provider keeps it to itself.
    pub text: String,
    /// What the provider wants to see again, unchanged.
    pub signature: Option<Signature>,
}

/// A provider's own token for something that it said. Only that provider is shown it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The wire format that it belongs to.
    pub format: Cow<'static, str>,
    /// The token.
    pub value: String,
}

#[cfg(any(feature = "anthropic", feature = "gemini", feature = "openai"))]
impl Signature {
    /// The token, if it belongs to this format.
    pub(crate) fn of<'a>(signature: Option<&'a Self>, format: &str) -> Option<&'a str> {
        signature
            .filter(|signature| signature.format == format)
            .map(|signature| signature.value.as_str())
    }
}

/// A call that a model wants made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ToolCall {
    /// By which its result is known again.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as the model wrote them: meant to be a JSON object, not always one.
    pub arguments: String,
    /// What the provider wants to see again with the call.
    pub signature: Option<Signature>,
}

impl ToolCall {
    /// The arguments as JSON; no text at all is an empty object.
    ///
    /// # Errors
    /// `bad_arguments` when the model wrote something else.
    pub fn arguments(&self) -> Result<Value> {
        if self.arguments.trim().is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_str(&self.arguments).map_err(|error| {
            Error::new(Kind::BadArguments, "model.arguments", "the model's arguments are not JSON")
                .with("tool", &self.name)
                .with_source(error)
        })
    }
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The call's tool.
    pub name: String,
    /// The result, as the model reads it.
    pub content: String,
    /// Whether the call failed.
    pub failed: bool,
}

/// A tool as a model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub arguments: Value,
}

/// Whether a model must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Named(String),
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSchema {
    /// A name for it, of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// The JSON Schema; OpenAI and Anthropic want each property required and no further ones allowed.
    pub schema: Value,
}

/// How hard a model should think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// Long.
    High,
}

impl Effort {
    #[cfg(any(feature = "openai", feature = "gemini"))]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The tokens for thinking, where a provider wants a number.
    #[cfg(any(feature = "anthropic", feature = "gemini"))]
    pub(crate) const fn budget(self) -> u32 {
        match self {
            Self::Low => 1_024,
            Self::Medium => 8_192,
            Self::High => 24_576,
        }
    }
}

/// How a provider's prompt cache is used. OpenAI and Gemini cache by themselves; Anthropic caches what is marked, and
/// bills the writing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheHint {
    /// What requests with the same beginning have in common (OpenAI routes them to the same cache by it).
    pub key: Option<String>,
    /// Whether to keep it for an hour rather than five minutes (Anthropic).
    pub long: bool,
}
