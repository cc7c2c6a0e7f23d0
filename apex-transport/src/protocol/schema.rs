//! The JSON Schema of the frames: the authority on their shape.

use super::{ClientFrame, ServerFrame};
use schemars::{Schema, schema_for};

/// The schema of what a client sends.
#[must_use]
pub fn client_frames() -> Schema {
    schema_for!(ClientFrame)
}

/// The schema of what a server sends.
#[must_use]
pub fn server_frames() -> Schema {
    schema_for!(ServerFrame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode;
    use serde_json::{Value, json};

    const ID: &str = "018f0000-0000-7000-8000-000000000001";

    fn validator(schema: Schema) -> jsonschema::Validator {
        jsonschema::validator_for(&schema.to_value()).unwrap()
    }

    #[test]
    fn the_schema_and_the_decoder_agree_on_what_a_client_may_send() {
        let validator = validator(client_frames());
        for (good, frame) in [
            (true, json!({"frame": "hello", "id": 1, "token": "t"})),
            (true, json!({"frame": "hello", "id": "a", "ticket": "t", "later": 1})),
            (false, json!({"frame": "hello", "id": 1})),
            (false, json!({"frame": "hello", "id": 1, "token": "t", "ticket": "t"})),
            (true, json!({"frame": "message", "id": 1, "request_id": ID, "text": "x"})),
            (
                true,
                json!({"frame": "message", "id": 1, "request_id": ID, "text": "x", "thread": ID, "attachments": [{"file": ID}]}),
            ),
            (false, json!({"frame": "message", "id": 1, "text": "x"})),
            (true, json!({"frame": "subscribe", "id": 1, "run": ID, "epoch": ID, "after": 4})),
            (false, json!({"frame": "subscribe", "id": 1})),
            (true, json!({"frame": "inbox", "id": 1})),
            (true, json!({"frame": "unsubscribe", "id": 1, "run": ID})),
            (true, json!({"frame": "cancel", "id": 1, "run": ID})),
            (true, json!({"frame": "stop", "id": 1, "run": ID, "step": "s1"})),
            (false, json!({"frame": "stop", "id": 1, "run": ID, "step": 1})),
            (
                true,
                json!({"frame": "decide", "id": 1, "run": ID, "approval": ID, "digest": "d", "decision": "deny"}),
            ),
            (
                false,
                json!({"frame": "decide", "id": 1, "run": ID, "approval": ID, "digest": "d", "decision": "maybe"}),
            ),
            (true, json!({"frame": "ping", "id": 1, "n": 1})),
            (false, json!({"frame": "ping", "n": 1})),
            (false, json!({"frame": "ping", "id": "", "n": 1})),
            (false, json!({"frame": "shout", "id": 1})),
        ] {
            assert_eq!(validator.is_valid(&frame), good, "schema: {frame}");
            assert_eq!(decode(&frame.to_string()).is_ok(), good, "decoder: {frame}");
        }
    }

    #[test]
    fn what_the_server_sends_is_in_its_schema() {
        let validator = validator(server_frames());
        let error = apex_core::error::Error::not_found("x", "run").report();
        let mut frames: Vec<Value> = [
            ServerFrame::Pong(super::super::Pong { id: 1.into(), n: 2 }),
            ServerFrame::Error(super::super::ErrorFrame { id: None, error }),
            ServerFrame::Ok(super::super::Answered { id: "a".into() }),
        ]
        .iter()
        .map(|frame| serde_json::to_value(frame).unwrap())
        .collect();
        frames.push(json!({
            "frame": "event", "v": 1, "run": ID, "thread": ID, "parent": null, "epoch": ID, "seq": 1,
            "at": "2026-11-22T10:00:00.123Z", "type": "agent_dreaming", "data": {}
        }));
        frames.push(json!({
            "frame": "subscribed", "id": 1, "run": ID, "epoch": ID, "head": 0, "oldest": 1,
            "recovered": true, "state": "queued"
        }));
        for frame in frames {
            let errors: Vec<_> = validator.iter_errors(&frame).map(|e| e.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{frame}");
        }
    }
}
