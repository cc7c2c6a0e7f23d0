//! Every recorded response, stream and error, decoded and compared with what it holds.

use crate::cassette::{Exchange, exchanges};
use crate::expected::{Expected, expected};
use apex_agents::model::{FaultReason, Finish, Format, ModelEvent, ModelFault, ModelResponse};
use apex_core::error::Error;
use serde_json::Value;
use std::collections::BTreeMap;

/// The answer and the pieces that came before it.
fn decode(
    format: Format,
    exchange: &Exchange,
    slice: usize,
) -> Result<(ModelResponse, String), Error> {
    if !exchange.streamed || exchange.status != 200 {
        let response = format.decode("recorded", exchange.status, &exchange.body)?;
        let text = response.text();
        return Ok((response, text));
    }
    let mut decoder = format.decoder("recorded");
    let mut text = String::new();
    let mut drain = |decoder: &mut apex_agents::model::StreamDecoder| {
        while let Some(event) = decoder.next() {
            if let ModelEvent::Text(piece) = event {
                text += &piece;
            }
        }
    };
    for slice in exchange.body.chunks(slice) {
        decoder.feed(slice)?;
        drain(&mut decoder);
    }
    let response = decoder.finish()?;
    drain(&mut decoder);
    Ok((response, text))
}

fn finish_fits(finish: &Finish, expected: &Expected) -> bool {
    match expected.finish.as_str() {
        "stop" | "completed" | "end_turn" | "STOP" if expected.calls.is_empty() => {
            *finish == Finish::Stop
        }
        "stop" | "completed" | "STOP" | "tool_calls" | "tool_use" => *finish == Finish::ToolCalls,
        "length" | "max_tokens" | "MAX_TOKENS" => *finish == Finish::Length,
        "incomplete" => matches!(finish, Finish::Length | Finish::Refused),
        "refusal" | "content_filter" | "SAFETY" => *finish == Finish::Refused,
        "pause_turn" => *finish == Finish::Paused,
        other => *finish == Finish::Other(other.to_owned()),
    }
}

/// What a recorded refusal is.
fn reason(exchange: &Exchange) -> FaultReason {
    let body = String::from_utf8_lossy(&exchange.body);
    match exchange.status {
        429 if body.contains("insufficient_quota") => FaultReason::Quota,
        429 => FaultReason::RateLimited,
        401 | 403 => FaultReason::Key,
        404 => FaultReason::UnknownModel,
        _ if body.contains("model_not_found") => FaultReason::UnknownModel,
        529 => FaultReason::Overloaded,
        500.. => FaultReason::Failed,
        _ => FaultReason::BadRequest,
    }
}

fn check(format: Format, exchange: &Exchange) {
    let name = exchange.name();
    if exchange.status >= 400 {
        let error = decode(format, exchange, usize::MAX).unwrap_err();
        let fault = ModelFault::of(&error).unwrap();
        assert_eq!(fault.reason, reason(exchange), "{name}: {error}");
        assert_eq!(fault.status, Some(exchange.status), "{name}");
        return;
    }
    let expected = expected(format, exchange.streamed, &exchange.body);
    if expected.error {
        let error = decode(format, exchange, usize::MAX).unwrap_err();
        assert!(ModelFault::of(&error).is_some(), "{name}: {error}");
        return;
    }
    let (response, streamed) = decode(format, exchange, usize::MAX).unwrap_or_else(|error| {
        panic!("{name}: {error:?}");
    });
    assert_eq!(response.text(), expected.text, "{name}");
    assert_eq!(streamed, expected.text, "{name}");
    let calls: Vec<_> =
        response.tool_calls().map(|call| (call.name.clone(), call.arguments().unwrap())).collect();
    assert_eq!(calls, expected.calls, "{name}");
    let ids: std::collections::HashSet<_> = response.tool_calls().map(|call| &call.id).collect();
    assert_eq!(ids.len(), calls.len(), "{name}: results are matched by ids");
    assert!(
        finish_fits(&response.finish, &expected),
        "{name}: {:?} for {:?}",
        response.finish,
        expected.finish
    );
    assert_eq!(response.usage.as_ref().map(|usage| usage.tokens), expected.tokens, "{name}");
    for slice in [1, 7, 1_000] {
        let sliced = decode(format, exchange, slice).unwrap();
        assert_eq!(sliced, (response.clone(), streamed.clone()), "{name} in slices of {slice}");
    }
}

