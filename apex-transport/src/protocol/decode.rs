use super::from_client::HelloFields;
use super::{Call, ClientFrame, FrameId, Subscribe};
use apex_core::error::{Error, Kind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;

const OPERATION: &str = "frame.decode";

/// The most of a parser's sentence that is passed on.
const MAX_DETAIL: usize = 160;

/// A frame that is not one of the protocol.
#[derive(Debug)]
pub struct Malformed {
    /// The frame's id, where it could be read, so that the answer can repeat it.
    pub id: Option<FrameId>,
    /// What is wrong: `bad_frame`.
    pub error: Error,
}

/// Reads a client's frame.
///
/// # Errors
/// [`Malformed`] says what is wrong and where; it never repeats a credential.
pub fn decode(text: &str) -> Result<ClientFrame, Malformed> {
    let no_object = |detail: &str| Malformed {
        id: None,
        error: bad_frame(format!("a frame is one JSON object: {detail}")),
    };
    // The parser would take an array for an object without names.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(no_object("expected `{`"));
    }
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| no_object(&detail(&error)))?;
    let id = head.id.ok_or_else(|| Malformed {
        id: None,
        error: bad_frame("every frame needs an `id`; the answer repeats it"),
    })?;
    match call(head.frame.as_deref(), text) {
        Ok(call) => Ok(ClientFrame { id, call }),
        Err(error) => Err(Malformed { id: Some(id), error }),
    }
}

/// What has to be known before the rest can be read. Everything else is skipped, however deep.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    frame: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Option<FrameId>,
}

fn call(name: Option<&str>, text: &str) -> Result<Call, Error> {
    let name = name.ok_or_else(|| bad_frame(format!("`frame` is missing; {}", known())))?;
    Ok(match name {
        "hello" => Call::Hello(
            // The parser's own words could repeat the credential.
            serde_json::from_str::<HelloFields>(text)
                .ok()
                .and_then(HelloFields::into_hello)
                .ok_or_else(|| {
                    bad_frame("`hello` needs exactly one of `token` and `ticket`, as a text")
                })?,
        ),
        "message" => Call::Message(fields(name, text)?),
        "subscribe" => {
            let subscribe: Subscribe = fields(name, text)?;
            position_is_whole(subscribe.since())?;
            Call::Subscribe(subscribe)
        }
        "inbox" => {
            let since = fields(name, text)?;
            position_is_whole(since)?;
            Call::Inbox(since)
        }
        "unsubscribe" => Call::Unsubscribe(fields(name, text)?),
        "cancel" => Call::Cancel(fields(name, text)?),
        "stop" => Call::Stop(fields(name, text)?),
        "decide" => Call::Decide(fields(name, text)?),
        "ping" => Call::Ping(fields(name, text)?),
        _ => return Err(bad_frame(format!("no such `frame`; {}", known()))),
    })
}

fn position_is_whole(since: super::Since) -> Result<(), Error> {
    match since.position() {
        Some(_) => Ok(()),
        None => Err(bad_frame("`after` needs the `epoch` in which it was counted")),
    }
}

fn fields<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| bad_frame(format!("`{name}` is not whole: {}", detail(&error))))
}

fn known() -> String {
    format!("known are {}", Call::NAMES.join(", "))
}

fn detail(error: &serde_json::Error) -> String {
    error.to_string().chars().take(MAX_DETAIL).collect()
}

