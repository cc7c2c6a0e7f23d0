use super::FORMAT;
use crate::model::request::{
    Effort, Image, Message, ModelRequest, Part, Role, Signature, ToolChoice,
};
use apex_core::error::Result;
use base64::Engine as _;
use serde_json::{Map, Value, json};

pub(crate) fn encode(model: &str, request: &ModelRequest) -> Result<Value> {
    let contents = request.messages.iter().map(encode_message).collect::<Result<Vec<_>>>()?;
    let mut body = Map::new();
    body.insert("contents".to_owned(), contents.into());
    if let Some(system) = &request.system {
        let instruction = json!({"parts": [{"text": system}]});
        body.insert("systemInstruction".to_owned(), instruction);
    }
    if !request.tools.is_empty() {
        let tools: Vec<_> = request
            .tools
            .iter()
            .map(|tool| {
                json!({
                    "name": tool.name,
                    "description": tool.description,
                    "parametersJsonSchema": tool.arguments,
                })
            })
            .collect();
        body.insert("tools".to_owned(), json!([{"functionDeclarations": tools}]));
        let calling = match &request.tool_choice {
            ToolChoice::Auto => json!({"mode": "AUTO"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Required => json!({"mode": "ANY"}),
            ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        };
        let config = json!({"functionCallingConfig": calling});
        body.insert("toolConfig".to_owned(), config);
    }
    let generation = generation(model, request);
    if !generation.is_empty() {
        body.insert("generationConfig".to_owned(), generation.into());
    }
    Ok(body.into())
}

fn generation(model: &str, request: &ModelRequest) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(most) = request.max_output_tokens {
        config.insert("maxOutputTokens".to_owned(), most.into());
    }
    if let Some(temperature) = request.temperature {
        config.insert("temperature".to_owned(), temperature.into());
    }
    if let Some(output) = &request.output {
        let json = "application/json";
        config.insert("responseMimeType".to_owned(), json.into());
        config.insert("responseJsonSchema".to_owned(), output.schema.clone());
    }
    if let Some(effort) = request.effort {
        config.insert("thinkingConfig".to_owned(), thinking(model, effort));
    }
    config
}

/// Up to 2.5 they take a number of tokens, later ones a word.
fn thinking(model: &str, effort: Effort) -> Value {
    let name = model.rsplit('/').next().unwrap_or(model);
    if name.starts_with("gemini-2") {
        json!({"includeThoughts": true, "thinkingBudget": effort.budget()})
    } else {
        json!({"includeThoughts": true, "thinkingLevel": effort.word()})
    }
}

fn encode_message(message: &Message) -> Result<Value> {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "model",
    };
    let mut parts = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        parts.extend(match part {
            Part::Text(text) => Some(json!({"text": text})),
            Part::Image(image) => Some(encode_image(image)),
            // Thoughts themselves are not wanted back, but what stands for them is.
            Part::Reasoning(reasoning) => Signature::of(reasoning.signature.as_ref(), FORMAT)
                .map(|token| json!({"text": "", "thoughtSignature": token})),
            Part::ToolCall(call) => {
                let args = call.arguments()?;
                let function = json!({"id": call.id, "name": call.name, "args": args});
                let mut part = json!({"functionCall": function});
                if let Some(token) = Signature::of(call.signature.as_ref(), FORMAT)
                    && let Some(part) = part.as_object_mut()
                {
                    part.insert("thoughtSignature".to_owned(), token.into());
                }
                Some(part)
            }
            Part::ToolResult(result) => {
                let key = if result.failed { "error" } else { "output" };
                let response = json!({key: result.content});
                Some(json!({"functionResponse":
                    {"id": result.call, "name": result.name, "response": response}}))
            }
        });
    }
    Ok(json!({"role": role, "parts": parts}))
}

fn encode_image(image: &Image) -> Value {
    match image {
        Image::Url(url) => json!({"fileData": {"fileUri": url}}),
        Image::Inline { media_type, data } => json!({"inlineData": {
            "mimeType": media_type,
            "data": base64::engine::general_purpose::STANDARD.encode(data),
        }}),
    }
}
