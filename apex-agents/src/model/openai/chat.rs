//! Chat completions.

use super::Usage;
use crate::model::answer::Finish;
use crate::model::draft::{Decode, Draft, Text};
use crate::model::refusal;
use crate::model::request::{Message, ModelRequest, Part, Role, ToolChoice};
use apex_core::error::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) fn encode(model: &str, request: &ModelRequest, stream: bool) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if let Some(system) = &request.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    for message in &request.messages {
        encode_message(message, &mut messages);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("messages".to_owned(), messages.into());
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.arguments,
            }})
        });
        body.insert("tools".to_owned(), tools.collect());
        let choice = match &request.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        };
        body.insert("tool_choice".to_owned(), choice);
    }
    if let Some(output) = &request.output {
        let format = json!({"type": "json_schema", "json_schema": {
            "name": output.name,
            "schema": output.schema,
            "strict": true,
        }});
        body.insert("response_format".to_owned(), format);
    }
    if let Some(effort) = request.effort {
        body.insert("reasoning_effort".to_owned(), effort.word().into());
    }
    if let Some(most) = request.max_output_tokens {
        body.insert("max_completion_tokens".to_owned(), most.into());
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(key) = request.cache.as_ref().and_then(|cache| cache.key.as_ref()) {
        body.insert("prompt_cache_key".to_owned(), key.as_str().into());
    }
    body.insert("stream".to_owned(), stream.into());
    if stream {
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    body.into()
}

/// A message of ours may hold results of several tools, each of which is a message there.
fn encode_message(message: &Message, messages: &mut Vec<Value>) {
    let mut content = Vec::new();
    let mut calls = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text(text) => content.push(json!({"type": "text", "text": text})),
            Part::Image(image) => content
                .push(json!({"type": "image_url", "image_url": {"url": super::image_url(image)}})),
            // This format has no place for thoughts.
            Part::Reasoning(_) => {}
            Part::ToolCall(call) => calls.push(json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })),
            Part::ToolResult(result) => messages.push(json!({
                "role": "tool",
                "tool_call_id": result.call,
                "content": result.content,
            })),
        }
    }
    if content.is_empty() && calls.is_empty() {
        return;
    }
    let content = match content.as_slice() {
        [] => Value::Null,
        // Servers that know no lists of parts know a text.
        [only] => only.get("text").cloned().unwrap_or_else(|| content.clone().into()),
        _ => content.into(),
    };
    messages.push(match message.role {
        Role::User => json!({"role": "user", "content": content}),
        Role::Assistant if calls.is_empty() => json!({"role": "assistant", "content": content}),
        Role::Assistant => {
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
    });
}

/// A chunk of a stream, and a whole response: they differ in `delta` and `message` only.
#[derive(Debug, Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(borrow, default)]
    service_tier: Option<Text<'a>>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, alias = "message", default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    /// DeepSeek's and vLLM's name for thoughts; that of OpenRouter and Groq is `reasoning`.
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<CallPiece<'a>>>,
}

#[derive(Debug, Deserialize)]
struct CallPiece<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    arguments: Option<Text<'a>>,
}

pub(crate) fn whole(body: &str, draft: &mut Draft) -> Result<()> {
    let chunk = serde_json::from_str(body).map_err(|error| draft.malformed(&error))?;
    take(chunk, draft)
}

#[derive(Debug)]
pub(crate) struct Stream;

impl Decode for Stream {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<bool> {
        if data.trim() == "[DONE]" {
            draft.complete = true;
            return Ok(true);
        }
        let chunk = serde_json::from_str(data).map_err(|error| draft.malformed(&error))?;
        take(chunk, draft)?;
        Ok(true)
    }
}

fn take(chunk: Chunk<'_>, draft: &mut Draft) -> Result<()> {
    if let Some(error) = chunk.error {
        return Err(refusal::in_stream(draft, &error));
    }
    if let Some(id) = chunk.id.filter(|id| !id.is_empty()) {
        draft.id.get_or_insert_with(|| id.into());
    }
    if let Some(model) = chunk.model.filter(|_| draft.model.is_empty()) {
        draft.model = model.into();
    }
    for choice in chunk.choices.into_iter().flatten() {
        // One answer is asked for; a server that sends more is not mixed up.
        if choice.index != 0 {
            continue;
        }
        if let Some(delta) = choice.delta {
            take_delta(delta, draft)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            draft.close_calls()?;
            draft.finish = Some(match &*reason {
                "stop" => Finish::Stop,
                "tool_calls" | "function_call" => Finish::ToolCalls,
                "length" => Finish::Length,
                "content_filter" => Finish::Refused,
                _ => Finish::Other(reason.into()),
            });
        }
    }
    if let Some(usage) = chunk.usage {
        draft.usage = Some(usage.into_model(chunk.service_tier.map(String::from)));
    }
    Ok(())
}

fn take_delta(delta: Delta<'_>, draft: &mut Draft) -> Result<()> {
    let thoughts = delta.reasoning_content.or(delta.reasoning);
    draft.reasoning(thoughts.unwrap_or_default())?;
    draft.text(delta.content.unwrap_or_default())?;
    draft.text(delta.refusal.unwrap_or_default())?;
    for (position, piece) in (0..).zip(delta.tool_calls.into_iter().flatten()) {
        let (name, arguments) =
            piece.function.map_or((None, None), |function| (function.name, function.arguments));
        let number = piece.index.unwrap_or(position);
        let arguments = arguments.unwrap_or_default();
        draft.call_piece(number, piece.id.as_deref(), name.as_deref(), &arguments)?;
    }
    Ok(())
}
