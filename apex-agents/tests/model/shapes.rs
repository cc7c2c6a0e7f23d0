//! Which recorded requests could have been ours: every field of theirs, in its place, is one that we write. The rest is
//! listed by name with the first fields that we never write.

use crate::cassette::exchanges;
use crate::requests::everything;
use apex_agents::model::{CacheHint, Format, Image, Message, ModelRequest, Part, Role, ToolChoice};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const LIST: &str = include_str!("shapes.txt");

/// What belongs to whoever asks: schemas, arguments, results.
const OWN: [&str; 10] = [
    "parameters",
    "input_schema",
    "schema",
    "parametersJsonSchema",
    "responseJsonSchema",
    "arguments",
    "args",
    "input",
    "response",
    "metadata",
];

/// Every field by its path; what has a `type` or a `role` is told apart by it.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let kind = object.get("type").or(object.get("role")).and_then(Value::as_str);
            let path = kind.map_or_else(|| path.to_owned(), |kind| format!("{path}({kind})"));
            for (key, value) in object {
                let path = format!("{path}.{key}");
                // At the top, `input` is the conversation.
                if !value.is_null() && (!OWN.contains(&key.as_str()) || path == ".input") {
                    fields(value, &path, into);
                }
                if !value.is_null() {
                    into.insert(path);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, path, into)),
        _ => {}
    }
}

/// Every field that we write in a format.
fn ours(format: Format, name: &'static str) -> BTreeSet<String> {
    let full = || everything(name);
    let remote = Message {
        role: Role::User,
        parts: vec![Part::Image(Image::Url("https://example.com/a.png".to_owned()))],
    };
    let said = Message { role: Role::Assistant, parts: vec![Part::Text("Yes.".to_owned())] };
    let mut written = BTreeSet::new();
    for request in [
        full(),
        ModelRequest { temperature: Some(0.5), effort: None, ..full() },
        ModelRequest { tool_choice: ToolChoice::Auto, output: None, ..full() },
        ModelRequest { tool_choice: ToolChoice::None, ..full() },
        ModelRequest { tool_choice: ToolChoice::Named("weather".to_owned()), ..full() },
        ModelRequest { cache: Some(CacheHint::default()), effort: None, ..full() },
        ModelRequest { messages: vec![remote], ..full() },
        ModelRequest {
            messages: vec![Message::user("hi"), said, Message::user("so?")],
            ..ModelRequest::default()
        },
    ] {
        for stream in [true, false] {
            let body = format.encode("m", &request, stream).unwrap();
            fields(&body, "", &mut written);
        }
    }
    written
}

#[test]
fn recorded_requests_could_be_ours_but_for_those_that_are_listed() {
    let exchanges = exchanges();
    if exchanges.is_empty() {
        return;
    }
    let formats = [
        (Format::OpenAiChat, "openai-chat"),
        (Format::OpenAiResponses, "openai-responses"),
        (Format::Anthropic, "anthropic"),
        (Format::Gemini, "gemini"),
    ];
    let mut lists: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (format, name) in formats {
        let ours = ours(format, name);
        for exchange in &exchanges {
            if exchange.format() != Ok(format) {
                continue;
            }
            let mut theirs = BTreeSet::new();
            fields(&exchange.asked, "", &mut theirs);
            let strange: Vec<_> = theirs.difference(&ours).take(3).cloned().collect();
            let (covered, rest) = lists.entry(name).or_default();
            if strange.is_empty() {
                *covered += 1;
            } else {
                rest.insert(format!("{}: {}", exchange.file, strange.join(" ")));
            }
        }
    }
    let mut told = String::new();
    for (name, (covered, rest)) in lists {
        let _ = writeln!(told, "{name}: {covered} requests could be ours; not so:");
        for line in rest {
            let _ = writeln!(told, "  {line}");
        }
    }
    if std::env::var_os("APEX_UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/shapes.txt");
        return std::fs::write(path, told).unwrap();
    }
    assert!(told == LIST, "repeat with APEX_UPDATE=1 and look at what changed:\n{told}");
}
