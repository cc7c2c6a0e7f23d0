//! ADK-Rust: an agent behind a runner, a session in memory for each run, its events read; the session is deleted at the
//! end, for it would be kept for good.

use super::Contender;
use crate::job::{ANSWER, ARGUMENTS, Add, INSTRUCTIONS, Job, QUESTION, TOOL, Turn};
use adk_agent::LlmAgentBuilder;
use adk_core::{
    Content, FinishReason, Llm, LlmRequest, LlmResponse, LlmResponseStream, Part, Result,
};
use adk_runner::Runner;
use adk_session::{CreateRequest, DeleteRequest, InMemorySessionService, SessionService};
use adk_tool::FunctionTool;
use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;

const APP: &str = "sums";
const USER: &str = "ada";

pub fn contender(job: Job) -> Contender {
    let sessions: Arc<dyn SessionService> = Arc::new(InMemorySessionService::new());
    let limit = u32::try_from(job.limit()).unwrap();
    let agent = LlmAgentBuilder::new(APP)
        .instruction(INSTRUCTIONS)
        .model(Arc::new(Fake(job.clone())))
        .tool(Arc::new(tool(job)))
        .max_iterations(limit)
        .build()
        .unwrap();
    let runner = Runner::builder()
        .app_name(APP)
        .agent(Arc::new(agent))
        .session_service(Arc::clone(&sessions));
    let runner = Arc::new(runner.build().unwrap());
    Box::new(move || run(Arc::clone(&runner), Arc::clone(&sessions)).boxed())
}

fn tool(job: Job) -> FunctionTool {
    FunctionTool::new(TOOL.0, TOOL.1, move |_, arguments| {
        let job = job.clone();
        async move {
            let numbers: Add = serde_json::from_value(arguments).unwrap();
            Ok(job.add(numbers).await.into())
        }
    })
    .with_parameters_schema::<Add>()
}

async fn run(runner: Arc<Runner>, sessions: Arc<dyn SessionService>) {
    let (app_name, user_id) = (APP.to_owned(), USER.to_owned());
    let wanted = CreateRequest { app_name, user_id, session_id: None, state: HashMap::new() };
    let session = sessions.create(wanted).await.unwrap();
    let question = Content::new("user").with_text(QUESTION);
    let mut events = runner.run_str(USER, session.id(), question).await.unwrap();
    let mut answer = None;
    while let Some(event) = events.next().await {
        answer = event
            .unwrap()
            .llm_response
            .content
            .and_then(|content| content.parts.into_iter().next());
    }
    assert!(matches!(answer, Some(Part::Text { text }) if text == ANSWER));
    let (app_name, user_id, session_id) =
        (APP.to_owned(), USER.to_owned(), session.id().to_owned());
    sessions.delete(DeleteRequest { app_name, user_id, session_id }).await.unwrap();
}

struct Fake(Job);

#[async_trait]
impl Llm for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    async fn generate_content(&self, request: LlmRequest, _: bool) -> Result<LlmResponseStream> {
        let parts = request.contents.iter().flat_map(|content| &content.parts);
        let results = parts.filter(|part| matches!(part, Part::FunctionResponse { .. })).count();
        let said = match self.0.turn(results) {
            Turn::Call => call(results),
            Turn::Answer => Part::Text { text: ANSWER.to_owned() },
        };
        let content = Content { role: "model".to_owned(), parts: vec![said] };
        let response =
            LlmResponse { finish_reason: Some(FinishReason::Stop), ..LlmResponse::new(content) };
        Ok(stream::iter([Ok(response)]).boxed())
    }
}

fn call(results: usize) -> Part {
    Part::FunctionCall {
        name: TOOL.0.to_owned(),
        args: serde_json::from_str(ARGUMENTS).unwrap(),
        id: Some(format!("call-{results}")),
        thought_signature: None,
    }
}
