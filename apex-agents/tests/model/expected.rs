//! What a recorded answer holds, read a second way: straight from its JSON, by the rules that were measured.

use apex_agents::cost::price::Tokens;
use apex_agents::model::Format;
use serde_json::Value;

/// What must come out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) text: String,
    /// Name and arguments of each call.
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) finish: String,
    pub(crate) tokens: Option<Tokens>,
    /// An error in the middle.
    pub(crate) error: bool,
}

/// The data of a stream's events, or the one body.
pub(crate) fn documents(streamed: bool, body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    if !streamed {
        return vec![serde_json::from_str(text).unwrap()];
    }
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

pub(crate) fn expected(format: Format, streamed: bool, body: &[u8]) -> Expected {
    let documents = documents(streamed, body);
    match format {
        Format::OpenAiChat => chat(&documents),
        Format::OpenAiResponses => responses(documents.last().unwrap()),
        Format::Anthropic => anthropic(&documents),
        Format::Gemini => gemini(&documents),
        _ => unreachable!("no other format is recorded"),
    }
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn arguments(text: &str) -> Value {
    serde_json::from_str(if text.is_empty() { "{}" } else { text }).unwrap()
}

fn chat(documents: &[Value]) -> Expected {
    let mut found = Expected::default();
    let mut calls: Vec<(u64, String, String)> = Vec::new();
    for document in documents {
        found.error |= document.get("error").is_some();
        let choice = &document["choices"][0];
        let said = choice.get("delta").unwrap_or(&choice["message"]);
        found.text += &words(&said["content"]);
        for (position, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let number = call["index"].as_u64().unwrap_or(position as u64);
            let piece = words(&call["function"]["arguments"]);
            match calls.iter_mut().find(|(known, ..)| *known == number) {
                Some((.., text)) => *text += &piece,
                None => calls.push((number, words(&call["function"]["name"]), piece)),
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            found.finish = reason.to_owned();
        }
        if let Some(usage) = document.get("usage").filter(|usage| !usage.is_null()) {
            let (input, output) =
                (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
            assert_eq!(count(&usage["total_tokens"]), input + output);
            found.tokens = Some(Tokens {
                input,
                cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
                output,
                reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
                ..Tokens::default()
            });
        }
    }
    found.calls = calls.into_iter().map(|(_, name, text)| (name, arguments(&text))).collect();
    found
}

/// The last event, or the body, repeats the whole answer.
fn responses(last: &Value) -> Expected {
    let response = last.get("response").unwrap_or(last);
    let mut found = Expected {
        finish: words(&response["status"]),
        error: response["error"].is_object(),
        ..Expected::default()
    };
    for item in response["output"].as_array().into_iter().flatten() {
        match item["type"].as_str().unwrap() {
            "message" => {
                for piece in item["content"].as_array().unwrap() {
                    found.text += &words(&piece["text"]);
                }
            }
            "function_call" => found
                .calls
                .push((words(&item["name"]), arguments(item["arguments"].as_str().unwrap()))),
            _ => {}
        }
    }
    let usage = &response["usage"];
    let (input, output) = (count(&usage["input_tokens"]), count(&usage["output_tokens"]));
    assert_eq!(count(&usage["total_tokens"]), input + output);
    found.tokens = usage.is_object().then(|| Tokens {
        input,
        cached: count(&usage["input_tokens_details"]["cached_tokens"]),
        cache_write: count(&usage["input_tokens_details"]["cache_write_tokens"]),
        output,
        reasoning: count(&usage["output_tokens_details"]["reasoning_tokens"]),
    });
    found
}

fn anthropic(documents: &[Value]) -> Expected {
    let mut found = Expected::default();
    let mut calls: Vec<(u64, String, String)> = Vec::new();
    for document in documents {
        let (block, delta) = (&document["content_block"], &document["delta"]);
        found.text += &words(&delta["text"]);
        if block["type"] == "tool_use" {
            calls.push((count(&document["index"]), words(&block["name"]), String::new()));
        }
        if let Some((.., text)) = calls.iter_mut().find(|call| document["index"] == call.0) {
            *text += &words(&delta["partial_json"]);
        }
        if document["type"] == "message_delta" {
            found.finish = words(&delta["stop_reason"]);
            let usage = &document["usage"];
            let parts = usage["iterations"].as_array().cloned().unwrap_or_default();
            let parts = if parts.is_empty() { vec![usage.clone()] } else { parts };
            let total = |key: &str| parts.iter().map(|part| count(&part[key])).sum::<u64>();
            let (cached, cache_write) =
                (total("cache_read_input_tokens"), total("cache_creation_input_tokens"));
            found.tokens = Some(Tokens {
                input: total("input_tokens") + cached + cache_write,
                cached,
                cache_write,
                output: total("output_tokens"),
                reasoning: 0,
            });
        }
    }
    found.calls = calls.into_iter().map(|(_, name, text)| (name, arguments(&text))).collect();
    found
}

fn gemini(documents: &[Value]) -> Expected {
    let mut found = Expected::default();
    let last = |key: &str| {
        let usage = documents.iter().rev().map(|document| &document["usageMetadata"][key]);
        usage.clone().find(|value| !value.is_null()).map_or(0, count)
    };
    for document in documents {
        let candidate = &document["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            if part["thought"] != true {
                found.text += &words(&part["text"]);
            }
            if let Some(call) = part.get("functionCall") {
                found.calls.push((words(&call["name"]), call["args"].clone()));
            }
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            found.finish = reason.to_owned();
        }
    }
    let thoughts = last("thoughtsTokenCount");
    found.tokens = Some(Tokens {
        input: last("promptTokenCount") + last("toolUsePromptTokenCount"),
        cached: last("cachedContentTokenCount"),
        cache_write: 0,
        output: last("candidatesTokenCount") + thoughts,
        reasoning: thoughts,
    });
    found
}
