//! Requests have the shape of recorded ones.

use apex_agents::model::{
    CacheHint, Effort, Format, Image, Message, ModelRequest, OutputSchema, Part, Reasoning, Role,
    Signature, ToolCall, ToolChoice, ToolResult, ToolSpec,
};
use bytes::Bytes;
use serde_json::{Value, json};

/// A request with one of everything.
fn everything(format: &'static str) -> ModelRequest {
    let signature = |value: &str| {
        Some(Signature { format: std::borrow::Cow::Borrowed(format), value: value.to_owned() })
    };
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let picture =
        Image::Inline { media_type: "image/png".to_owned(), data: Bytes::from_static(b"png") };
    ModelRequest {
        system: Some("Be short.".to_owned()),
        messages: vec![
            Message {
                role: Role::User,
                parts: vec![Part::Text("Where is this?".to_owned()), Part::Image(picture)],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Reasoning(Reasoning {
                        text: "Hm.".to_owned(),
                        signature: signature("rs_1\nsealed"),
                    }),
                    Part::Text("I look.".to_owned()),
                    Part::ToolCall(ToolCall {
                        id: "a".to_owned(),
                        name: "weather".to_owned(),
                        arguments: r#"{"city":"Oslo"}"#.to_owned(),
                        signature: signature("sealed-call"),
                    }),
                ],
            },
            Message::results([ToolResult {
                call: "a".to_owned(),
                name: "weather".to_owned(),
                content: "rain".to_owned(),
                failed: false,
            }]),
        ],
        tools: vec![ToolSpec {
            name: "weather".to_owned(),
            description: "The weather.".to_owned(),
            arguments: schema.clone(),
        }],
        tool_choice: ToolChoice::Required,
        output: Some(OutputSchema { name: "place".to_owned(), schema }),
        effort: Some(Effort::Low),
        max_output_tokens: Some(4_096),
        temperature: None,
        cache: Some(CacheHint { key: Some("k".to_owned()), long: true }),
    }
}

#[test]
fn chat_completions() {
    let body = Format::OpenAiChat.encode("gpt-5", &everything("x"), true).unwrap();
    let tool = &everything("x").tools[0];
    assert_eq!(
        body,
        json!({
            "model": "gpt-5",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}]},
                {"role": "assistant", "content": "I look.", "tool_calls": [
                    {"id": "a", "type": "function",
                     "function": {"name": "weather", "arguments": r#"{"city":"Oslo"}"#}}]},
                {"role": "tool", "tool_call_id": "a", "content": "rain"}],
            "tools": [{"type": "function", "function":
                {"name": "weather", "description": "The weather.", "parameters": tool.arguments}}],
            "tool_choice": "required",
            "response_format": {"type": "json_schema", "json_schema":
                {"name": "place", "schema": tool.arguments, "strict": true}},
            "reasoning_effort": "low",
            "max_completion_tokens": 4096,
            "prompt_cache_key": "k",
            "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
}

#[test]
fn responses() {
    let body =
        Format::OpenAiResponses.encode("gpt-5", &everything("openai-responses"), false).unwrap();
    assert_eq!(
        body["input"],
        json!([
            {"role": "user", "content": [
                {"type": "input_text", "text": "Where is this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,cG5n"}]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "sealed",
             "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "a", "name": "weather",
             "arguments": r#"{"city":"Oslo"}"#},
            {"type": "function_call_output", "call_id": "a", "output": "rain"}])
    );
    assert_eq!(body["store"], false);
    assert_eq!(body["reasoning"]["effort"], "low");
    assert_eq!(body["text"]["format"]["type"], "json_schema");
}

#[test]
fn anthropic() {
    let body =
        Format::Anthropic.encode("claude-sonnet-4-5", &everything("anthropic"), true).unwrap();
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let tool = &everything("x").tools[0];
    assert_eq!(
        body,
        json!({
            "model": "claude-sonnet-4-5",
            "max_tokens": 4096,
            "stream": true,
            "system": [{"type": "text", "text": "Be short.", "cache_control": mark}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image", "source":
                        {"type": "base64", "media_type": "image/png", "data": "cG5n"}}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "rs_1\nsealed"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "rain",
                     "is_error": false, "cache_control": mark}]}],
            "tools": [{"name": "weather", "description": "The weather.",
                "input_schema": tool.arguments, "cache_control": mark}],
            "tool_choice": {"type": "any"},
            "output_config": {"format": {"type": "json_schema", "schema": tool.arguments}},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        })
    );
}