fn bad_frame(message: impl Into<String>) -> Error {
    Error::new(Kind::BadFrame, OPERATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RUN: &str = "018f0000-0000-7000-8000-000000000001";

    fn refused(text: &str) -> Malformed {
        decode(text).expect_err(text)
    }

    #[test]
    fn every_frame_of_the_protocol_is_read_and_written_the_same() {
        for text in [
            r#"{"id":1,"frame":"hello","token":"t"}"#.to_owned(),
            r#"{"id":"a","frame":"hello","ticket":"t"}"#.to_owned(),
            format!(r#"{{"id":1,"frame":"message","request_id":"{RUN}","text":"hi"}}"#),
            format!(
                r#"{{"id":1,"frame":"message","request_id":"{RUN}","thread":"{RUN}","text":"","attachments":[{{"file":"{RUN}"}}]}}"#
            ),
            format!(r#"{{"id":1,"frame":"subscribe","run":"{RUN}"}}"#),
            format!(r#"{{"id":1,"frame":"subscribe","run":"{RUN}","epoch":"{RUN}","after":7}}"#),
            r#"{"id":1,"frame":"inbox"}"#.to_owned(),
            format!(r#"{{"id":1,"frame":"inbox","epoch":"{RUN}","after":7}}"#),
            format!(r#"{{"id":1,"frame":"unsubscribe","run":"{RUN}"}}"#),
            format!(r#"{{"id":1,"frame":"cancel","run":"{RUN}"}}"#),
            format!(r#"{{"id":1,"frame":"stop","run":"{RUN}","step":"s2"}}"#),
            format!(
                r#"{{"id":1,"frame":"decide","run":"{RUN}","approval":"{RUN}","digest":"d","decision":"approve"}}"#
            ),
            r#"{"id":1,"frame":"ping","n":9}"#.to_owned(),
        ] {
            let frame = decode(&text).unwrap_or_else(|bad| panic!("{text}: {:?}", bad.error));
            assert_eq!(serde_json::to_string(&frame).unwrap(), text);
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_order_does_not_matter() {
        let frame = decode(r#"{"n":1,"new":{"deep":[[]]},"frame":"ping","id":3}"#).unwrap();
        assert!(matches!(frame.call, Call::Ping(_)));
        assert_eq!(frame.id, FrameId::Number(3));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_id_repeated() {
        for (text, part, id) in [
            ("", "one JSON object", None),
            ("[]", "one JSON object", None),
            (r#"["ping",1]"#, "one JSON object", None),
            ("{}", "needs an `id`", None),
            (r#"{"frame":"ping","n":1}"#, "needs an `id`", None),
            (r#"{"frame":"ping","id":"","n":1}"#, "1 to 64 bytes", None),
            (r#"{"frame":"ping","id":-1,"n":1}"#, "whole number", None),
            (r#"{"id":1}"#, "`frame` is missing", Some(1)),
            (r#"{"id":1,"frame":"shout"}"#, "known are hello", Some(1)),
            (r#"{"id":1,"frame":"ping"}"#, "missing field `n`", Some(1)),
            (r#"{"id":1,"frame":"cancel"}"#, "missing field `run`", Some(1)),
            (r#"{"id":1,"id":2,"frame":"ping"}"#, "duplicate field `id`", None),
            (r#"{"id":1,"frame":"hello","token":"a","ticket":"b"}"#, "exactly one", Some(1)),
            (r#"{"id":1,"frame":"hello"}"#, "exactly one", Some(1)),
        ] {
            let bad = refused(text);
            assert_eq!(bad.error.kind(), Kind::BadFrame);
            assert!(bad.error.message().contains(part), "{text}: {}", bad.error);
            assert_eq!(bad.id, id.map(FrameId::Number), "{text}");
        }
        let bad = refused(&format!(r#"{{"id":1,"frame":"subscribe","run":"{RUN}","after":3}}"#));
        assert!(bad.error.message().contains("`epoch`"), "{}", bad.error);
    }

    #[test]
    fn a_credential_is_not_repeated() {
        for text in [
            r#"{"id":1,"frame":"hello","token":"CANARY","ticket":"CANARY"}"#,
            r#"{"id":1,"frame":"hello","token":["CANARY"]}"#,
            r#"{"id":1,"frame":"CANARY"}"#,
        ] {
            let bad = refused(text);
            assert!(!format!("{:?} {}", bad, bad.error).contains("CANARY"));
        }
        let frame = decode(r#"{"id":1,"frame":"hello","token":"CANARY"}"#).unwrap();
        assert!(!format!("{frame:?}").contains("CANARY"));
    }

    #[test]
    fn depth_is_harmless() {
        let deep = format!(
            r#"{{"id":1,"frame":"ping","n":1,"x":{}{}}}"#,
            "[".repeat(30_000),
            "]".repeat(30_000)
        );
        assert!(decode(&deep).is_ok());
        let in_place = format!(r#"{{"id":1,"frame":"ping","n":{}"#, "[".repeat(60_000));
        assert!(decode(&in_place).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = decode(&text);
        }

        #[test]
        fn no_mutation_of_a_good_frame_panics(at in 0_usize..80, with in any::<char>()) {
            let good = format!(r#"{{"id":1,"frame":"stop","run":"{RUN}","step":"s2"}}"#);
            let text: String = good
                .chars()
                .enumerate()
                .map(|(place, c)| if place == at { with } else { c })
                .collect();
            let _ = decode(&text);
        }
    }
}
