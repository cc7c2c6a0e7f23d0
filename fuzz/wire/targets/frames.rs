//! A text that may be a frame, of a client's or of a server's: what is taken in is what a slow reading of the same text
//! says, and written out and read again it is the same; what is refused is told with the id that the text has, in few
//! words, and never with a credential.

#![no_main]

use apex_core::error::Kind;
use apex_core::event::Recorded;
use apex_transport::protocol::{ClientFrame, Malformed, ServerFrame, decode, event_frame};
use serde_json::Value;

const NAMES: [&str; 9] = [
    "hello",
    "message",
    "subscribe",
    "inbox",
    "unsubscribe",
    "cancel",
    "stop",
    "decide",
    "ping",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match decode(text) {
        Ok(frame) => taken(text, &frame),
        Err(bad) => refused(text, &bad),
    }
    if let Ok(frame) = serde_json::from_str::<ServerFrame>(text) {
        answered(&frame);
    }
});

fn taken(text: &str, frame: &ClientFrame) {
    let written = serde_json::to_string(frame).unwrap();
    let again = decode(&written).unwrap_or_else(|bad| panic!("{written}: {}", bad.error));
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    // A parser of its own mind may find it too deep.
    let (Ok(said), Ok(written)) = (slowly(text), slowly(&written)) else {
        return;
    };
    let name = said["frame"].as_str().unwrap();
    assert!(NAMES.contains(&name), "{name}");
    let fields = written.as_object().unwrap();
    for (field, value) in fields {
        let exact = ["id", "frame", "text", "digest", "token", "ticket", "n", "after"];
        let kept = said[field] == *value || !exact.contains(&&**field) && same(&said[field], value);
        assert!(kept, "{field} of {text} became {value}");
    }
    let has = |field: &str| fields.contains_key(field);
    match name {
        "hello" => assert!(has("token") != has("ticket")),
        "message" => assert!(has("request_id") && has("text")),
        "subscribe" | "inbox" => {
            assert!(has("epoch") || said["after"].as_u64().unwrap_or(0) == 0, "{text}");
            assert!(name == "inbox" || has("run"));
        }
        "unsubscribe" | "cancel" => assert!(has("run")),
        "stop" => assert!(has("run") && has("step")),
        "decide" => assert!(["run", "approval", "digest", "decision"].into_iter().all(has)),
        _ => assert!(has("n")),
    }
}

fn slowly(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// Whether a value was taken as it was said: an id may be written in several ways, and unknown fields within go.
fn same(said: &Value, taken: &Value) -> bool {
    match (said, taken) {
        (Value::String(said), Value::String(taken)) => {
            let plain = |id: &str| {
                let id = id.trim_start_matches("urn:uuid:").replace(['-', '{', '}'], "");
                id.to_ascii_lowercase()
            };
            said == taken || plain(said) == plain(taken) || step(said) == step(taken)
        }
        (Value::Array(said), Value::Array(taken)) => {
            said.len() == taken.len() && said.iter().zip(taken).all(|(said, taken)| same(said, taken))
        }
        // Fields of a struct may come as a list, without their names.
        (Value::Array(said), Value::Object(taken)) => {
            said.iter().zip(taken.values()).all(|(said, taken)| same(said, taken))
        }
        (Value::Object(said), Value::Object(taken)) => {
            taken.iter().all(|(name, taken)| same(&said[name], taken))
        }
        (said, taken) => said == taken,
    }
}

/// `s007` and `s+7` name the same step as `s7`.
fn step(text: &str) -> Option<u32> {
    text.strip_prefix('s')?.parse().ok()
}

fn refused(text: &str, bad: &Malformed) {
    assert_eq!(bad.error.kind(), Kind::BadFrame);
    let told = bad.error.message();
    assert!(!told.is_empty() && told.len() < 1_024, "{told}");
    let Ok(Value::Object(said)) = slowly(text) else {
        return;
    };
    if let Some(id) = &bad.id {
        assert_eq!(serde_json::to_value(id).unwrap(), said["id"]);
    }
    for secret in ["token", "ticket"] {
        if let Some(secret) = said.get(secret).and_then(Value::as_str)
            && said.get("frame").and_then(Value::as_str) == Some("hello")
            && secret.len() > 24
        {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

fn answered(frame: &ServerFrame) {
    let written = frame.encode();
    let again: ServerFrame = serde_json::from_slice(&written).unwrap();
    assert_eq!(again.encode(), written);
    if let ServerFrame::Event(event) = frame
        && let Some(envelope) = event.envelope()
        && let Ok(recorded) = Recorded::encode(&envelope)
    {
        let wrapped: ServerFrame = serde_json::from_slice(&event_frame(&recorded.json)).unwrap();
        let ServerFrame::Event(wrapped) = wrapped else { panic!("{wrapped:?}") };
        assert_eq!(wrapped.is_terminal(), envelope.event.is_terminal());
        let again = Recorded::encode(&wrapped.envelope().unwrap()).unwrap();
        assert_eq!(again, recorded);
    }
}
