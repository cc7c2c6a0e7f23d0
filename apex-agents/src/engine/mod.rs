//! The engine: claims runs and carries them out, one isolated machine for each, made from one principal.
//!
//! A run is a serialisable state machine without IO (`machine`). A driver appends its events together with its
//! state, starts its agents and calls, and hands back what came of them; so a run that is lost with its node goes
//! on elsewhere from its last checkpoint, and no completed call is made twice.

mod driver;
mod intake;
mod lease;
pub(crate) mod machine;
mod node;
#[cfg(feature = "mcp")]
mod offered;
mod options;
mod outcome;
mod shared;
mod shown;
mod trace;
mod work;

#[cfg(feature = "mcp")]
pub(crate) use offered::Offered;
pub use options::EngineOptions;

use crate::registry::Registry;
use crate::replay::{self, Recording};
use crate::tool::{Dispatcher, Quota, ToolServices};
use apex_core::clock::Clock;
use apex_core::error::{Error, Kind, Result, correlation};
use apex_core::event::Decision;
use apex_core::health::Observer;
use apex_core::id::{ApprovalId, RunId, StepId};
use apex_core::principal::{Principal, Scope};
use apex_core::run::{Accepted, Live, Message, Runner, Signal};
use apex_core::store::Stores;
use async_trait::async_trait;
use parking_lot::Mutex;
use shared::Shared;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long runs that are told to let go may take to save where they are.
const LET_GO: Duration = Duration::from_secs(5);

/// Carries runs out on this node. Dropping it stops everything at once, as a crash would: prefer [`Engine::drain`].
pub struct Engine {
    shared: Arc<Shared>,
    running: Arc<AtomicUsize>,
    draining: CancellationToken,
    leaving: CancellationToken,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// An engine that knows these agents and tools. It accepts messages, and works on runs once it is
    /// [launched](Engine::launch).
    ///
    /// # Errors
    /// `config_invalid` with everything that is wrong with the registry or the options.
    pub fn new(
        stores: Stores,
        live: Live,
        clock: Arc<dyn Clock>,
        registry: Registry,
        observer: Observer,
        options: EngineOptions,
    ) -> Result<Arc<Self>> {
        options.validate()?;
        let mut registry = registry.ready()?;
        let services = ToolServices {
            files: Arc::clone(&stores.files),
            artifacts: Arc::clone(&stores.artifacts),
            threads: Arc::clone(&stores.threads),
            usage: Arc::clone(&stores.usage),
            search: Arc::clone(&stores.search),
            memory: Arc::clone(&stores.memory),
            clock: Arc::clone(&clock),
            blocking: Arc::new(Semaphore::new(options.parallel_work)),
        };
        let dispatcher = Dispatcher::new(
            std::mem::take(&mut registry.tools),
            registry.sources.clone(),
            Arc::new(services),
            Arc::clone(&options.redact),
            options.tool_timeout,
            options.result_bytes,
            options
                .user_calls_per_minute
                .map(|calls| Quota::new(Arc::clone(&stores.limits), calls)),
        );
        let shared = Shared { stores, live, clock, registry, dispatcher, observer, options };
        Ok(Arc::new(Self {
            shared: Arc::new(shared),
            running: Arc::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            worker: Mutex::new(None),
        }))
    }

    /// Begins to claim runs and to work on them, on the Tokio runtime that this is called in. A second call changes
    /// nothing.
    pub fn launch(&self) {
        self.worker.lock().get_or_insert_with(|| {
            tokio::spawn(node::work(
                Arc::clone(&self.shared),
                Arc::clone(&self.running),
                self.draining.clone(),
                self.leaving.clone(),
            ))
        });
    }

