//! graph-flow, which knows neither models nor tools: a task that asks and one that adds, in a circle, with what was said
//! in the chat history of the session. It saves the session when the graph pauses, which here is at the end.

use super::Contender;
use crate::job::{ANSWER, ARGUMENTS, Job, QUESTION, TOOL, Turn};
use async_trait::async_trait;
use futures::FutureExt;
use graph_flow::{
    Context, FlowRunner, GraphBuilder, InMemorySessionStorage, NextAction, Result, Session,
    SessionStorage, Task, TaskResult,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MODEL: &str = "model";
const RESULTS: &str = "results";

pub fn contender(job: Job) -> Contender {
    let graph = GraphBuilder::new("sums")
        .add_task(Arc::new(Asks(job.clone())))
        .add_task(Arc::new(Adds(job)))
        .add_edge(MODEL, TOOL.0)
        .add_edge(TOOL.0, MODEL)
        .set_start_task(MODEL)
        // Runs that wait are to wait.
        .with_task_timeout(Duration::from_secs(3_600))
        .build()
        .unwrap();
    let sessions = Arc::new(InMemorySessionStorage::new());
    let runner =
        Arc::new(FlowRunner::new(Arc::new(graph), Arc::<InMemorySessionStorage>::clone(&sessions)));
    let next = AtomicUsize::new(0);
    Box::new(move || {
        let session = format!("session-{}", next.fetch_add(1, Ordering::Relaxed));
        run(Arc::clone(&runner), Arc::clone(&sessions), session).boxed()
    })
}

async fn run(runner: Arc<FlowRunner>, sessions: Arc<InMemorySessionStorage>, id: String) {
    let session = Session::new_from_task(id.clone(), MODEL);
    session.context.add_user_message(QUESTION.to_owned());
    sessions.save(session).await.unwrap();
    let ended = runner.run(&id).await.unwrap();
    assert_eq!(ended.response.as_deref(), Some(ANSWER));
    sessions.delete(&id).await.unwrap();
}

struct Asks(Job);

#[async_trait]
impl Task for Asks {
    fn id(&self) -> &str {
        MODEL
    }

    async fn run(&self, context: Context) -> Result<TaskResult> {
        let results: usize = context.get(RESULTS).unwrap_or_default();
        let (said, next) = match self.0.turn(results) {
            Turn::Call => (ARGUMENTS, NextAction::ContinueAndExecute),
            Turn::Answer => (ANSWER, NextAction::End),
        };
        context.add_assistant_message(said.to_owned());
        Ok(TaskResult::new(Some(said.to_owned()), next))
    }
}

struct Adds(Job);

#[async_trait]
impl Task for Adds {
    fn id(&self) -> &str {
        TOOL.0
    }

    async fn run(&self, context: Context) -> Result<TaskResult> {
        let wanted = context.get_last_messages(1).pop().unwrap();
        let sum = self.0.add(serde_json::from_str(&wanted.content).unwrap()).await;
        let results: usize = context.get(RESULTS).unwrap_or_default();
        context.set(RESULTS, results + 1)?;
        context.add_system_message(sum.to_string());
        Ok(TaskResult::new(None, NextAction::ContinueAndExecute))
    }
}
