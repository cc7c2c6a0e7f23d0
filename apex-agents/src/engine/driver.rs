//! Carries one run's effects out: appends its events with its checkpoints, starts and stops its agents and calls,
//! and hands back to the machine what came of them.

use super::intake::thread_of;
use super::lease::Writer;
use super::machine::{Decided, Effect, Ending, Facts, Input, Lost, Machine, Saver, State, load};
use super::outcome;
use super::shared::Shared;
use super::shown::Shown as AsShown;
use super::trace::Trace;
use super::work::{self, Ended};
use crate::agent::Request;
use crate::context::{Ask, Asked, Reply};
use crate::failure::Failure;
use crate::prompt::Links;
use crate::replay::{self, Recording};
use crate::stored::Stored;
use crate::tool::{CallScope, Progress, Shown};
use apex_core::clock::Timestamp;
use apex_core::error::correlation::{carrying, of_message};
use apex_core::error::{Error, Kind, Result};
use apex_core::event::{Decision, Event};
use apex_core::id::{ApprovalId, CallId, StepId};
use apex_core::run::{Claimed, Topic, Woken};
use apex_core::thread::{Role, ThreadMessage};
use apex_core::trace::bridged;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument as _, Span};

/// How many asks and progress notes wait for the driver; those that ask wait, progress is dropped.
const ASKS: usize = 64;
const SHOWN: usize = 16;

/// After how long in which nothing but decisions is waited for a run is given back. An agent that does something of its
/// own beside a call that waits has this long to show it.
const QUIET: Duration = Duration::from_secs(1);

/// How long a call that must not be made twice may take to end when the node lets go of its run: after that the next
/// node has to doubt it. It leaves time to save the run in [`LET_GO`](super::LET_GO).
const LAST_CALL: Duration = Duration::from_secs(3);

/// How long keeping a run's record may take at its end: less than its lease lasts.
const KEEPING: Duration = Duration::from_secs(5);

/// One run under way on this node.
pub(super) struct Driver {
    shared: Arc<Shared>,
    claimed: Claimed,
    machine: Machine,
    writer: Writer,
    trace: Trace,
    woken: Woken,
    /// Tells the node's runs to be let go of.
    leaving: CancellationToken,
    /// When it is let go of at the latest, once the node was told to.
    leaves_at: Option<Instant>,
    /// Stops everything that this run has started, however its driver ends.
    work: CancellationToken,
    _stop: DropGuard,
    tasks: JoinSet<Ended>,
    agents: FxHashMap<StepId, RunningAgent>,
    calls: FxHashMap<CallId, RunningCall>,
    asks: (mpsc::Sender<Asked>, mpsc::Receiver<Asked>),
    shown: (mpsc::Sender<Shown>, mpsc::Receiver<Shown>),
    /// Who waits for the answer to the ask that is being handled, and to which call.
    asking: Option<Answer>,
    held: FxHashMap<CallId, Answer>,
    /// The stopped steps that the machine knows of.
    stopped: FxHashSet<StepId>,
    /// The decisions that the machine knows of.
    settled: FxHashSet<ApprovalId>,
    /// Since when nothing but decisions is waited for.
    quiet_since: Option<Instant>,
    deadline: Instant,
    left: bool,
    /// Whether the run has read what others wrote, and links in what it says are looked at.
    wary: Arc<AtomicBool>,
}

type Answer = oneshot::Sender<std::result::Result<Reply, Failure>>;

struct RunningAgent {
    agent: String,
    abort: AbortHandle,
    cancelled: CancellationToken,
    progress: Progress,
    limit: Duration,
    deadline: Instant,
}

struct RunningCall {
    abort: AbortHandle,
    cancelled: CancellationToken,
}

/// What wakes the driver.
enum Next {
    Asked(Asked),
    Ended(Ended),
    Shown(Shown),
    Look,
    Quiet,
    Lapse,
    Deadline,
    Leave,
}

