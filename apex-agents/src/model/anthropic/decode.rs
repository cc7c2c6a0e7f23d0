use super::{FORMAT, REDACTED};
use crate::cost::price::Tokens;
use crate::model::answer::{Finish, ModelUsage};
use crate::model::draft::{Decode, Draft, Text};
use crate::model::refusal;
use crate::model::request::ToolCall;
use apex_core::error::Result;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    content: Option<Vec<Block>>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
}

/// A block of content. Those of tools that run at the provider are none of ours, and new kinds come without notice.
#[derive(Debug, Deserialize)]
struct Block {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Value>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    message: Option<Response>,
    #[serde(default)]
    content_block: Option<Block>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Text<'a>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Usage {
    #[serde(flatten)]
    last: Counts,
    #[serde(default)]
    service_tier: Option<String>,
    /// What was sampled on the way, each billed: the counts beside it hold the last answer only.
    #[serde(default)]
    iterations: Option<Vec<Iteration>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Iteration {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(flatten)]
    usage: Counts,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Counts {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

impl Counts {
    /// Input counts neither reads nor writes of the cache there; with us it counts all.
    fn tokens(&self) -> Tokens {
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write = self.cache_creation_input_tokens.unwrap_or(0);
        let fresh = self.input_tokens.unwrap_or(0);
        Tokens {
            input: fresh.saturating_add(cached).saturating_add(cache_write),
            cached,
            cache_write,
            output: self.output_tokens.unwrap_or(0),
            reasoning: 0,
        }
    }
}

impl Usage {
    /// Counts are cumulative: the last one that is there holds.
    fn update(&mut self, later: Self) {
        let Counts {
            input_tokens,
            cache_creation_input_tokens,
            cache_read_input_tokens,
            output_tokens,
        } = later.last;
        let last = &mut self.last;
        for (mine, newer) in [
            (&mut last.input_tokens, input_tokens),
            (&mut last.cache_creation_input_tokens, cache_creation_input_tokens),
            (&mut last.cache_read_input_tokens, cache_read_input_tokens),
            (&mut last.output_tokens, output_tokens),
        ] {
            *mine = newer.or(*mine);
        }
        self.service_tier = later.service_tier.or(self.service_tier.take());
        self.iterations = later.iterations.or(self.iterations.take());
    }

    fn model(&self) -> ModelUsage {
        let iterations = self.iterations.as_deref().unwrap_or_default();
        let parts = iterations.iter().map(|part| part.usage.tokens());
        let tokens = if iterations.is_empty() {
            self.last.tokens()
        } else {
            parts.fold(Tokens::default(), sum)
        };
        ModelUsage {
            tokens,
            tier: self.service_tier.clone(),
            // Another model's part has another price.
            estimated: iterations
                .iter()
                .any(|part| !matches!(part.kind.as_str(), "message" | "compaction")),
        }
    }
}

fn sum(a: Tokens, b: Tokens) -> Tokens {
    Tokens {
        input: a.input.saturating_add(b.input),
        cached: a.cached.saturating_add(b.cached),
        cache_write: a.cache_write.saturating_add(b.cache_write),
        output: a.output.saturating_add(b.output),
        reasoning: a.reasoning.saturating_add(b.reasoning),
    }
}

pub(crate) fn whole(body: &str, draft: &mut Draft) -> Result<()> {
    let response: Response = serde_json::from_str(body).map_err(|error| draft.malformed(&error))?;
    draft.id = response.id;
    draft.model = response.model.unwrap_or_default();
    draft.usage = response.usage.map(|usage| usage.model());
    for block in response.content.into_iter().flatten() {
        match block.kind.as_str() {
            "text" => draft.text(block.text.unwrap_or_default())?,
            "thinking" => {
                draft.reasoning(block.thinking.unwrap_or_default())?;
                if let Some(signature) = block.signature.filter(|s| !s.is_empty()) {
                    draft.sign(FORMAT, signature)?;
                }
            }
            "redacted_thinking" => redacted(block, draft)?,
            "tool_use" => draft.call(ToolCall {
                id: block.id.unwrap_or_default(),
                name: block.name.unwrap_or_default(),
                arguments: block.input.map(|input| input.to_string()).unwrap_or_default(),
                signature: None,
            })?,
            _ => {}
        }
    }
    draft.finish = response.stop_reason.map(finish);
    Ok(())
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    usage: Usage,
    /// The blocks under way that are calls of ours.
    calls: Vec<u64>,
    signature: String,
}

impl Decode for Stream {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<bool> {
        let event: Event<'_> =
            serde_json::from_str(data).map_err(|error| draft.malformed(&error))?;
        match &*event.kind {
            "ping" => return Ok(false),
            "error" => {
                let error = event.error.unwrap_or_default();
                return Err(refusal::in_stream(draft, &error));
            }
            "message_start" => {
                if let Some(message) = event.message {
                    draft.id = message.id;
                    draft.model = message.model.unwrap_or_default();
                    self.use_up(message.usage, draft);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.begin(event.index, block, draft)?;
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.delta(event.index, delta, draft)?;
                }
            }
            "content_block_stop" => self.stop(event.index, draft)?,
            "message_delta" => {
                let reason = event.delta.and_then(|delta| delta.stop_reason);
                draft.finish = reason.map(finish).or(draft.finish.take());
                self.use_up(event.usage, draft);
            }
            "message_stop" => draft.complete = true,
            _ => {}
        }
        Ok(true)
    }
}

impl Stream {
    fn use_up(&mut self, usage: Option<Usage>, draft: &mut Draft) {
        if let Some(usage) = usage {
            self.usage.update(usage);
            draft.usage = Some(self.usage.model());
        }
    }

    fn begin(&mut self, index: u64, block: Block, draft: &mut Draft) -> Result<()> {
        match block.kind.as_str() {
            "text" => draft.text(block.text.unwrap_or_default()),
            "thinking" => draft.reasoning(block.thinking.unwrap_or_default()),
            "redacted_thinking" => redacted(block, draft),
            "tool_use" => {
                // The input is empty here and follows in pieces, unless all of it is here.
                let input = block.input.as_ref().and_then(Value::as_object);
                let input = input.filter(|input| !input.is_empty());
                let arguments = input.map(|_| block.input.clone().unwrap_or_default().to_string());
                self.calls.push(index);
                let (id, name) = (block.id.as_deref(), block.name.as_deref());
                draft.call_piece(index, id, name, &arguments.unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    fn delta(&mut self, index: u64, delta: Delta<'_>, draft: &mut Draft) -> Result<()> {
        match &*delta.kind {
            "text_delta" => draft.text(delta.text.unwrap_or_default()),
            "thinking_delta" => draft.reasoning(delta.thinking.unwrap_or_default()),
            "signature_delta" => {
                self.signature = delta.signature.unwrap_or_default();
                Ok(())
            }
            "input_json_delta" if self.calls.contains(&index) => {
                draft.call_piece(index, None, None, &delta.partial_json.unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    fn stop(&mut self, index: u64, draft: &mut Draft) -> Result<()> {
        self.calls.retain(|call| *call != index);
        let signature = std::mem::take(&mut self.signature);
        if !signature.is_empty() {
            draft.sign(FORMAT, signature)?;
        }
        draft.close_call(index)
    }
}

fn redacted(block: Block, draft: &mut Draft) -> Result<()> {
    let data = block.data.unwrap_or_default();
    draft.sign_apart(FORMAT, format!("{REDACTED}{data}"))
}

fn finish(reason: String) -> Finish {
    match reason.as_str() {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "tool_use" => Finish::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "refusal" => Finish::Refused,
        "pause_turn" => Finish::Paused,
        _ => Finish::Other(reason),
    }
}
