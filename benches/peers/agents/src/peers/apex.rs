//! Apex: a declared agent, every event of each run read by its user.

use super::Contender;
use crate::job::{ANSWER, ARGUMENTS, Add, INSTRUCTIONS, Job, QUESTION, TOOL, Turn};
use async_trait::async_trait;
use futures::FutureExt;
use netra_apex::agents::EngineOptions;
use netra_apex::agents::model::{
    ChainLink, Finish, ModelEvent, ModelProvider, ModelRequest, ModelResponse, ModelStream, Part,
    ToolCall,
};
use netra_apex::core::config::DatabaseUrl;
use netra_apex::core::run::RunLimits;
use netra_apex::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Runs are those of so many users.
const USERS: usize = 50;

pub async fn contender(job: Job, database: Option<&Path>) -> Contender {
    let builder = Apex::builder()
        .registry(registry(&job))
        .model(ChainLink::new(Arc::new(Fake(job)), "gpt-4o"))
        .runs(limits())
        .engine(EngineOptions { parallel_runs: 100_000, ..EngineOptions::default() });
    let builder = match database {
        Some(path) => builder.database(DatabaseUrl::sqlite(path.to_string_lossy())),
        None => builder,
    };
    let apex = Arc::new(builder.build().await.unwrap());
    let mut users = Vec::new();
    for n in 0..USERS {
        users.push(apex.user(&format!("user-{n}")).await.unwrap());
    }
    let next = AtomicUsize::new(0);
    Box::new(move || {
        let user = users[next.fetch_add(1, Ordering::Relaxed) % USERS].clone();
        run(Arc::clone(&apex), user).boxed()
    })
}

fn registry(job: &Job) -> Registry {
    let turns = u32::try_from(job.limit()).unwrap();
    let job = job.clone();
    let add = tool_fn(TOOL.0, TOOL.1, move |numbers: Add, _: ToolContext| {
        let job = job.clone();
        async move { Ok(job.add(numbers).await) }
    });
    let sums = agent("sums").instructions(INSTRUCTIONS).tools([TOOL.0]).turns(turns);
    Registry::default().tool(add.effect(Effect::Read)).agent(sums)
}

/// No run waits for a place, and logs are dropped as early as they can be.
fn limits() -> RunLimits {
    RunLimits { running: 1_000, history_age: Duration::from_secs(60), ..RunLimits::default() }
}

async fn run(apex: Arc<Apex>, user: Principal) {
    let run = apex.start(&user, QUESTION, Vec::new()).await.unwrap().run;
    let mut events = apex.follow(&user, run).await.unwrap();
    let mut answer = None;
    while let Some(envelope) = events.next().await.unwrap() {
        if let Event::RunCompleted { result, .. } = envelope.event {
            answer = Some(result.text);
        }
    }
    assert_eq!(answer.as_deref(), Some(ANSWER));
}

#[derive(Debug)]
struct Fake(Job);

#[async_trait]
impl ModelProvider for Fake {
    fn name(&self) -> &str {
        "openai"
    }

    async fn complete(&self, model: &str, request: &ModelRequest) -> Result<ModelResponse> {
        self.stream(model, request).await?.whole().await
    }

    async fn stream(&self, model: &str, request: &ModelRequest) -> Result<ModelStream> {
        let response = self.response(model, request);
        Ok(ModelStream::new(|writer| async move {
            let said = response.text();
            if !said.is_empty() {
                writer.send(ModelEvent::Text(said)).await;
            }
            writer.send(ModelEvent::Done(Box::new(response))).await;
            Ok(())
        }))
    }
}

impl Fake {
    fn response(&self, model: &str, request: &ModelRequest) -> ModelResponse {
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        let results = parts.filter(|part| matches!(part, Part::ToolResult(_))).count();
        let (part, finish) = match self.0.turn(results) {
            Turn::Call => (call(results), Finish::ToolCalls),
            Turn::Answer => (Part::Text(ANSWER.to_owned()), Finish::Stop),
        };
        ModelResponse {
            model: model.to_owned(),
            parts: vec![part],
            finish,
            ..ModelResponse::default()
        }
    }
}

fn call(results: usize) -> Part {
    Part::ToolCall(ToolCall {
        id: format!("call-{results}"),
        name: TOOL.0.to_owned(),
        arguments: ARGUMENTS.to_owned(),
        signature: None,
    })
}
