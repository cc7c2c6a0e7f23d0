//! rig: an agent that is made once and prompted for each run.

use super::Contender;
use crate::job::{ANSWER, ARGUMENTS, Add, INSTRUCTIONS, Job, QUESTION, TOOL, Turn};
use futures::FutureExt;
use futures::stream;
use rig_agent::AgentBuilder;
use rig_agent::completion::{CompletionRequest, CompletionResponse, Usage};
use rig_agent::tool::{Tool, ToolContext};
use rig_core::driver::{Exchange, Model, Opened, Opening, Transport};
use rig_core::message::{
    AssistantContent, Message, Origin, ToolCall, ToolFunction, ToolName, UserContent,
};
use rig_core::test_utils::{MockFrame, MockScript};
use serde_json::{Value, json};
use std::convert::Infallible;

pub fn contender(job: Job) -> Contender {
    let limit = job.limit();
    let model = Model::new(MockScript::new("fake"), Fake(job.clone()));
    let agent = AgentBuilder::new(model).preamble(INSTRUCTIONS).tool(Adds(job)).build();
    Box::new(move || {
        let agent = agent.clone();
        async move {
            let said = agent.prompt(QUESTION).max_turns(limit).await.unwrap();
            assert_eq!(said.to_string(), ANSWER);
        }
        .boxed()
    })
}

#[derive(Clone)]
struct Adds(Job);

impl Tool for Adds {
    const NAME: &'static str = TOOL.0;
    type Args = Add;
    type Output = i64;
    type Error = Infallible;

    fn description(&self) -> String {
        TOOL.1.to_owned()
    }

    fn parameters(&self) -> Value {
        let number = json!({"type": "integer"});
        json!({"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]})
    }

    async fn call(&self, _: &mut ToolContext, numbers: Add) -> Result<i64, Infallible> {
        Ok(self.0.add(numbers).await)
    }
}

#[derive(Clone)]
struct Fake(Job);

impl Transport<MockScript> for Fake {
    fn send(&self, request: CompletionRequest, _: Exchange) -> Opening<MockFrame> {
        let results = request.chat_history.iter().filter(|message| is_result(message)).count();
        let said = match self.0.turn(results) {
            Turn::Call => call(results),
            Turn::Answer => AssistantContent::text(ANSWER),
        };
        let origin = Origin::new("fake.api", "fake", "");
        let response = CompletionResponse::new(vec![said], Usage::new(), origin, Value::Null);
        Opening::ready(Opened::new(stream::iter([Ok(MockFrame::Response(Box::new(response)))])))
    }
}

fn is_result(message: &Message) -> bool {
    let Message::User { content } = message else {
        return false;
    };
    content.iter().any(|item| matches!(item, UserContent::ToolResult(_)))
}

fn call(results: usize) -> AssistantContent {
    let name = ToolName::new(TOOL.0).unwrap();
    let function = ToolFunction::new(name, serde_json::from_str(ARGUMENTS).unwrap());
    AssistantContent::ToolCall(ToolCall::from_wire(format!("call-{results}"), function))
}
