use super::{FORMAT, REDACTED};
use crate::model::request::{
    CacheHint, Image, Message, ModelRequest, Part, Reasoning, Role, Signature, ToolChoice,
};
use apex_core::error::Result;
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The format wants a limit; this one is what every model of theirs can write.
const MAX_TOKENS: u32 = 8_192;

pub(crate) fn encode(model: &str, request: &ModelRequest, stream: bool) -> Result<Value> {
    let mark = request.cache.as_ref().map(mark);
    let mut messages = request.messages.iter().map(encode_message).collect::<Result<Vec<_>>>()?;
    let last = messages
        .last_mut()
        .and_then(|message| message.get_mut("content")?.as_array_mut()?.last_mut());
    set_mark(last, mark.as_ref());

    let thinking = request.effort.map_or(0, |effort| effort.budget());
    // Thoughts are taken from the same limit.
    let most = request.max_output_tokens.unwrap_or_else(|| MAX_TOKENS.saturating_add(thinking));
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("max_tokens".to_owned(), most.into());
    body.insert("messages".to_owned(), messages.into());
    body.insert("stream".to_owned(), stream.into());
    if let Some(system) = &request.system {
        let mut block = json!({"type": "text", "text": system});
        set_mark(Some(&mut block), mark.as_ref());
        body.insert("system".to_owned(), json!([block]));
    }
    if !request.tools.is_empty() {
        let mut tools: Vec<_> = request
            .tools
            .iter()
            .map(|tool| {
                json!({
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": tool.arguments,
                })
            })
            .collect();
        set_mark(tools.last_mut(), mark.as_ref());
        body.insert("tools".to_owned(), tools.into());
        let choice = match &request.tool_choice {
            ToolChoice::Auto => json!({"type": "auto"}),
            ToolChoice::None => json!({"type": "none"}),
            ToolChoice::Required => json!({"type": "any"}),
            ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
        };
        body.insert("tool_choice".to_owned(), choice);
    }
    if let Some(output) = &request.output {
        let format = json!({"format": {"type": "json_schema", "schema": output.schema}});
        body.insert("output_config".to_owned(), format);
    }
    if request.effort.is_some() {
        // The least there may be is 1,024, and some must be left for the answer.
        let budget = thinking.min(most.saturating_sub(1)).max(1_024);
        let thinking = json!({"type": "enabled", "budget_tokens": budget});
        body.insert("thinking".to_owned(), thinking);
    } else if let Some(temperature) = request.temperature {
        // Refused beside thinking; and 1 is the most here.
        body.insert("temperature".to_owned(), temperature.min(1.0).into());
    }
    Ok(body.into())
}

fn mark(hint: &CacheHint) -> Value {
    if hint.long { json!({"type": "ephemeral", "ttl": "1h"}) } else { json!({"type": "ephemeral"}) }
}

fn set_mark(block: Option<&mut Value>, mark: Option<&Value>) {
    if let (Some(Value::Object(block)), Some(mark)) = (block, mark) {
        block.insert("cache_control".to_owned(), mark.clone());
    }
}

fn encode_message(message: &Message) -> Result<Value> {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut content = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        content.extend(match part {
            // Empty blocks are refused.
            Part::Text(text) if text.trim().is_empty() => None,
            Part::Text(text) => Some(json!({"type": "text", "text": text})),
            Part::Image(image) => Some(encode_image(image)),
            Part::Reasoning(reasoning) => encode_reasoning(reasoning),
            Part::ToolCall(call) => Some(json!({
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": call.arguments()?,
            })),
            Part::ToolResult(result) => Some(json!({
                "type": "tool_result",
                "tool_use_id": result.call,
                "content": result.content,
                "is_error": result.failed,
            })),
        });
    }
    Ok(json!({"role": role, "content": content}))
}

fn encode_image(image: &Image) -> Value {
    let source = match image {
        Image::Url(url) => json!({"type": "url", "url": url}),
        Image::Inline { media_type, data } => json!({
            "type": "base64",
            "media_type": media_type,
            "data": base64::engine::general_purpose::STANDARD.encode(data),
        }),
    };
    json!({"type": "image", "source": source})
}

fn encode_reasoning(reasoning: &Reasoning) -> Option<Value> {
    let token = Signature::of(reasoning.signature.as_ref(), FORMAT)?;
    Some(match token.strip_prefix(REDACTED) {
        Some(data) => json!({"type": "redacted_thinking", "data": data}),
        None => json!({"type": "thinking", "thinking": reasoning.text, "signature": token}),
    })
}
