//! A tool of an MCP server as a tool here.

use super::connection::Connection;
use super::server::McpServer;
use crate::text::clip;
use crate::tool::{AnyTool, Approvals, Effect, LookUp, Shape, ToolContext};
use apex_core::error::{Error, Kind, Result};
use async_trait::async_trait;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest description, in bytes of JSON: models are sent it.
const LONGEST_DESCRIPTION: usize = 2 * 1024;

/// The largest result, in bytes of JSON.
const MOST_RESULT: usize = 4 * 1024 * 1024;

/// The longest failure that a tool tells, in bytes.
const LONGEST_FAILURE: usize = 1024;

pub(super) struct ServerTool {
    name: String,
    /// As the server names it.
    theirs: String,
    description: String,
    schema: Value,
    output: Option<Shape>,
    effect: Effect,
    leaves: bool,
    needs_approval: bool,
    timeout: Duration,
    connection: Arc<Connection>,
}

impl ServerTool {
    /// # Errors
    /// What is wrong with what the server says of it.
    pub(super) fn new(
        name: String,
        tool: Tool,
        server: &McpServer,
        connection: &Arc<Connection>,
    ) -> std::result::Result<Self, String> {
        let hints = tool.annotations.filter(|_| server.hints);
        let effect = effect(hints.as_ref());
        let needs_approval = match server.approval {
            Approvals::Always => true,
            Approvals::Writes => effect != Effect::Read,
            Approvals::Never => false,
        };
        let output = tool.output_schema.map(|schema| Value::Object((*schema).clone()));
        Ok(Self {
            name,
            theirs: tool.name.into_owned(),
            description: clip(tool.description.as_deref().unwrap_or_default(), LONGEST_DESCRIPTION)
                .into_owned(),
            schema: Value::Object((*tool.input_schema).clone()),
            output: output.map(|schema| Shape::compile(&schema)).transpose()?,
            effect,
            // One that reads from the open world tells it what it is asked.
            leaves: effect != Effect::Read
                || hints.is_none_or(|hints| hints.open_world_hint != Some(false)),
            needs_approval,
            timeout: server.timeout,
            connection: Arc::clone(connection),
        })
    }

    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// What the server gave back, as a value: what is structured, else its text, else its parts.
    fn value(&self, result: CallToolResult) -> Result<Value> {
        if result.is_error == Some(true) {
            let told = texts(&result.content).join("\n");
            let told = if told.is_empty() { "it did not say why" } else { &told };
            return Err(Error::new(
                Kind::ToolFailed,
                "mcp.call",
                format!("{} failed: {}", self.name, clip(told, LONGEST_FAILURE)),
            ));
        }
        let value = match (result.structured_content, &self.output) {
            (Some(value), Some(shape)) => match shape.faults(&value) {
                None => value,
                Some(faults) => {
                    return Err(self.bad(format!("does not fit its schema: {faults}")));
                }
            },
            (Some(value), None) => value,
            (None, Some(_)) => return Err(self.bad("lacks what its schema promises".to_owned())),
            (None, None) => match texts(&result.content) {
                texts if texts.len() == result.content.len() => Value::String(texts.join("\n")),
                _ => serde_json::to_value(&result.content)
                    .map_err(|error| self.bad(format!("is not JSON: {error}")))?,
            },
        };
        let size = value.to_string().len();
        if size > MOST_RESULT {
            return Err(Error::new(
                Kind::TooLarge,
                "mcp.call",
                format!(
                    "what {} gave back has {size} bytes, more than the {MOST_RESULT} that are taken",
                    self.name
                ),
            ));
        }
        Ok(value)
    }

    fn bad(&self, what: String) -> Error {
        Error::new(Kind::BadOutput, "mcp.call", format!("what {} gave back {what}", self.name))
    }
}

/// What making a call twice does, by what the server says of it. One that does not say writes, and is called once.
fn effect(hints: Option<&ToolAnnotations>) -> Effect {
    match hints {
        Some(hints) if hints.read_only_hint == Some(true) => Effect::Read,
        Some(hints) if hints.idempotent_hint == Some(true) => Effect::Idempotent,
        _ => Effect::Once,
    }
}

fn texts(content: &[ContentBlock]) -> Vec<&str> {
    let text = |block| match block {
        &ContentBlock::Text(ref text) => Some(text.text.as_str()),
        _ => None,
    };
    content.iter().filter_map(text).collect()
}

impl fmt::Debug for ServerTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tool({})", self.name)
    }
}

#[async_trait]
impl AnyTool for ServerTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn is_untrusted(&self) -> bool {
        true
    }

    fn leaves(&self) -> bool {
        self.leaves
    }

    fn arguments_schema(&self) -> Value {
        self.schema.clone()
    }

    fn needs_approval(&self, _: &Value) -> bool {
        self.needs_approval
    }

    /// The protocol has no way to ask what came of a call.
    async fn look_up(&self, _: Value, _: ToolContext) -> Result<LookUp<Value>> {
        Ok(LookUp::Unknown)
    }

    async fn call(&self, arguments: Value, context: ToolContext) -> Result<Value> {
        let arguments = match arguments {
            Value::Object(fields) => fields,
            Value::Null => JsonObject::new(),
            other => {
                let told =
                    format!("the arguments of {} are {}, not an object", self.name, kind(&other));
                return Err(Error::new(Kind::BadArguments, "mcp.call", told));
            }
        };
        let result = self.connection.call(&self.theirs, arguments, &context).await?;
        self.value(result)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_does_not_say_writes_once() {
        let hints = ToolAnnotations::new;
        assert_eq!(effect(None), Effect::Once);
        assert_eq!(effect(Some(&hints())), Effect::Once);
        assert_eq!(effect(Some(&hints().read_only(false).idempotent(true))), Effect::Idempotent);
        assert_eq!(effect(Some(&hints().read_only(true))), Effect::Read);
    }
}