impl Driver {
    /// A driver for a run that was claimed at `claimed_at`.
    ///
    /// # Errors
    /// `bad_checkpoint` when its state cannot be read.
    pub(super) fn new(
        shared: Arc<Shared>,
        claimed: Claimed,
        claimed_at: Instant,
        trace: Trace,
        leaving: CancellationToken,
    ) -> Result<Box<Self>> {
        let (state, saver) = match &claimed.checkpoint {
            None => (State::new(&shared.registry.entry), Saver::default()),
            Some(checkpoint) => load(checkpoint)?,
        };
        let spent = state.worked(shared.clock.now());
        let facts = Facts {
            run: claimed.lease.run,
            request: Request { text: claimed.text.clone(), files: claimed.attachments.clone() },
            started_at: claimed.started_at,
            agents: Arc::clone(&shared.registry.purposes),
            approval_timeout: shared.options.approval_timeout,
            budget: shared.options.budget(),
            guarded: shared.options.guard,
            record: shared.options.record,
        };
        let work = CancellationToken::new();
        Ok(Box::new(Self {
            machine: Machine::new(facts, claimed.attempt, state, saver),
            writer: Writer::new(&shared, &claimed, claimed_at),
            trace,
            woken: shared.stores.wakeup.listen(Topic::Signals(claimed.lease.run)),
            leaving,
            leaves_at: None,
            _stop: work.clone().drop_guard(),
            work,
            tasks: JoinSet::new(),
            agents: FxHashMap::default(),
            calls: FxHashMap::default(),
            asks: mpsc::channel(ASKS),
            shown: mpsc::channel(SHOWN),
            asking: None,
            held: FxHashMap::default(),
            stopped: FxHashSet::default(),
            settled: FxHashSet::default(),
            quiet_since: None,
            deadline: claimed_at + shared.options.run_deadline.saturating_sub(spent),
            left: false,
            wary: Arc::default(),
            shared,
            claimed,
        }))
    }

    /// Works on the run until it has ended, is lost, or the node lets go of it.
    ///
    /// # Errors
    /// Why it was lost; another attempt goes on from its last checkpoint.
    pub(super) async fn run(mut self: Box<Self>) -> Result<()> {
        // What carries effects out is large and soon done, while a run waits for long: it is kept apart.
        Box::pin(self.say(Role::User, self.claimed.text.clone())).await?;
        let effects = self.first();
        Box::pin(self.carry_out(effects)).await?;
        while !self.left {
            if let Some(input) = self.wish() {
                self.take_in(input).await?;
                continue;
            }
            match self.next().await {
                Next::Asked(asked) => self.asked(asked).await?,
                Next::Ended(ended) => self.take_in(ended.into()).await?,
                Next::Shown(shown) => self.show(shown),
                Next::Look => self.writer.renew().await?,
                Next::Quiet => self.take_in(Input::Quiet).await?,
                Next::Lapse => self.writer.lapse(self.machine.lapsed(self.now())).await?,
                Next::Deadline => self.past_deadline().await?,
                Next::Leave => self.leave().await?,
            }
        }
        Ok(())
    }

    fn first(&mut self) -> Vec<Effect> {
        let now = self.now();
        if let Some(by) = self.writer.signals().cancelled_by {
            return self.machine.abandon(Ending::Cancelled(by), now);
        }
        let attempts = self.shared.options.runs.attempts;
        if self.claimed.attempt > attempts {
            let told = format!("the run was lost with its node {attempts} times; ask again");
            let lost = Failure::new(Kind::Crashed, told);
            return self.machine.abandon(Ending::Failed(lost), now);
        }
        self.machine.begin(now)
    }

    /// What users want of the run and the machine does not know yet.
    fn wish(&mut self) -> Option<Input> {
        let signals = self.writer.signals();
        if let Some(by) = signals.cancelled_by {
            return Some(Input::Cancel(by));
        }
        if let Some(step) = signals.stopped.iter().find(|step| !self.stopped.contains(step)) {
            self.stopped.insert(*step);
            return Some(Input::Stop(*step));
        }
        let decided = signals.decided.iter().map(|(approval, decision, by)| Decided {
            approval: *approval,
            decision: *decision,
            by: Some(*by),
        });
        let lapsed = signals.lapsed.iter().map(|approval| Decided {
            approval: *approval,
            decision: Decision::Deny,
            by: None,
        });
        let new = decided.chain(lapsed).find(|one| !self.settled.contains(&one.approval))?;
        self.settled.insert(new.approval);
        Some(Input::Decide(new))
    }

