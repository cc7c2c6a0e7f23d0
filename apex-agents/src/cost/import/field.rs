//! What a record can say, and the names under which exports say it.
//!
//! A name is compared without regard to case, `_`, `-` and blanks; a dot stands for nesting, in a JSON object or in
//! a flattened column. Where several names of one field are present, the one that stands first here counts.

use rustc_hash::{FxHashMap, FxHashSet};

/// What a column or member of a record can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(super) enum Field {
    Time,
    Request,
    User,
    Session,
    Provider,
    Model,
    Status,
    Fault,
    Batch,
    Tier,
    Input,
    Output,
    Cached,
    CacheWrite,
    Reasoning,
    Cost,
    Content,
    Requests,
}

/// How many fields there are.
pub(super) const FIELDS: usize = 18;

/// How a name's figure relates to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Cached tokens are part of the input, reasoning is part of the output.
    Within,
    /// As Anthropic names its input: without the cached tokens, if those are counted as Anthropic does.
    Bare,
    /// The figure comes on top: cache reads and writes on the input, reasoning on the output; or, for an input, it is
    /// without the cached tokens.
    Apart,
}

/// A name of a field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alias {
    pub(super) field: Field,
    pub(super) style: Style,
    /// Its place among the names of the field; the lowest counts.
    pub(super) rank: u16,
}

impl Field {
    /// All fields, in the order of their numbers.
    pub(super) const ALL: [Self; FIELDS] = [
        Self::Time,
        Self::Request,
        Self::User,
        Self::Session,
        Self::Provider,
        Self::Model,
        Self::Status,
        Self::Fault,
        Self::Batch,
        Self::Tier,
        Self::Input,
        Self::Output,
        Self::Cached,
        Self::CacheWrite,
        Self::Reasoning,
        Self::Cost,
        Self::Content,
        Self::Requests,
    ];

    /// Its name in our own format.
    pub(super) fn name(self) -> &'static str {
        names(self).first().map_or("", |(name, _)| name)
    }
}

impl Alias {
    /// The name as this list writes it.
    pub(super) fn written(self) -> &'static str {
        names(self.field).get(usize::from(self.rank)).map_or("", |(name, _)| name)
    }
}

/// What is known about names.
#[derive(Debug)]
pub(super) struct Aliases {
    leaves: FxHashMap<String, Alias>,
    branches: FxHashSet<String>,
}

impl Aliases {
    pub(super) fn new() -> Self {
        let (mut leaves, mut branches) = (FxHashMap::default(), FxHashSet::default());
        for field in Field::ALL {
            for (rank, (name, style)) in names(field).iter().enumerate() {
                let name = folded(name);
                for (dot, _) in name.match_indices('.') {
                    branches.insert(name.get(..dot).unwrap_or_default().to_owned());
                }
                let rank = u16::try_from(rank).unwrap_or(u16::MAX);
                leaves.entry(name).or_insert(Alias { field, style: *style, rank });
            }
        }
        Self { leaves, branches }
    }

    /// What a folded path means.
    pub(super) fn leaf(&self, path: &str) -> Option<Alias> {
        self.leaves.get(path).copied()
    }

    /// Whether something with a meaning can lie below a folded path.
    pub(super) fn is_branch(&self, path: &str) -> bool {
        self.branches.contains(path)
    }
}

/// A name without case, `_`, `-` and blanks.
pub(super) fn folded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    fold_into(name, &mut path);
    path
}

/// Appends a folded name.
pub(super) fn fold_into(name: &str, path: &mut String) {
    path.extend(
        name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase),
    );
}

const W: Style = Style::Within;
const B: Style = Style::Bare;
const A: Style = Style::Apart;

