//! However a stream is cut into packets, and whatever it holds, the result is the same and nothing panics.

use apex_agents::model::{Format, ModelEvent, ModelResponse};
use proptest::prelude::*;

const CHAT: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Zoë \"}}]}\r\n\r\n: ping\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"🦀\",\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";

const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"m\"}}\n\n\
    data: {\"type\":\"response.output_text.delta\",\"delta\":\"Zoë 🦀\"}\r\r\
    data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\",\"arguments\":\"{}\"}}\n\n\
    data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n";

const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":3}}}\n\n\
    data: {\"type\":\"ping\"}\n\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Zoë 🦀\"}}\r\n\r\n\
    data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}\n\n\
    data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n\
    data: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
    data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":4}}\n\ndata: {\"type\":\"message_stop\"}\n\n";

const GEMINI: &str = "data: {\"responseId\":\"g\",\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Zoë 🦀\"}]}}]}\r\n\r\n\
    data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\",\"args\":{}},\"thoughtSignature\":\"s\"}]},\"finishReason\":\"STOP\"}],\
    \"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":4}}\r\n\r\n";

const STREAMS: [(Format, &str); 4] = [
    (Format::OpenAiChat, CHAT),
    (Format::OpenAiResponses, RESPONSES),
    (Format::Anthropic, ANTHROPIC),
    (Format::Gemini, GEMINI),
];

/// The events, and the answer or the error's text.
type Came = (Vec<ModelEvent>, Result<ModelResponse, String>);

fn run<'a>(format: Format, slices: impl Iterator<Item = &'a [u8]>) -> Came {
    let mut decoder = format.decoder("test");
    let mut events = Vec::new();
    for slice in slices {
        let fed = decoder.feed(slice);
        events.extend(std::iter::from_fn(|| decoder.next()));
        if let Err(error) = fed {
            return (events, Err(error.to_string()));
        }
    }
    let response = decoder.finish().map_err(|error| error.to_string());
    events.extend(std::iter::from_fn(|| decoder.next()));
    (events, response)
}

fn cut(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    for at in &mut cuts {
        *at %= bytes.len() + 1;
    }
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn the_streams_hold_what_they_are_meant_to() {
    for (format, stream) in STREAMS {
        let (_, response) = run(format, std::iter::once(stream.as_bytes()));
        let response = response.unwrap();
        assert_eq!(response.text(), "Zoë 🦀", "{format:?}");
        assert_eq!(response.tool_calls().count(), 1, "{format:?}");
        let tokens = response.usage.unwrap().tokens;
        assert_eq!((tokens.input, tokens.output), (3, 4), "{format:?}");
    }
}

proptest! {
    #[test]
    fn slicing_changes_nothing(
        which in 0_usize..4,
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let (format, stream) = STREAMS[which];
        let whole = run(format, std::iter::once(stream.as_bytes()));
        prop_assert!(whole.1.is_ok());
        prop_assert_eq!(run(format, cut(stream.as_bytes(), cuts).into_iter()), whole);
    }

    #[test]
    fn damage_is_an_error_or_an_answer_and_slicing_does_not_matter(
        which in 0_usize..4,
        damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let (format, stream) = STREAMS[which];
        let mut bytes = stream.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let whole = run(format, std::iter::once(bytes.as_slice()));
        prop_assert_eq!(run(format, cut(&bytes, cuts).into_iter()), whole);
    }
}