    async fn next(&mut self) -> Next {
        if self.leaves_at.is_some() && !self.machine.is_making_once() {
            return Next::Leave;
        }
        let now = Instant::now();
        let until_look = self.writer.renew_at() - now;
        for (step, agent) in &mut self.agents {
            if self.machine.awaits(*step) {
                // A person takes time; a step's begins anew after that.
                agent.deadline = now + agent.limit;
            }
        }
        let quiet = match self.machine.waits() {
            true => Some(*self.quiet_since.get_or_insert(now) + QUIET),
            false => {
                self.quiet_since = None;
                None
            }
        };
        let lapse = self.machine.next_lapse().map(|at| now + at.since(self.now()));
        let deadline =
            self.agents.values().map(|agent| agent.deadline).fold(self.deadline, Instant::min);
        loop {
            // In this order, so that a flood of asks keeps nobody from stopping the run.
            tokio::select! {
                biased;
                () = self.leaving.cancelled(), if self.leaves_at.is_none() => return Next::Leave,
                () = reached(self.leaves_at) => return Next::Leave,
                () = self.woken.wait(until_look) => return Next::Look,
                () = sleep_until(deadline) => return Next::Deadline,
                () = reached(lapse) => return Next::Lapse,
                Some(ended) = self.tasks.join_next() => if let Ok(ended) = ended {
                    return Next::Ended(ended);
                },
                Some(asked) = self.asks.1.recv() => return Next::Asked(asked),
                Some(shown) = self.shown.1.recv() => return Next::Shown(shown),
                () = reached(quiet) => return Next::Quiet,
            }
        }
    }

    async fn take_in(&mut self, input: Input) -> Result<()> {
        self.quiet_since = None;
        let effects = self.machine.handle(input, self.now());
        Box::pin(self.carry_out(effects)).await
    }

    /// Lets go of the run. A call under way that must not be made twice is let end before that, and its result
    /// recorded, so that nobody has to doubt it.
    async fn leave(&mut self) -> Result<()> {
        let now = Instant::now();
        let leaves_at = *self.leaves_at.get_or_insert(now + LAST_CALL);
        let waits = self.machine.is_making_once() && now < leaves_at;
        self.take_in(if waits { Input::Leaving } else { Input::HandOver }).await
    }

    async fn asked(&mut self, asked: Asked) -> Result<()> {
        let terms = match &*asked.ask {
            Ask::Call { tool, arguments } => Some(self.shared.dispatcher.terms(tool, arguments)),
            _ => None,
        };
        // What it has shown by now came before.
        while let Ok(shown) = self.shown.1.try_recv() {
            self.show(shown);
        }
        self.asking = Some(asked.reply);
        self.take_in(Input::Asked { step: asked.step, ask: *asked.ask, terms }).await
    }

