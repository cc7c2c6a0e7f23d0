//! Where usage data comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a file needs, and where to get such files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Guide {
    pub(super) needs: String,
    pub(super) sources: Vec<Origin>,
}

/// One place where usage data comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) how: String,
}

const ORIGINS: [(&str, &str); 5] = [
    (
        "OpenAI",
        "its usage page and API only give sums, so log each response: one JSON line with `timestamp`, `user` and the \
         response's `id`, `model`, `service_tier` and whole `usage` object (for streams ask for \
         `stream_options.include_usage`).",
    ),
    (
        "Anthropic",
        "the console's usage export and the Admin API (`/v1/organizations/usage_report/messages`) only give sums, so \
         log each response: one JSON line with `timestamp`, `user` and the message's `id`, `model` and whole `usage` \
         object (for streams that of the last `message_delta`).",
    ),
    (
        "Gemini",
        "Cloud Billing exports only give sums, so log each response: one JSON line with `timestamp`, `user`, `model` \
         and the whole `usageMetadata` object (of a stream's last chunk).",
    ),
    (
        "LiteLLM",
        "export the proxy's table `LiteLLM_SpendLogs` as CSV (`\\copy \"LiteLLM_SpendLogs\" to 'usage.csv' csv \
         header`) or fetch `GET /spend/logs` for the days in question: `startTime`, `model`, `prompt_tokens`, \
         `completion_tokens`, `spend`, `user` and `metadata` are what is used.",
    ),
    (
        "Langfuse",
        "in the tracing view choose Observations, filter by type Generation and export as CSV or JSON lines; or use \
         the blob storage export of observations, or `GET /api/public/observations?type=GENERATION`.",
    ),
];

/// The guide for files that lack these fields.
pub(super) fn guide(fields: &[String]) -> Guide {
    let lacking = match fields {
        [] => String::new(),
        fields => format!(" Yours lack `{}`.", fields.join("`, `")),
    };
    Guide {
        needs: format!(
            "One row for each request, with `input_tokens` and `output_tokens`; with `model` and `timestamp` it can \
             be priced; with `user`, `session`, `cached_tokens`, `cost_usd` and `status` more can be said.{lacking} \
             Usual other names of these columns are understood."
        ),
        sources: ORIGINS
            .iter()
            .map(|(name, how)| Origin { name: (*name).to_owned(), how: (*how).to_owned() })
            .collect(),
    }
}
