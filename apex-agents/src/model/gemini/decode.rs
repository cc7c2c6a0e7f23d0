use super::FORMAT;
use crate::cost::price::Tokens;
use crate::model::answer::Finish;
use crate::model::draft::{Decode, Draft, Text};
use crate::model::refusal;
use crate::model::request::{Signature, ToolCall};
use apex_core::error::Result;
use serde::Deserialize;
use serde_json::Value;

/// A chunk of a stream, and a whole response: they are the same.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(default)]
    candidates: Option<Vec<Candidate>>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
    #[serde(borrow, default)]
    model_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    response_id: Option<Text<'a>>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Option<Vec<Part>>,
}

/// Parts of tools that run at the provider are none of ours.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    #[serde(default)]
    thought_signature: Option<String>,
    #[serde(default)]
    function_call: Option<FunctionCall>,
}

#[derive(Debug, Deserialize)]
struct FunctionCall {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    args: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    prompt_token_count: Option<u64>,
    #[serde(default)]
    cached_content_token_count: Option<u64>,
    #[serde(default)]
    candidates_token_count: Option<u64>,
    #[serde(default)]
    thoughts_token_count: Option<u64>,
    #[serde(default)]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(default)]
    service_tier: Option<String>,
}

/// The counts of the chunks so far: the last that is there of each.
#[derive(Debug, Default)]
struct Counts {
    prompt: u64,
    cached: u64,
    candidates: u64,
    thoughts: u64,
    tools: u64,
    /// A count went down: with tools of the provider's they are not cumulative, and what is billed is not known.
    fell: bool,
}

impl Counts {
    fn take(&mut self, usage: Usage, draft: &mut Draft) {
        let Self { prompt, cached, candidates, thoughts, tools, fell } = self;
        // The prompt's count is a first guess until the last chunk, and may come down.
        *prompt = usage.prompt_token_count.unwrap_or(*prompt);
        for (mine, later) in [
            (cached, usage.cached_content_token_count),
            (candidates, usage.candidates_token_count),
            (thoughts, usage.thoughts_token_count),
            (tools, usage.tool_use_prompt_token_count),
        ] {
            if let Some(later) = later {
                *fell |= later < *mine;
                *mine = later;
            }
        }
        let model = draft.usage_mut();
        // What is billed as output is what is seen and what was thought.
        model.tokens = Tokens {
            input: self.prompt.saturating_add(self.tools),
            cached: self.cached,
            cache_write: 0,
            output: self.candidates.saturating_add(self.thoughts),
            reasoning: self.thoughts,
        };
        model.tier = usage.service_tier.or(model.tier.take());
        model.estimated = self.fell;
    }
}

pub(crate) fn whole(body: &str, draft: &mut Draft) -> Result<()> {
    Stream::default().event(body, draft).map(drop)
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    counts: Counts,
}

impl Decode for Stream {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<bool> {
        let chunk: Chunk<'_> =
            serde_json::from_str(data).map_err(|error| draft.malformed(&error))?;
        if let Some(error) = chunk.error {
            return Err(refusal::in_stream(draft, &error));
        }
        if let Some(id) = chunk.response_id {
            draft.id.get_or_insert_with(|| id.into());
        }
        if let Some(model) = chunk.model_version.filter(|model| **model != draft.model) {
            draft.model = model.into();
        }
        if let Some(usage) = chunk.usage_metadata {
            self.counts.take(usage, draft);
        }
        if chunk.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            draft.finish = Some(Finish::Refused);
        }
        for candidate in chunk.candidates.into_iter().flatten() {
            if candidate.index == 0 {
                take(candidate, draft)?;
            }
        }
        Ok(true)
    }
}

fn take(candidate: Candidate, draft: &mut Draft) -> Result<()> {
    let parts = candidate.content.and_then(|content| content.parts);
    for part in parts.into_iter().flatten() {
        let text = part.text.unwrap_or_default();
        if let Some(call) = part.function_call {
            draft.call(ToolCall {
                id: call.id.unwrap_or_default(),
                name: call.name.unwrap_or_default(),
                arguments: call.args.map(|args| args.to_string()).unwrap_or_default(),
                signature: part
                    .thought_signature
                    .map(|value| Signature { format: FORMAT.into(), value }),
            })?;
            continue;
        }
        if part.thought {
            draft.reasoning(text)?;
        } else {
            draft.text(text)?;
        }
        if let Some(signature) = part.thought_signature {
            draft.sign(FORMAT, signature)?;
        }
    }
    if let Some(reason) = candidate.finish_reason {
        draft.finish = Some(match reason.as_str() {
            "STOP" | "FUNCTION_CALL" => Finish::Stop,
            "MAX_TOKENS" => Finish::Length,
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE"
            | "IMAGE_SAFETY" => Finish::Refused,
            _ => Finish::Other(reason),
        });
    }
    Ok(())
}
