//! Responses.

use super::Usage;
use crate::model::answer::Finish;
use crate::model::draft::{Decode, Draft, Text};
use crate::model::fault::FaultReason;
use crate::model::refusal;
use crate::model::request::{
    Message, ModelRequest, Part, Reasoning, Role, Signature, ToolCall, ToolChoice,
};
use apex_core::error::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// To whom the signatures belong.
const FORMAT: &str = "openai-responses";

pub(crate) fn encode(model: &str, request: &ModelRequest, stream: bool) -> Value {
    let mut input = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        encode_message(message, &mut input);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    body.insert("input".to_owned(), input.into());
    // The conversation is ours: nothing of it needs to be kept there.
    body.insert("store".to_owned(), false.into());
    body.insert("stream".to_owned(), stream.into());
    if let Some(system) = &request.system {
        body.insert("instructions".to_owned(), system.as_str().into());
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.arguments,
                "strict": false,
            })
        });
        body.insert("tools".to_owned(), tools.collect());
        let choice = match &request.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({"type": "function", "name": name}),
        };
        body.insert("tool_choice".to_owned(), choice);
    }
    if let Some(output) = &request.output {
        let format = json!({"format": {
            "type": "json_schema",
            "name": output.name,
            "schema": output.schema,
            "strict": true,
        }});
        body.insert("text".to_owned(), format);
    }
    if let Some(effort) = request.effort {
        let reasoning = json!({"effort": effort.word(), "summary": "auto"});
        body.insert("reasoning".to_owned(), reasoning);
        // What is not kept there must come here, to be shown again with the results of tools.
        let include = json!(["reasoning.encrypted_content"]);
        body.insert("include".to_owned(), include);
    }
    if let Some(most) = request.max_output_tokens {
        body.insert("max_output_tokens".to_owned(), most.into());
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(key) = request.cache.as_ref().and_then(|cache| cache.key.as_ref()) {
        body.insert("prompt_cache_key".to_owned(), key.as_str().into());
    }
    body.into()
}

/// Texts and images that follow each other are one message there; all else is an item of its own.
fn encode_message(message: &Message, input: &mut Vec<Value>) {
    let (role, text_type) = match message.role {
        Role::User => ("user", "input_text"),
        Role::Assistant => ("assistant", "output_text"),
    };
    let mut content = Vec::new();
    let flush = |content: &mut Vec<Value>, input: &mut Vec<Value>| {
        if !content.is_empty() {
            input.push(json!({"role": role, "content": std::mem::take(content)}));
        }
    };
    for part in &message.parts {
        let item = match part {
            Part::Text(text) => {
                content.push(json!({"type": text_type, "text": text}));
                continue;
            }
            Part::Image(image) => {
                content.push(json!({"type": "input_image", "image_url": super::image_url(image)}));
                continue;
            }
            Part::Reasoning(reasoning) => match encode_reasoning(reasoning) {
                Some(item) => item,
                None => continue,
            },
            Part::ToolCall(call) => json!({
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
            }),
            Part::ToolResult(result) => json!({
                "type": "function_call_output",
                "call_id": result.call,
                "output": result.content,
            }),
        };
        flush(&mut content, input);
        input.push(item);
    }
    flush(&mut content, input);
}

fn encode_reasoning(reasoning: &Reasoning) -> Option<Value> {
    let token = Signature::of(reasoning.signature.as_ref(), FORMAT)?;
    let (id, encrypted) = token.split_once('\n')?;
    let summary = if reasoning.text.is_empty() {
        json!([])
    } else {
        json!([{"type": "summary_text", "text": reasoning.text}])
    };
    Some(json!({
        "type": "reasoning",
        "id": id,
        "summary": summary,
        "encrypted_content": encrypted,
    }))
}

#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    /// Of some kinds no text, but an object.
    #[serde(default)]
    delta: Option<Value>,
    #[serde(default)]
    summary_index: u64,
    #[serde(default)]
    item: Option<Item>,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(default)]
    output: Option<Vec<Item>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default)]
    encrypted_content: Option<String>,
    #[serde(default)]
    summary: Option<Vec<Piece>>,
    #[serde(default)]
    content: Option<Vec<Piece>>,
}

#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

