use crate::agents::sources::guide;
use crate::cost::report::words::count;
use crate::cost::{self, Inspection};
use crate::tool::{Effect, Tool, ToolContext, tool_fn};
use apex_core::id::FileId;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
struct OneFile {
    /// The file to look at.
    file: FileId,
}

/// Looks at the first rows of a file.
pub(in crate::agents) fn inspect_usage() -> impl Tool {
    tool_fn(
        "inspect_usage",
        "Looks at the first rows of a file: what it is, which columns it has and which it lacks.",
        |one: OneFile, call: ToolContext| async move {
            let info = call.file(one.file).await?;
            let content = call.open(one.file).await?;
            let found = call.blocking(move |_| cost::inspect(&info.name, content)).await?;
            call.summarise(described(&found));
            Ok(found)
        },
    )
    .effect(Effect::Read)
    .untrusted()
}

fn described(found: &Inspection) -> String {
    let (file, format) = (&found.file, &found.format);
    match &found.refused {
        Some(refused) => format!("{file} cannot be read: {}", refused.reason),
        None => format!(
            "{file}: {format}, {} known columns; of the first {} rows {} are usage records",
            found.columns.len(),
            count(found.rows),
            count(found.usable)
        ),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Fields {
    /// The fields that are missing, as our own format names them.
    fields: Vec<String>,
}

/// Says what a usage file needs and where such files come from.
pub(in crate::agents) fn export_guide() -> impl Tool {
    tool_fn(
        "export_guide",
        "Says what a usage file needs, and how to get one from OpenAI, Anthropic, Gemini, LiteLLM and Langfuse.",
        |missing: Fields, call: ToolContext| async move {
            let guide = guide(&missing.fields);
            call.summarise(format!("{} sources of usage data", guide.sources.len()));
            Ok(guide)
        },
    )
    .effect(Effect::Read)
}