    async fn past_deadline(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.deadline <= now {
            let limit = self.shared.options.run_deadline.as_secs();
            let told = format!(
                "the run did not end within {limit} s; ask for less, or raise its deadline"
            );
            let late = Failure::new(Kind::DeadlineExceeded, told);
            return self.take_in(Input::Fail(late)).await;
        }
        let late: Vec<(StepId, String)> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.deadline <= now)
            .map(|(step, late)| {
                let (agent, limit) = (&late.agent, late.limit.as_secs_f64());
                (*step, format!("{agent} did not end within {limit} s"))
            })
            .collect();
        for (step, told) in late {
            let result = Err(Failure::new(Kind::DeadlineExceeded, told));
            self.take_in(Input::AgentEnded { step, result }).await?;
        }
        Ok(())
    }

    /// How what the run says is shown.
    fn as_shown(&self) -> AsShown<'_> {
        let options = &self.shared.options;
        let asked = self.machine.request().text.as_str();
        let links = Links { asked, allowed: &options.links };
        let wary = self.wary.load(Ordering::Relaxed);
        AsShown { redact: &*options.redact, links: wary.then_some(links) }
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<()> {
        let read = self.machine.state().untrusted.is_some();
        self.wary.store(self.shared.options.guard && read, Ordering::Relaxed);
        for effect in effects {
            match effect {
                Effect::Record { events, transition } => {
                    let ends = transition.is_some_and(|state| state.is_terminal());
                    let checkpoint = (!ends).then(|| self.machine.save()).transpose()?;
                    let ended = self.ended(&events);
                    let shown = self.as_shown();
                    let events: Vec<Event> =
                        events.into_iter().map(|event| shown.event(event)).collect();
                    let seen = Trace::seen(&events);
                    self.writer.append(events, checkpoint, transition).await?;
                    self.trace.tell(seen);
                    if let Some(ended) = ended {
                        ended.tell(&self.shared, &self.claimed);
                    }
                }
                Effect::Note(event) => {
                    let event = self.as_shown().event(event);
                    self.writer.append(vec![event], None, None).await?;
                }
                Effect::StartAgent { step, agent, handed } => self.start_agent(step, agent, handed),
                Effect::StopAgent(step) => {
                    if let Some(agent) = self.agents.remove(&step) {
                        agent.cancelled.cancel();
                        agent.abort.abort();
                    }
                }
                Effect::Hold(call) => {
                    if let Some(asking) = self.asking.take() {
                        self.held.insert(call, asking);
                    }
                }
                Effect::StartCall { step, call, tool, arguments, key, in_doubt } => {
                    self.start_call(step, call, tool, arguments, key, in_doubt)
                }
                Effect::StopCall(call) => {
                    self.held.remove(&call);
                    if let Some(call) = self.calls.remove(&call) {
                        call.cancelled.cancel();
                        call.abort.abort();
                    }
                }
                Effect::Answer(answer) => {
                    // Nobody may be waiting any more; then there is nobody to tell.
                    let _ = self.asking.take().map(|asking| asking.send(answer));
                }
                Effect::AnswerCall(call, answer) => {
                    self.calls.remove(&call);
                    let _ = self.held.remove(&call).map(|asking| asking.send(answer));
                }
                Effect::RecordLost(lost) => self.record_lost(lost),
                Effect::Tell(text) => {
                    let text = self.as_shown().text(text);
                    self.say(Role::Assistant, text).await?;
                }
                Effect::Keep => self.keep().await,
                Effect::Wait { until } => {
                    let checkpoint = self.machine.save()?;
                    self.writer.wait(checkpoint, until).await?;
                    self.trace.wait();
                    self.left = true;
                }
                Effect::Leave => self.left = true,
            }
        }
        Ok(())
    }

    fn ended(&self, events: &[Event]) -> Option<outcome::Ended> {
        let state = self.machine.state();
        let failure = match &state.ending {
            Some(Ending::Failed(failure)) => Some(failure),
            _ => None,
        };
        outcome::Ended::of(events, state.began_at, failure)
    }

    fn start_agent(&mut self, step: StepId, agent: String, handed: Vec<(String, Stored)>) {
        let own = self.shared.registry.agents.get(&agent).and_then(|ready| ready.agent.deadline());
        let limit = own.unwrap_or(self.shared.options.step_deadline);
        let cancelled = self.work.child_token();
        let progress = Progress::new(step, self.shown.0.clone());
        let task = work::AgentTask {
            shared: Arc::clone(&self.shared),
            lease: self.claimed.lease.clone(),
            principal: self.claimed.principal.clone(),
            request: self.machine.request().clone(),
            question: self.machine.state().question.clone(),
            continues: self.continues(),
            step,
            agent: agent.clone(),
            handed,
            asks: self.asks.0.clone(),
            progress: progress.clone(),
            shown: self.shown.0.clone(),
            cancelled: cancelled.clone(),
            wary: Arc::clone(&self.wary),
        };
        let span = self.trace.step(step, &agent);
        let abort = self.spawn(span, task.run());
        let running = RunningAgent {
            agent,
            abort,
            cancelled,
            progress,
            limit,
            deadline: Instant::now() + limit,
        };
        self.agents.insert(step, running);
    }

    fn start_call(
        &mut self,
        step: StepId,
        call: CallId,
        tool: String,
        arguments: Value,
        key: String,
        in_doubt: bool,
    ) {
        let Some(agent) = self.agents.get(&step) else {
            return;
        };
        let cancelled = agent.cancelled.child_token();
        let scope = CallScope {
            principal: self.claimed.principal.clone(),
            run: self.claimed.lease.run,
            thread: self.claimed.lease.thread,
            call,
            key,
            in_doubt,
            progress: agent.progress.clone(),
            cancelled: cancelled.clone(),
        };
        let shared = Arc::clone(&self.shared);
        let dispatch = async move {
            let dispatched = shared.dispatcher.dispatch(&tool, arguments, scope).await;
            Ended::Call(call, dispatched)
        };
        let abort = self.spawn(self.trace.call(call), dispatch);
        self.calls.insert(call, RunningCall { abort, cancelled });
    }

    /// Whether its conversation had begun before it: one that a message begins is named after that.
    fn continues(&self) -> bool {
        let Claimed { principal, request, lease, .. } = &self.claimed;
        lease.thread != thread_of(principal, *request)
    }

    /// Does work of the run's, within its span.
    fn spawn(
        &mut self,
        span: Span,
        work: impl Future<Output = Ended> + Send + 'static,
    ) -> AbortHandle {
        let id = of_message(self.claimed.request);
        let work = bridged(self.trace.bridge(), carrying(id, work));
        self.tasks.spawn(work.instrument(span))
    }

    fn show(&self, shown: Shown) {
        if self.agents.contains_key(&shown.step) {
            self.writer.show(*shown.event);
        }
    }

    /// Puts the questions to models on record that a lost node had under way.
    fn record_lost(&self, lost: Vec<Lost>) {
        let Some(chain) = &self.shared.options.models else {
            return;
        };
        let run = self.claimed.lease.run;
        for lost in lost {
            let principal = &self.claimed.principal;
            for (reservation, most) in &lost.reserved {
                chain.meter().charge(principal, *reservation, *most);
            }
            chain.meter().sink().record(principal, lost.attempt(run, self.now()));
        }
    }

    /// Keeps what the run asked for and got. A run ends also where that cannot be kept.
    async fn keep(&self) {
        let (run, principal) = (self.claimed.lease.run, &self.claimed.principal);
        let recording =
            Recording::of(run, self.machine.request(), self.continues(), self.machine.state());
        let kept = match serde_json::to_vec(&recording) {
            Ok(json) => {
                let (artifacts, name) =
                    (&self.shared.stores.artifacts, replay::name(&*self.shared.clock));
                let kept = artifacts.put(principal, run, &name, "application/json", json.into());
                timeout(KEEPING, kept).await.map_or_else(|_| Err(late()), |kept| kept.map(drop))
            }
            Err(error) => Err(Error::internal("replay.keep", "a recording could not be encoded")
                .with_source(error)),
        };
        if let Err(error) = kept {
            tracing::warn!(%run, %error, "what a run did could not be kept");
        }
    }

    /// Adds a message to the conversation; the same one again changes nothing.
    async fn say(&mut self, role: Role, text: String) -> Result<()> {
        let (at, attachments) = match role {
            Role::User => (self.claimed.started_at, self.claimed.attachments.clone()),
            Role::Assistant => (self.now(), Vec::new()),
        };
        let message = ThreadMessage { run: self.claimed.lease.run, role, text, attachments, at };
        let insist = self.claimed.attempt <= self.shared.options.runs.attempts;
        self.writer.say(&self.claimed, message, insist).await
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

fn late() -> Error {
    Error::new(Kind::DeadlineExceeded, "replay.keep", "the store took too long")
}

/// Waits for a moment, if there is one.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
