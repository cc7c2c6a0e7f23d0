//! OpenAI's two wire formats.

pub(super) mod chat;
pub(super) mod responses;

use super::answer::ModelUsage;
use super::request::Image;
use crate::cost::price::Tokens;
use base64::Engine as _;
use serde::Deserialize;

/// Usage in either format: they differ in the names only.
#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(alias = "prompt_tokens", default)]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens", default)]
    output_tokens: Option<u64>,
    #[serde(alias = "prompt_tokens_details", default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(alias = "completion_tokens_details", default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Cached tokens are part of the input and reasoning is part of the output, as they are with us.
    fn into_model(self, tier: Option<String>) -> ModelUsage {
        let input = self.input_tokens_details.unwrap_or_default();
        let output = self.output_tokens_details.unwrap_or_default();
        ModelUsage {
            tokens: Tokens {
                input: self.input_tokens.unwrap_or(0),
                cached: input.cached_tokens.unwrap_or(0),
                cache_write: input.cache_write_tokens.unwrap_or(0),
                output: self.output_tokens.unwrap_or(0),
                reasoning: output.reasoning_tokens.unwrap_or(0),
            },
            tier,
            estimated: false,
        }
    }
}

fn image_url(image: &Image) -> String {
    match image {
        Image::Url(url) => url.clone(),
        Image::Inline { media_type, data } => format!(
            "data:{media_type};base64,{}",
            base64::engine::general_purpose::STANDARD.encode(data)
        ),
    }
}
