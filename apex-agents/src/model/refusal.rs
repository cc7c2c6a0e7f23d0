//! Reads a provider's refusal: the body of an error response, or an error in the middle of a stream. The providers
//! and their imitators differ in details only, so one reading serves all.

use super::answer::ModelUsage;
use super::draft::Draft;
use super::fault::{FaultReason, ModelFault};
use apex_core::error::Error;
use serde_json::Value;
use std::time::Duration;

/// Words that say that the account is spent, whatever the status.
const QUOTA: &[&str] = &[
    "insufficient_quota",
    "billing_not_active",
    "billing_hard_limit_reached",
    "billing_error",
    "insufficient_balance",
    "spend_limit_reached",
];

/// The same in sentences.
const QUOTA_SENTENCES: &[&str] = &[
    "credit balance is too low",
    "exceeded your current quota, please check your plan",
    "spend limit",
    "specified api usage limits",
    "insufficient credits",
    "insufficient balance",
];

/// Sentences that say that the conversation is too long.
const TOO_LONG_SENTENCES: &[&str] = &[
    "prompt is too long",
    "maximum context length",
    "exceeds the maximum number of tokens",
    "context window",
];

/// The error that came in the middle of a stream, with what was used by then.
pub(crate) fn in_stream(draft: &Draft, error: &Value) -> Error {
    classify(&draft.provider, 200, error, draft.usage.clone())
}

/// The error that a refusal is. `status` is that of the response, which in the middle of a stream is 200.
pub(crate) fn read(provider: &str, status: u16, body: &Value) -> Error {
    classify(provider, status, body, None)
}

fn classify(provider: &str, status: u16, body: &Value, usage: Option<ModelUsage>) -> Error {
    let body = body.get(0).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let text = |key: &str| match error.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let message = text("message").or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
    let words = [text("code"), text("type"), text("status")];
    let named = |list: &[&str]| words.iter().flatten().any(|word| list.contains(&word.as_str()));
    // Some repeat the status within, which is the true one in a stream.
    let status = if status < 300 {
        ["status_code", "code"]
            .iter()
            .find_map(|key| error.get(key)?.as_u64())
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(status)
    } else {
        status
    };
    let details = error.get("details").and_then(Value::as_array);
    let details = || details.into_iter().flatten();
    let lower = message.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|sentence| lower.contains(sentence));
    let per_day = details()
        .filter_map(|detail| detail.get("violations")?.as_array())
        .flatten()
        .filter_map(|violation| violation.get("quotaId")?.as_str())
        .any(|quota| quota.contains("PerDay"));
    let bad_key = details()
        .filter_map(|detail| detail.get("reason")?.as_str())
        .any(|reason| reason == "API_KEY_INVALID");

    let reason = if status == 402 || named(QUOTA) || says(QUOTA_SENTENCES) || per_day {
        FaultReason::Quota
    } else if matches!(status, 401 | 403)
        || bad_key
        || named(&[
            "authentication_error",
            "permission_error",
            "invalid_api_key",
            "UNAUTHENTICATED",
            "PERMISSION_DENIED",
        ])
    {
        FaultReason::Key
    } else if status == 404 || named(&["model_not_found", "not_found_error", "NOT_FOUND"]) {
        FaultReason::UnknownModel
    } else if status == 429
        || named(&["rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"])
    {
        FaultReason::RateLimited
    } else if matches!(status, 503 | 529)
        || named(&["overloaded_error", "server_overloaded", "UNAVAILABLE"])
    {
        FaultReason::Overloaded
    } else if status == 413
        || named(&["context_length_exceeded", "request_too_large"])
        || says(TOO_LONG_SENTENCES)
    {
        FaultReason::TooLong
    } else if matches!(status, 408 | 409)
        || status >= 500
        || named(&["api_error", "server_error", "timeout_error", "INTERNAL"])
    {
        FaultReason::Failed
    } else {
        FaultReason::BadRequest
    };
    let wait = details().filter_map(|detail| detail.get("retryDelay")?.as_str()).find_map(seconds);
    let fault = ModelFault {
        status: Some(status),
        code: words.into_iter().flatten().next(),
        request: body.get("request_id").and_then(Value::as_str).map(str::to_owned),
        usage,
        ..ModelFault::new(provider, reason)
    };
    // What is said about a key may repeat parts of it.
    let words = if reason == FaultReason::Key { "" } else { &message };
    fault.error(words, wait)
}

/// `34.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s')?.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason(status: u16, body: &Value) -> FaultReason {
        ModelFault::of(&read("x", status, body)).unwrap().reason
    }

    #[test]
    fn refusals_are_classed_by_what_helps() {
        let openai = |kind: &str| json!({"error": {"message": "m", "type": kind, "code": kind}});
        let anthropic =
            |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "m"}});
        for (status, body, expected) in [
            (429, openai("insufficient_quota"), FaultReason::Quota),
            (429, openai("rate_limit_exceeded"), FaultReason::RateLimited),
            (400, openai("context_length_exceeded"), FaultReason::TooLong),
            (401, openai("invalid_api_key"), FaultReason::Key),
            (529, anthropic("overloaded_error"), FaultReason::Overloaded),
            (200, anthropic("overloaded_error"), FaultReason::Overloaded),
            (200, anthropic("rate_limit_error"), FaultReason::RateLimited),
            (500, json!(null), FaultReason::Failed),
            (400, json!({"error": "what?"}), FaultReason::BadRequest),
            (
                400,
                json!({"error": {"message": "Your credit balance is too low to access it."}}),
                FaultReason::Quota,
            ),
            (200, json!({"error": {"message": "m", "status_code": 400}}), FaultReason::BadRequest),
            (
                400,
                json!({"error": {"code": 400, "status": "INVALID_ARGUMENT",
                    "details": [{"reason": "API_KEY_INVALID"}]}}),
                FaultReason::Key,
            ),
            (
                429,
                json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [
                    {"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]}}),
                FaultReason::Quota,
            ),
        ] {
            assert_eq!(reason(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_wait_that_gemini_asks_for_is_in_the_details() {
        let body = json!([{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "…RetryInfo", "retryDelay": "34.5s"}]}}]);
        let error = read("gemini", 429, &body);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(34_500)));
    }

    #[test]
    fn words_about_a_key_are_not_repeated() {
        let body = json!({"error": {"message": "Incorrect API key provided: sk-live-1234"}});
        assert!(!format!("{:?}", read("openai", 401, &body)).contains("sk-live"));
    }
}