/// A stream that was taken up again in its middle holds the rest only: nothing of ours asks for that.
fn continues(exchange: &Exchange) -> bool {
    exchange.url.contains("starting_after")
}

/// What stands in an answer beside text, thoughts and calls of ours.
fn passed_over(exchange: &Exchange) -> Option<&'static str> {
    let body = String::from_utf8_lossy(&exchange.body);
    [
        "server_tool_use",
        "mcp_tool_use",
        "compaction_delta",
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "tool_search_call",
        "mcp_call",
        "executableCode",
        "toolCall",
        "groundingMetadata",
    ]
    .into_iter()
    .find(|kind| body.contains(kind))
}

#[test]
fn every_recorded_answer_decodes_to_what_it_holds() {
    let mut covered: BTreeMap<String, usize> = BTreeMap::new();
    for exchange in exchanges() {
        match exchange.format() {
            Ok(_) if continues(&exchange) => {
                println!("not covered: {}: continues a stream", exchange.name());
            }
            Ok(format) => {
                if let Some(kind) = passed_over(&exchange) {
                    println!(
                        "covered but for {kind}: {}: the provider's own tools are passed over",
                        exchange.name()
                    );
                }
                check(format, &exchange);
                *covered.entry(format!("{format:?}")).or_default() += 1;
            }
            Err(reason) => println!("not covered: {}: {reason}", exchange.name()),
        }
    }
    println!("covered: {covered:?}");
}

#[test]
fn a_stream_that_is_cut_anywhere_is_never_an_answer() {
    for exchange in exchanges().iter().filter(|e| e.streamed && e.status == 200) {
        let Ok(format) = exchange.format() else {
            continue;
        };
        let whole = expected(format, true, &exchange.body);
        if whole.error || continues(exchange) {
            continue;
        }
        // Up to where the provider says why it stops, nothing may pass for an answer.
        let text = std::str::from_utf8(&exchange.body).unwrap();
        let says_why = match format {
            Format::OpenAiChat => "\"finish_reason\":\"",
            Format::OpenAiResponses => "event: response.completed",
            Format::Anthropic => "\"stop_reason\":\"",
            _ => "\"finishReason\": \"",
        };
        let Some(end) = text.find(says_why) else {
            continue;
        };
        for part in [0.2, 0.5, 0.9, 1.0] {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let cut = (end as f64 * part) as usize;
            let mut decoder = format.decoder("recorded");
            decoder.feed(&exchange.body[..cut]).unwrap();
            let error = decoder.finish().unwrap_err();
            assert_eq!(
                ModelFault::of(&error).unwrap().reason,
                FaultReason::Broken,
                "{} cut at {cut}",
                exchange.name()
            );
        }
    }
}

#[test]
fn only_the_providers_own_tools_make_counts_contradict_each_other() {
    let exchanges = exchanges();
    let flagged = |exchange: &&Exchange| {
        let gemini = exchange.format() == Ok(Format::Gemini) && exchange.status == 200;
        gemini
            && decode(Format::Gemini, exchange, usize::MAX)
                .is_ok_and(|(response, _)| response.usage.is_some_and(|usage| usage.estimated))
    };
    let flagged: Vec<_> = exchanges.iter().filter(flagged).collect();
    for exchange in &flagged {
        let tools = exchange.asked["tools"].as_array().unwrap();
        let own = |tool: &Value| tool.get("functionDeclarations").is_none();
        assert!(tools.iter().any(own), "{}", exchange.name());
    }
    let known = "test_structured_output__test_native_output_with_builtin_tools_stream";
    assert!(exchanges.is_empty() || flagged.iter().any(|exchange| exchange.file == known));
}
