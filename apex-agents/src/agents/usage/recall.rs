use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::thread::{Found, SearchQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was found of what was said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::agents) struct Recalled {
    pub(in crate::agents) found: Vec<Found>,
    /// Whether one of the words was enough, because nothing holds all of them.
    pub(in crate::agents) any: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// What is looked for.
    query: SearchQuery,
}

/// Finds what was said in the user's conversations, by its words.
pub(in crate::agents) fn search_threads() -> impl Tool {
    tool_fn(
        "search_threads",
        "Finds what was asked and answered in the user's own conversations, by its words.",
        |wanted: Wanted, call: ToolContext| async move {
            let mut query = wanted.query;
            let mut found = call.search(&query).await?;
            if found.is_empty() && !query.any {
                query.any = true;
                found = call.search(&query).await?;
            }
            call.summarise(match found.len() {
                0 => "nothing was found".to_owned(),
                1 => "one message was found".to_owned(),
                n => format!("{n} messages were found"),
            });
            Ok(Recalled { found, any: query.any })
        },
    )
    .effect(Effect::Read)
    .untrusted()
}