    /// How many runs this node works on.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// What a run of this user's asked for and got, where the [options](EngineOptions::record) had it kept and the run
    /// has ended.
    ///
    /// # Errors
    /// `not_found`; `bad_checkpoint` for one that this library cannot read.
    pub async fn recording(&self, principal: &Principal, run: RunId) -> Result<Recording> {
        const OPERATION: &str = "replay.read";
        principal.require(Scope::Read, OPERATION)?;
        let stores = &self.shared.stores;
        let thread = stores.runs.view(principal, run).await?.thread;
        // It holds more than those see with whom the conversation is shared.
        if stores.threads.thread(principal, thread).await?.owner != principal.user() {
            return Err(Error::not_found(OPERATION, "recording"));
        }
        let artifacts = &*stores.artifacts;
        let kept = artifacts.list(principal, run).await?;
        let kept = kept.into_iter().rfind(|kept| replay::is_name(&kept.name));
        let kept = kept.ok_or_else(|| Error::not_found(OPERATION, "recording"))?;
        let (_, json) = artifacts.read(principal, kept.artifact).await?;
        Recording::read(&json, artifacts, principal).await
    }

    /// Takes no more work, waits until `deadline` has passed for the runs under way to end, and lets go of the
    /// rest: a call that must not be made twice has 3 s more to end, they are saved where they are, and another node
    /// goes on with them. Says whether all of them ended or were saved.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.draining.cancel();
        let Some(mut worker) = self.worker.lock().take() else {
            return true;
        };
        let mut saved = tokio::time::timeout(deadline, &mut worker).await.is_ok();
        if !saved {
            self.leaving.cancel();
            saved = tokio::time::timeout(LET_GO, &mut worker).await.is_ok();
            worker.abort();
        }
        if let Some(models) = &self.shared.options.models {
            models.meter().settle(LET_GO).await;
        }
        saved
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.lock().take() {
            worker.abort();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("node", &self.shared.stores.node)
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Runner for Engine {
    async fn start(&self, principal: &Principal, message: Message) -> Result<Accepted> {
        principal.require(Scope::Run, "runner.start")?;
        if self.draining.is_cancelled() {
            return Err(Error::new(
                Kind::Draining,
                "runner.start",
                "this node is shutting down; send the message to another one",
            ));
        }
        let correlation = correlation::of_message(message.request_id);
        let start = intake::start(&self.shared, principal, message);
        correlation::within(correlation, start).await
    }

    async fn cancel(&self, principal: &Principal, run: RunId) -> Result<()> {
        self.signal(principal, run, Signal::Cancel).await
    }

    async fn stop(&self, principal: &Principal, run: RunId, step: StepId) -> Result<()> {
        self.signal(principal, run, Signal::Stop(step)).await
    }

    async fn decide(
        &self,
        principal: &Principal,
        run: RunId,
        approval: ApprovalId,
        digest: &str,
        decision: Decision,
    ) -> Result<()> {
        const OPERATION: &str = "runner.decide";
        principal.require(Scope::Run, OPERATION)?;
        let runs = &self.shared.stores.runs;
        let view = runs.view(principal, run).await?;
        let conflict = |why| Error::new(Kind::Conflict, OPERATION, why).with("approval", approval);
        if view.settled.contains(&approval) {
            return Err(conflict("this approval is decided already, or its time is over"));
        }
        let open = view.snapshot.approvals.iter().find(|open| open.approval == approval);
        let open = open.ok_or_else(|| Error::not_found(OPERATION, "open approval"))?;
        if open.digest != digest {
            return Err(conflict("the decision is about another call; look at the one that waits"));
        }
        // Which of a decision and a lapse came first, the log decides; this keeps one out that is certainly late.
        if open.expires_at <= self.shared.clock.now() {
            return Err(conflict("nobody decided in time; the call counts as not approved"));
        }
        let decide = Signal::Decide { approval, digest: digest.to_owned(), decision };
        runs.signal(principal, run, decide).await.map(drop)
    }
}

impl Engine {
    async fn signal(&self, principal: &Principal, run: RunId, signal: Signal) -> Result<()> {
        principal.require(Scope::Cancel, "runner.signal")?;
        let runs = &self.shared.stores.runs;
        runs.signal(principal, run, signal).await.map(drop)
    }
}
