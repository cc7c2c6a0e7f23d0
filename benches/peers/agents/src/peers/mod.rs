//! Who does the job. Each is used as its own documentation says, with a fake model in process, and an end that it checks.

mod adk;
mod apex;
mod autoagents;
mod graph_flow;
mod rig;

use crate::job::Job;
use futures::future::BoxFuture;
use std::path::Path;

/// Starts a run and comes back when it has answered.
pub type Contender = Box<dyn Fn() -> BoxFuture<'static, ()>>;

/// One of them by its name; what is durable writes into the folder.
pub async fn named(name: &str, job: Job, folder: &Path) -> Contender {
    match name {
        "apex" => apex::contender(job, None).await,
        "apex-sqlite" => apex::contender(job, Some(&folder.join("apex.db"))).await,
        "adk" => adk::contender(job),
        "autoagents" => autoagents::contender(job),
        "graph-flow" => graph_flow::contender(job),
        "rig" => rig::contender(job),
        _ => panic!("nobody is called {name}"),
    }
}