#[test]
fn gemini() {
    let body = Format::Gemini.encode("gemini-3-pro", &everything("gemini"), true).unwrap();
    let schema = &everything("x").tools[0].arguments;
    assert_eq!(
        body,
        json!({
            "systemInstruction": {"parts": [{"text": "Be short."}]},
            "contents": [
                {"role": "user", "parts": [
                    {"text": "Where is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": "cG5n"}}]},
                {"role": "model", "parts": [
                    {"text": "", "thoughtSignature": "rs_1\nsealed"},
                    {"text": "I look."},
                    {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Oslo"}},
                     "thoughtSignature": "sealed-call"}]},
                {"role": "user", "parts": [
                    {"functionResponse":
                        {"id": "a", "name": "weather", "response": {"output": "rain"}}}]}],
            "tools": [{"functionDeclarations": [{"name": "weather",
                "description": "The weather.", "parametersJsonSchema": schema}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
            "generationConfig": {
                "maxOutputTokens": 4096,
                "responseMimeType": "application/json",
                "responseJsonSchema": schema,
                "thinkingConfig": {"includeThoughts": true, "thinkingLevel": "low"}},
        })
    );
}

#[test]
fn no_provider_is_shown_what_belongs_to_another() {
    for format in [Format::OpenAiResponses, Format::Anthropic, Format::Gemini] {
        let body = format.encode("m", &everything("someone-else"), true).unwrap();
        assert!(!body.to_string().contains("sealed"), "{format:?}");
    }
}

#[test]
fn a_recorded_conversation_is_sent_as_it_was() {
    // The same keys in the same places; values are compared where the recording's author had no choice.
    for exchange in crate::cassette::exchanges() {
        let name = "test_dbos__test_complex_agent_run_in_workflow";
        let messages = &exchange.asked["messages"];
        if exchange.file != name || messages.as_array().is_none_or(|m| m.len() < 3) {
            continue;
        }
        let request = from_chat(&exchange.asked);
        let body = Format::OpenAiChat.encode("gpt-4o", &request, true).unwrap();
        assert_eq!(without_nulls(&body["messages"]), *messages);
        for key in ["model", "stream", "stream_options", "tool_choice"] {
            assert_eq!(body[key], exchange.asked[key], "{key}");
        }
        for (ours, theirs) in body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .zip(exchange.asked["tools"].as_array().unwrap())
        {
            for key in ["name", "description", "parameters"] {
                assert_eq!(ours["function"][key], theirs["function"][key]);
            }
        }
    }
}

#[test]
fn an_answer_goes_back_as_its_provider_wants_to_see_it_again() {
    let name = "test_google__test_google_streaming_tool_call_thought_signature";
    let exchanges = crate::cassette::exchanges();
    let [first, second] =
        exchanges.iter().filter(|exchange| exchange.file == name).collect::<Vec<_>>()[..]
    else {
        return println!("skipped: {name} is not there");
    };
    let mut decoder = Format::Gemini.decoder("google");
    decoder.feed(&first.body).unwrap();
    let answer = decoder.finish().unwrap();
    let call = answer.tool_calls().next().unwrap().clone();
    let result =
        ToolResult { call: call.id, name: call.name, content: "Mexico".to_owned(), failed: false };
    let question = first.asked["contents"][0]["parts"][0]["text"].as_str().unwrap();
    let request = ModelRequest {
        messages: vec![Message::user(question), answer.into_message(), Message::results([result])],
        ..ModelRequest::default()
    };
    let body = Format::Gemini.encode("gemini-3-pro-preview", &request, true).unwrap();
    let (ours, theirs) = (&body["contents"], &second.asked["contents"]);
    assert_eq!(ours[0], theirs[0]);
    // Ids are everyone's own.
    let (ours, theirs) = (&ours[1]["parts"][0], &theirs[1]["parts"][0]);
    // The recording's client wrote the same bytes in the other alphabet of base64; Google reads both.
    let token = ours["thoughtSignature"].as_str().unwrap().replace('+', "-").replace('/', "_");
    assert_eq!(token, theirs["thoughtSignature"]);
    for key in ["name", "args"] {
        assert_eq!(ours["functionCall"][key], theirs["functionCall"][key]);
    }
}

/// A recorded request in our form.
fn from_chat(asked: &Value) -> ModelRequest {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let message = |message: &Value| {
        let content = text(&message["content"]);
        match message["role"].as_str().unwrap() {
            "tool" => Message::results([ToolResult {
                call: text(&message["tool_call_id"]),
                name: String::new(),
                content,
                failed: false,
            }]),
            "assistant" => Message {
                role: Role::Assistant,
                parts: message["tool_calls"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|call| {
                        Part::ToolCall(ToolCall {
                            id: text(&call["id"]),
                            name: text(&call["function"]["name"]),
                            arguments: text(&call["function"]["arguments"]),
                            signature: None,
                        })
                    })
                    .collect(),
            },
            _ => Message::user(content),
        }
    };
    let tool = |tool: &Value| ToolSpec {
        name: text(&tool["function"]["name"]),
        description: text(&tool["function"]["description"]),
        arguments: tool["function"]["parameters"].clone(),
    };
    ModelRequest {
        messages: asked["messages"].as_array().unwrap().iter().map(message).collect(),
        tools: asked["tools"].as_array().unwrap().iter().map(tool).collect(),
        tool_choice: match asked["tool_choice"].as_str() {
            Some("required") => ToolChoice::Required,
            _ => ToolChoice::Auto,
        },
        ..ModelRequest::default()
    }
}

/// A field that is null is as one that is not there.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(key, field)| (key.clone(), without_nulls(field)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}