/// The names of a field, our own first.
fn names(field: Field) -> &'static [(&'static str, Style)] {
    match field {
        Field::Time => &[
            ("timestamp", W),
            ("time", W),
            ("time_unix", W),
            ("ts", W),
            ("start_time", W),
            ("request_created_at", W),
            ("request_time", W),
            ("request_timestamp", W),
            ("created_at", W),
            ("created", W),
            ("date_time", W),
            ("date", W),
            ("at", W),
            ("end_time", W),
        ],
        Field::Request => &[
            ("request_id", W),
            ("litellm_call_id", W),
            ("message.id", W),
            ("response.id", W),
            ("response_id", W),
            ("gen_ai.response.id", W),
            ("attributes.gen_ai.response.id", W),
            ("generation_id", W),
            ("call_id", W),
            ("id", W),
        ],
        Field::User => &[
            ("user", W),
            ("user_id", W),
            ("end_user", W),
            ("request_user_id", W),
            ("user_name", W),
            ("user_email", W),
            ("customer", W),
            ("customer_id", W),
            ("api_key_alias", W),
            ("api_key_id", W),
        ],
        Field::Session => &[
            ("session", W),
            ("session_id", W),
            ("conversation_id", W),
            ("thread_id", W),
            ("gen_ai.conversation.id", W),
            ("attributes.gen_ai.conversation.id", W),
            ("trace_id", W),
        ],
        Field::Provider => &[
            ("provider", W),
            ("custom_llm_provider", W),
            ("provider_name", W),
            ("gen_ai.provider.name", W),
            ("attributes.gen_ai.provider.name", W),
            ("gen_ai.system", W),
            ("attributes.gen_ai.system", W),
        ],
        Field::Model => &[
            ("model", W),
            ("main_model", W),
            ("response.model", W),
            ("response_model", W),
            ("message.model", W),
            ("gen_ai.response.model", W),
            ("attributes.gen_ai.response.model", W),
            ("gen_ai.request.model", W),
            ("attributes.gen_ai.request.model", W),
            ("request_model", W),
            ("model_name", W),
            ("provided_model_name", W),
            ("model_permaslug", W),
            ("model_id", W),
        ],
        Field::Status => &[
            ("status", W),
            ("response_status", W),
            ("status_code", W),
            ("http_status", W),
            ("level", W),
            ("outcome", W),
        ],
        Field::Fault => &[("error", W), ("error_code", W), ("error_type", W), ("exception", W)],
        Field::Requests => &[("requests", W), ("num_model_requests", W), ("request_count", W)],
        Field::Batch => &[("batch", W), ("is_batch", W)],
        Field::Tier => &[
            ("service_tier", W),
            ("response.service_tier", W),
            ("usage.service_tier", W),
            ("gen_ai.openai.response.service_tier", W),
            ("attributes.gen_ai.openai.response.service_tier", W),
        ],
        Field::Input => &[
            ("input_tokens", B),
            ("prompt_tokens", W),
            ("uncached_input_tokens", A),
            ("input_uncached_tokens", A),
            ("usage.prompt_tokens", W),
            ("usage.input_tokens", B),
            ("message.usage.input_tokens", B),
            ("response.usage.input_tokens", B),
            ("response.usage.prompt_tokens", W),
            ("gen_ai.usage.input_tokens", W),
            ("attributes.gen_ai.usage.input_tokens", W),
            ("gen_ai.usage.prompt_tokens", W),
            ("attributes.gen_ai.usage.prompt_tokens", W),
            ("usage_details.input", B),
            ("usage_metadata.prompt_token_count", W),
            ("prompt_token_count", W),
            ("input_token_count", W),
            ("tokens_prompt", W),
            ("tokens_in", W),
        ],
        Field::Output => &[
            ("output_tokens", W),
            ("completion_tokens", W),
            ("usage.completion_tokens", W),
            ("usage.output_tokens", W),
            ("message.usage.output_tokens", W),
            ("response.usage.output_tokens", W),
            ("response.usage.completion_tokens", W),
            ("gen_ai.usage.output_tokens", W),
            ("attributes.gen_ai.usage.output_tokens", W),
            ("gen_ai.usage.completion_tokens", W),
            ("attributes.gen_ai.usage.completion_tokens", W),
            ("usage_details.output", W),
            ("usage_metadata.candidates_token_count", W),
            ("candidates_token_count", W),
            ("output_token_count", W),
            ("tokens_completion", W),
            ("tokens_out", W),
        ],
        Field::Cached => &[
            ("cached_tokens", W),
            ("cached_input_tokens", W),
            ("input_cached_tokens", W),
            ("prompt_tokens_details.cached_tokens", W),
            ("input_tokens_details.cached_tokens", W),
            ("usage.prompt_tokens_details.cached_tokens", W),
            ("usage.input_tokens_details.cached_tokens", W),
            ("response.usage.input_tokens_details.cached_tokens", W),
            ("response.usage.prompt_tokens_details.cached_tokens", W),
            ("metadata.usage_object.prompt_tokens_details.cached_tokens", W),
            ("cache_read_input_tokens", A),
            ("usage.cache_read_input_tokens", A),
            ("message.usage.cache_read_input_tokens", A),
            ("response.usage.cache_read_input_tokens", A),
            ("metadata.usage_object.cache_read_input_tokens", A),
            ("usage_details.input_cached_tokens", A),
            ("usage_details.cache_read_input_tokens", A),
            ("usage_details.input_cache_read", A),
            ("gen_ai.usage.cache_read.input_tokens", W),
            ("attributes.gen_ai.usage.cache_read.input_tokens", W),
            ("usage_metadata.cached_content_token_count", W),
            ("cached_content_token_count", W),
            ("prompt_cache_read_tokens", A),
            ("cache_read_tokens", A),
        ],
        Field::CacheWrite => &[
            ("cache_write_tokens", W),
            ("input_cache_write_tokens", W),
            ("usage.prompt_tokens_details.cache_write_tokens", W),
            ("usage.input_tokens_details.cache_write_tokens", W),
            ("cache_creation_input_tokens", A),
            ("usage.cache_creation_input_tokens", A),
            ("message.usage.cache_creation_input_tokens", A),
            ("response.usage.cache_creation_input_tokens", A),
            ("metadata.usage_object.cache_creation_input_tokens", A),
            ("usage_details.cache_creation_input_tokens", A),
            ("usage_details.input_cache_creation", A),
            ("gen_ai.usage.cache_creation.input_tokens", W),
            ("attributes.gen_ai.usage.cache_creation.input_tokens", W),
            ("prompt_cache_write_tokens", A),
        ],
        Field::Reasoning => &[
            ("reasoning_tokens", W),
            ("completion_tokens_details.reasoning_tokens", W),
            ("output_tokens_details.reasoning_tokens", W),
            ("usage.completion_tokens_details.reasoning_tokens", W),
            ("usage.output_tokens_details.reasoning_tokens", W),
            ("response.usage.output_tokens_details.reasoning_tokens", W),
            ("response.usage.completion_tokens_details.reasoning_tokens", W),
            ("gen_ai.usage.reasoning.output_tokens", W),
            ("attributes.gen_ai.usage.reasoning.output_tokens", W),
            ("usage_metadata.thoughts_token_count", A),
            ("thoughts_token_count", A),
        ],
        Field::Cost => &[
            ("cost_usd", W),
            ("cost", W),
            ("recorded_cost_usd", W),
            ("spend", W),
            ("response_cost", W),
            ("total_cost", W),
            ("total_cost_usd", W),
            ("calculated_total_cost", W),
            ("total_price", W),
            ("usage.cost", W),
            ("cost_details.total", W),
        ],
        Field::Content => {
            &[("content_hash", W), ("prompt_hash", W), ("request_hash", W), ("cache_key", W)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_however_they_are_written() {
        let aliases = Aliases::new();
        for name in ["prompt_tokens", "promptTokens", "Prompt Tokens", "PROMPT-TOKENS"] {
            assert_eq!(aliases.leaf(&folded(name)).unwrap().field, Field::Input, "{name}");
        }
        assert!(aliases.is_branch("usage.prompttokensdetails"));
        assert!(!aliases.is_branch("usage.prompttokens"));
    }

    #[test]
    fn every_name_means_one_field() {
        let mut seen = std::collections::HashMap::new();
        for (number, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, number);
            for (name, _) in names(field) {
                assert_eq!(seen.insert(folded(name), field), None, "{name}");
            }
        }
    }
}