pub(crate) fn whole(body: &str, draft: &mut Draft) -> Result<()> {
    let mut response: Response =
        serde_json::from_str(body).map_err(|error| draft.malformed(&error))?;
    for item in response.output.take().into_iter().flatten() {
        match item.kind.as_str() {
            "message" => {
                for piece in item.content.into_iter().flatten() {
                    draft.text(piece.text.unwrap_or_default())?;
                    draft.text(piece.refusal.unwrap_or_default())?;
                }
            }
            "reasoning" => {
                let texts = |pieces: Option<&Vec<Piece>>| {
                    pieces
                        .into_iter()
                        .flatten()
                        .filter_map(|piece| piece.text.clone())
                        .collect::<Vec<_>>()
                };
                draft.reasoning(texts(item.summary.as_ref()).join("\n\n"))?;
                draft.reasoning(texts(item.content.as_ref()).concat())?;
                end_item(item, draft)?;
            }
            _ => end_item(item, draft)?,
        }
    }
    let kind = match response.status.as_deref() {
        Some("completed") => "response.completed",
        Some("failed") => "response.failed",
        _ => "response.incomplete",
    };
    end(kind, response, draft)
}

#[derive(Debug)]
pub(crate) struct Stream;

impl Decode for Stream {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<bool> {
        if data.trim() == "[DONE]" {
            return Ok(true);
        }
        let event: Event<'_> =
            serde_json::from_str(data).map_err(|error| draft.malformed(&error))?;
        let delta = match event.delta {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        match &*event.kind {
            "response.output_text.delta" => draft.text(delta)?,
            "response.refusal.delta" => {
                draft.text(delta)?;
                draft.finish = Some(Finish::Refused);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                draft.reasoning(delta)?;
            }
            "response.reasoning_summary_part.added" if event.summary_index > 0 => {
                draft.reasoning("\n\n")?;
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    end_item(item, draft)?;
                }
            }
            "response.created" | "response.queued" | "response.in_progress" => {
                if let Some(response) = event.response {
                    begin(&response, draft);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = event.response.ok_or_else(|| {
                    draft.fault(FaultReason::Malformed, "its last event has no response")
                })?;
                end(&event.kind, response, draft)?;
                draft.complete = true;
            }
            "error" => {
                let error = serde_json::from_str(data).map_err(|e| draft.malformed(&e))?;
                return Err(refusal::in_stream(draft, &error));
            }
            // There are more than sixty kinds, and new ones without notice.
            _ => {}
        }
        Ok(true)
    }
}

fn begin(response: &Response, draft: &mut Draft) {
    if let Some(id) = &response.id {
        draft.id.get_or_insert_with(|| id.clone());
    }
    if let Some(model) = &response.model {
        draft.model.clone_from(model);
    }
}

fn end_item(item: Item, draft: &mut Draft) -> Result<()> {
    match item.kind.as_str() {
        "function_call" => {
            let arguments = match item.arguments {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => String::new(),
            };
            draft.call(ToolCall {
                id: item.call_id.unwrap_or_default(),
                name: item.name.unwrap_or_default(),
                arguments,
                signature: None,
            })
        }
        "reasoning" => match (item.id, item.encrypted_content) {
            (Some(id), Some(encrypted)) => draft.sign(FORMAT, format!("{id}\n{encrypted}")),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn end(kind: &str, response: Response, draft: &mut Draft) -> Result<()> {
    begin(&response, draft);
    if let Some(usage) = response.usage {
        draft.usage = Some(usage.into_model(response.service_tier));
    }
    if kind == "response.failed" || response.error.as_ref().is_some_and(|e| !e.is_null()) {
        let error = response.error.unwrap_or_default();
        return Err(refusal::in_stream(draft, &error));
    }
    let reason = response.incomplete_details.and_then(|details| details.reason);
    let finish = match (kind, reason.as_deref()) {
        ("response.completed", _) => Finish::Stop,
        (_, Some("max_output_tokens")) => Finish::Length,
        (_, Some("content_filter")) => Finish::Refused,
        (_, Some(other)) => Finish::Other(other.to_owned()),
        (_, None) => Finish::Other(response.status.unwrap_or_default()),
    };
    draft.finish.get_or_insert(finish);
    Ok(())
}
