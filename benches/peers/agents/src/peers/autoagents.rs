//! AutoAgents: a ReAct agent with a memory of its own, made for each run, and its events read.

use super::Contender;
use crate::job::{ANSWER, ARGUMENTS, Add, INSTRUCTIONS, Job, QUESTION, TOOL, Turn};
use async_trait::async_trait;
use autoagents::core::agent::memory::SlidingWindowMemory;
use autoagents::core::agent::prebuilt::executor::ReActAgent;
use autoagents::core::agent::task::Task;
use autoagents::core::agent::{AgentBuilder, AgentDeriveT, AgentHooks, DirectAgent};
use autoagents::core::tool::{ToolCallError, ToolRuntime, ToolT};
use autoagents::llm::chat::{
    ChatMessage, ChatProvider, ChatResponse, ChatRole, StructuredOutputFormat, Tool,
};
use autoagents::llm::completion::{CompletionProvider, CompletionRequest, CompletionResponse};
use autoagents::llm::embedding::EmbeddingProvider;
use autoagents::llm::error::LLMError;
use autoagents::llm::models::ModelsProvider;
use autoagents::llm::{FunctionCall, LLMProvider, ToolCall};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

pub fn contender(job: Job) -> Contender {
    let model: Arc<dyn LLMProvider> = Arc::new(Fake(job.clone()));
    Box::new(move || run(job.clone(), Arc::clone(&model)).boxed())
}

async fn run(job: Job, model: Arc<dyn LLMProvider>) {
    let limit = job.limit();
    let agent = ReActAgent::with_max_turns(Sums(job), limit);
    let memory = Box::new(SlidingWindowMemory::new(2 * limit));
    let mut handle =
        AgentBuilder::<_, DirectAgent>::new(agent).llm(model).memory(memory).build().await.unwrap();
    assert_eq!(handle.agent.run(Task::new(QUESTION)).await.unwrap(), ANSWER);
    // They stand in the agent's channel.
    while let Some(Some(event)) = handle.rx.next().now_or_never() {
        drop(event);
    }
}

#[derive(Debug, Clone)]
struct Sums(Job);

impl AgentDeriveT for Sums {
    type Output = String;

    fn name(&self) -> &str {
        "sums"
    }

    fn description(&self) -> &str {
        INSTRUCTIONS
    }

    fn output_schema(&self) -> Option<Value> {
        None
    }

    fn tools(&self) -> Vec<Box<dyn ToolT>> {
        vec![Box::new(Adds(self.0.clone()))]
    }
}

impl AgentHooks for Sums {}

#[derive(Debug)]
struct Adds(Job);

impl ToolT for Adds {
    fn name(&self) -> &str {
        TOOL.0
    }

    fn description(&self) -> &str {
        TOOL.1
    }

    fn args_schema(&self) -> Value {
        let number = json!({"type": "integer"});
        json!({"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]})
    }
}

#[async_trait]
impl ToolRuntime for Adds {
    async fn execute(&self, arguments: Value) -> Result<Value, ToolCallError> {
        let numbers: Add = serde_json::from_value(arguments)?;
        Ok(self.0.add(numbers).await.into())
    }
}

struct Fake(Job);

#[async_trait]
impl ChatProvider for Fake {
    async fn chat_with_tools(
        &self,
        messages: &[ChatMessage],
        _: Option<&[Tool]>,
        _: Option<StructuredOutputFormat>,
    ) -> Result<Box<dyn ChatResponse>, LLMError> {
        let results = messages.iter().filter(|message| message.role == ChatRole::Tool).count();
        Ok(Box::new(match self.0.turn(results) {
            Turn::Call => Said(None, Some(vec![call(results)])),
            Turn::Answer => Said(Some(ANSWER.to_owned()), None),
        }))
    }
}

fn call(results: usize) -> ToolCall {
    let function = FunctionCall { name: TOOL.0.to_owned(), arguments: ARGUMENTS.to_owned() };
    ToolCall { id: format!("call-{results}"), call_type: "function".to_owned(), function }
}

#[async_trait]
impl CompletionProvider for Fake {
    async fn complete(
        &self,
        _: &CompletionRequest,
        _: Option<StructuredOutputFormat>,
    ) -> Result<CompletionResponse, LLMError> {
        Ok(CompletionResponse { text: String::new() })
    }
}

#[async_trait]
impl EmbeddingProvider for Fake {
    async fn embed(&self, _: Vec<String>) -> Result<Vec<Vec<f32>>, LLMError> {
        Ok(Vec::new())
    }
}

impl ModelsProvider for Fake {}

impl LLMProvider for Fake {}

#[derive(Debug)]
struct Said(Option<String>, Option<Vec<ToolCall>>);

impl ChatResponse for Said {
    fn text(&self) -> Option<String> {
        self.0.clone()
    }

    fn tool_calls(&self) -> Option<Vec<ToolCall>> {
        self.1.clone()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or_default())
    }
}
