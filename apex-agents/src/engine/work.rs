use super::machine::Input;
use super::shared::Shared;
use crate::agent::{Request, Then};
use crate::context::{Asked, Context, Inner};
use crate::failure::Failure;
use crate::stored::Stored;
use crate::tool::{Dispatched, Progress, Shown};
use apex_core::error::Kind;
use apex_core::id::{CallId, StepId};
use apex_core::principal::Principal;
use apex_core::run::Lease;
use futures_util::FutureExt;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A task of a run that has ended.
pub(super) enum Ended {
    Agent(StepId, Result<(Stored, Then), Failure>),
    Call(CallId, Dispatched),
}

impl From<Ended> for Input {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Agent(step, result) => Self::AgentEnded { step, result },
            Ended::Call(call, dispatched) => Self::CallEnded {
                call,
                outcome: dispatched.outcome,
                result: dispatched.result,
                summary: dispatched.summary,
                untrusted: dispatched.untrusted,
            },
        }
    }
}

/// An agent's work on a step.
pub(super) struct AgentTask {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: Lease,
    pub(super) principal: Principal,
    pub(super) request: Request,
    /// What the plan made of the request's words.
    pub(super) question: Option<String>,
    /// Whether the conversation had begun before the run.
    pub(super) continues: bool,
    pub(super) step: StepId,
    pub(super) agent: String,
    /// What other steps hand to it.
    pub(super) handed: Vec<(String, Stored)>,
    pub(super) asks: mpsc::Sender<Asked>,
    pub(super) progress: Progress,
    pub(super) shown: mpsc::Sender<Shown>,
    pub(super) cancelled: CancellationToken,
    /// Whether links in what the run says are looked at.
    pub(super) wary: Arc<AtomicBool>,
}

impl AgentTask {
    /// Runs the agent, whatever it does: a panic is a failure, and what it returns is held against its schema.
    pub(super) async fn run(self) -> Ended {
        let step = self.step;
        let result = self.made().await;
        Ended::Agent(step, result)
    }

    async fn made(self) -> Result<(Stored, Then), Failure> {
        let shared = Arc::clone(&self.shared);
        let name = self.agent.clone();
        let (principal, run, step) = (self.principal.clone(), self.lease.run, self.step);
        let Some(ready) = shared.registry.agents.get(&name) else {
            return Err(Failure::new(
                Kind::AgentFailed,
                format!("there is no agent {name} on this node; add it to its registry"),
            ));
        };
        let input = self.input().await?;
        let work = ready.agent.run(input, self.context());
        let made = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(made) => made?,
            Err(panic) => return Err(Failure::panicked(Kind::AgentPanicked, &name, &*panic)),
        };
        if let Some(faults) = ready.output.faults(&made.output) {
            return Err(Failure::new(
                Kind::BadOutput,
                format!("what {name} returned does not fit its schema: {faults}"),
            ));
        }
        let artifact = format!("{step}-{name}.json");
        let artifacts = &*shared.stores.artifacts;
        let stored = Stored::keep(artifacts, &principal, run, &artifact, made.output).await?;
        Ok((stored, made.then))
    }

    /// The request, and beside its fields what other steps handed on.
    async fn input(&self) -> Result<Value, Failure> {
        let mut input = self.request.input(self.question.as_deref());
        for (agent, stored) in &self.handed {
            let artifacts = &*self.shared.stores.artifacts;
            let value = stored.clone().load(artifacts, &self.principal).await?;
            if let Some(fields) = input.as_object_mut() {
                fields.insert(agent.clone(), value);
            }
        }
        Ok(input)
    }

    fn context(self) -> Context {
        Context::new(Inner {
            principal: self.principal,
            run: self.lease.run,
            thread: self.lease.thread,
            step: self.step,
            continues: self.continues,
            clock: Arc::clone(&self.shared.clock),
            artifacts: Arc::clone(&self.shared.stores.artifacts),
            asks: self.asks,
            progress: self.progress,
            chain: self.shared.options.models.clone(),
            team: Arc::clone(&self.shared.registry.team),
            tools: Arc::clone(&self.shared.registry.specs),
            shown: self.shown,
            text: AtomicU64::new(0),
            cancelled: self.cancelled,
            redact: Arc::clone(&self.shared.options.redact),
            wary: self.wary,
            asked: self.request.text,
            links: Arc::clone(&self.shared.options.links),
        })
    }
}
