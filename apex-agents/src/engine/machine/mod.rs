//! A run as a state machine without IO: what happened goes in, what is to be done comes out, in order. All that it
//! has to remember is its [`State`], which a checkpoint holds; the driver carries the effects out.

mod approval;
mod budget;
mod call;
mod checkpoint;
mod journal;
mod question;
mod state;
mod step;

pub(crate) use crate::context::Came;
pub(crate) use approval::Decided;
pub(crate) use budget::Budget;
pub(crate) use call::call_digest;
pub(crate) use checkpoint::{Saver, load};
pub(crate) use journal::{Entry, Journal, Known};
pub(crate) use question::Lost;
pub(crate) use state::{Ending, State, Status};

use crate::agent::{Request, Then};
use crate::context::{Ask, Reply};
use crate::failure::Failure;
use crate::stored::Stored;
use crate::text::clip;
use crate::tool::Terms;
use apex_core::clock::Timestamp;
use apex_core::error::{Error, Kind};
use apex_core::event::{AgentOutcome, Event, ToolOutcome};
use apex_core::id::{CallId, RunId, StepId, UserId};
use apex_core::run::{Checkpoint, RunState};
use call::Held;
use serde_json::{Value, json};
use state::{OpenStep, Part};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The longest note, in bytes.
const LONGEST_NOTE: usize = 4 * 1024;

/// One run.
#[derive(Debug)]
pub(crate) struct Machine {
    facts: Facts,
    /// Which attempt of the run this is.
    attempt: u32,
    state: State,
    /// The calls that have not begun, in the order in which they were asked for.
    held: Vec<Held>,
    /// The call under way that must not be made twice: there is one at a time.
    once: Option<CallId>,
    /// Whether its node is about to let go of it: no call is begun any more.
    leaving: bool,
    saver: Saver,
}

/// What does not change in a run.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) run: RunId,
    pub(crate) request: Request,
    /// When the run was put on record.
    pub(crate) started_at: Timestamp,
    /// The agents that there are, with their purposes.
    pub(crate) agents: Arc<BTreeMap<String, String>>,
    /// After how long without a decision a request lapses.
    pub(crate) approval_timeout: Duration,
    pub(crate) budget: Budget,
    /// Whether a run that has read what others wrote needs an approval for what leaves it.
    pub(crate) guarded: bool,
    /// Whether what each step asked for is kept until the run ends.
    pub(crate) record: bool,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// An agent asks for something; a call has its terms.
    Asked { step: StepId, ask: Ask, terms: Option<Terms> },
    /// A tool call ended.
    CallEnded {
        call: CallId,
        outcome: ToolOutcome,
        result: Result<Stored, Failure>,
        summary: String,
        /// Whether its result holds what others wrote.
        untrusted: bool,
    },
    /// An agent returned, failed, panicked or passed its deadline.
    AgentEnded { step: StepId, result: Result<(Stored, Then), Failure> },
    /// A user wants a step stopped.
    Stop(StepId),
    /// A user has decided on a call, or nobody has in time.
    Decide(Decided),
    /// Nothing has happened for a while.
    Quiet,
    /// A user wants the run stopped.
    Cancel(UserId),
    /// The run cannot go on.
    Fail(Failure),
    /// The node will let go of the run as soon as no call is under way that must not be made twice.
    Leaving,
    /// The node lets go of the run, for another to go on.
    HandOver,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Append these events with the state as it is now, all or nothing, before anything that follows.
    Record { events: Vec<Event>, transition: Option<RunState> },
    /// Append a note; the state need not be saved.
    Note(Event),
    /// Start an agent on the request and what is handed to it.
    StartAgent { step: StepId, agent: String, handed: Vec<(String, Stored)> },
    /// Stop an agent if it still runs.
    StopAgent(StepId),
    /// Keep who asked for this call until it is answered.
    Hold(CallId),
    /// Make a call; `in_doubt` says that a node that was lost may have made it.
    StartCall {
        step: StepId,
        call: CallId,
        tool: String,
        arguments: Value,
        key: String,
        in_doubt: bool,
    },
    /// Stop a call if it is still under way, and forget who asked for it.
    StopCall(CallId),
    /// Answer the ask that came in.
    Answer(Result<Reply, Failure>),
    /// Answer the ask that began this call.
    AnswerCall(CallId, Result<Reply, Failure>),
    /// Put these questions to models on record as lost with their node.
    RecordLost(Vec<Lost>),
    /// Keep what the run asked for and got among its artifacts.
    Keep,
    /// Add the run's answer to its conversation.
    Tell(String),
    /// Save the state and give the run back until somebody decides, or until then. Nothing more will come.
    Wait { until: Option<Timestamp> },
    /// Nothing more will come: the terminal event is recorded, or the run is handed over.
    Leave,
}

/// Events and effects as they gather: the events are recorded first.
#[derive(Debug, Default)]
struct Out {
    events: Vec<Event>,
    effects: Vec<Effect>,
    /// Whether the state is to be saved also without an event.
    save: bool,
}

impl Out {
    fn done(self) -> Vec<Effect> {
        let mut effects = self.effects;
        if self.save || !self.events.is_empty() {
            let record = Effect::Record { events: self.events, transition: None };
            effects.insert(0, record);
        }
        effects
    }
}

impl Machine {
    /// A run in this state, of which `saver` knows what is saved.
    pub(crate) fn new(facts: Facts, attempt: u32, state: State, saver: Saver) -> Self {
        let held = Vec::new();
        Self { facts, attempt, state, held, once: None, leaving: false, saver }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The state as it is to be saved now; what was given before is taken to be saved.
    ///
    /// # Errors
    /// `internal` for a state that no run could go on from.
    pub(crate) fn save(&mut self) -> Result<Checkpoint, Error> {
        self.saver.save(&mut self.state)
    }

    /// Whether a call is under way that must not be made twice.
    pub(crate) fn is_making_once(&self) -> bool {
        self.once.is_some()
    }

    pub(crate) fn request(&self) -> &Request {
        &self.facts.request
    }

    /// Whether it is certain how the run ends.
    fn is_ending(&self) -> bool {
        self.state.ending.is_some()
    }

    /// Begins to work, or goes on where the last attempt got to.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut out = Out::default();
        self.resume(now, &mut out);
        match self.state.ending.take() {
            Some(ending) => self.end(ending, now, &mut out),
            None => self.schedule(now, &mut out),
        }
        out.done()
    }

    /// Ends a run that is not to be worked on again: what is left open by its last attempt is closed first.
    pub(crate) fn abandon(&mut self, ending: Ending, now: Timestamp) -> Vec<Effect> {
        let mut out = Out::default();
        if !self.has_waited(now) {
            self.record_lost(&mut out);
            self.interrupt(now, &mut out);
        }
        let ending = self.state.ending.take().unwrap_or(ending);
        self.end(ending, now, &mut out);
        out.done()
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut out = Out::default();
        match input {
            Input::Asked { step, ask, terms } => self.asked(step, ask, terms, now, &mut out),
            Input::CallEnded { call, outcome, result, summary, untrusted } => {
                self.read(call, untrusted);
                self.call_ended(call, outcome, result, summary, now, &mut out)
            }
            Input::AgentEnded { step, result } => self.agent_ended(step, result, now, &mut out),
            Input::Stop(step) => self.stop(step, now, &mut out),
            Input::Decide(_) if self.is_ending() => {}
            Input::Decide(decided) => self.decide(decided, &mut out),
            Input::Quiet if self.waits() => {
                self.wait(now, &mut out);
                return out.done();
            }
            Input::Quiet => {}
            Input::Cancel(by) => self.end(Ending::Cancelled(by), now, &mut out),
            Input::Fail(failure) => self.end(Ending::Failed(failure), now, &mut out),
            Input::Leaving => self.leaving = true,
            Input::HandOver if self.waits() => {
                self.wait(now, &mut out);
                return out.done();
            }
            Input::HandOver => self.hand_over(now, &mut out),
        }
        if !self.is_ending() {
            self.begin_calls(now, &mut out);
            self.warn(now, &mut out);
        }
        self.schedule(now, &mut out);
        out.done()
    }

    fn resume(&mut self, now: Timestamp, out: &mut Out) {
        if self.state.began_at.is_none() && self.attempt == 1 {
            self.state.began_at = Some(now);
            return;
        }
        self.state.began_at.get_or_insert(now);
        if self.go_on(now, out) {
            return;
        }
        self.record_lost(out);
        self.interrupt(now, out);
        out.events.push(Event::RunResumed {
            attempt: self.attempt,
            from_step: self.state.interrupted.take(),
        });
    }

    /// Starts every step whose needs are met.
    fn schedule(&mut self, now: Timestamp, out: &mut Out) {
        if self.is_ending() || out.effects.contains(&Effect::Leave) {
            return;
        }
        for index in 0..self.state.parts.len() {
            if let Some(handed) = self.handed_to(index) {
                if !self.has_step_left(now, out) {
                    return;
                }
                self.start(index, handed, now, out);
            }
        }
        let is_open = |part: &Part| matches!(part.status, Status::Open(_) | Status::Pending);
        if !self.state.parts.iter().any(is_open) {
            let failure = Failure::new(
                Kind::BadOutput,
                "the plan came to its end without an answer to the request",
            );
            self.end(Ending::Failed(failure), now, out);
        }
    }

    /// What the part is handed, if it is pending and everything that it needs has ended.
    fn handed_to(&self, index: usize) -> Option<Vec<(String, Stored)>> {
        let part = self.state.parts.get(index)?;
        if part.status == Status::Pending { self.handed(index) } else { None }
    }

    /// The results of the steps that the part needs; `None` while one of them has not ended.
    fn handed(&self, index: usize) -> Option<Vec<(String, Stored)>> {
        let part = self.state.parts.get(index)?;
        let mut handed = Vec::new();
        for need in &part.plan.needs {
            let needed = self.state.parts.iter().find(|p| p.plan.agent == *need)?;
            match &needed.status {
                Status::Done(stored) => handed.push((need.clone(), stored.clone())),
                Status::Missing => {}
                Status::Pending | Status::Open(_) => return None,
            }
        }
        Some(handed)
    }

    fn start(
        &mut self,
        index: usize,
        handed: Vec<(String, Stored)>,
        now: Timestamp,
        out: &mut Out,
    ) {
        let Some(part) = self.state.parts.get_mut(index) else {
            return;
        };
        self.state.steps_made += 1;
        let step = StepId(self.state.steps_made);
        part.status = Status::Open(OpenStep::new(step, now));
        let agent = part.plan.agent.clone();
        out.events.push(Event::AgentStarted {
            step,
            agent: agent.clone(),
            purpose: purpose(&self.facts, part),
            attempt: self.attempt,
            needs: part.plan.needs.clone(),
        });
        out.effects.push(Effect::StartAgent { step, agent, handed });
    }

    fn agent_ended(
        &mut self,
        step: StepId,
        result: Result<(Stored, Then), Failure>,
        now: Timestamp,
        out: &mut Out,
    ) {
        let Some(index) = self.state.part_of(step) else {
            return;
        };
        let (stored, then) = match result.and_then(|made| self.check_plan(made)) {
            Ok(made) => made,
            Err(failure) => return self.fail(index, failure, now, out),
        };
        let shown = stored.shown();
        self.close(index, AgentOutcome::Ok, shown, ToolOutcome::Cancelled, now, out);
        if let (Then::Plan(made), Some(Event::AgentCompleted { plan, .. })) =
            (&then, out.events.last_mut())
        {
            *plan = made.told();
        }
        if let Some(part) = self.state.parts.get_mut(index) {
            part.status = Status::Done(stored);
            if !self.facts.record {
                part.journal = Journal::default();
            }
        }
        match then {
            Then::HandOn => {}
            Then::Plan(plan) => {
                self.state.question = plan.question.or(self.state.question.take());
                self.state.parts.extend(plan.steps.into_iter().map(Part::new));
            }
            Then::Answer(result) => self.end(Ending::answered(result), now, out),
        }
    }

    fn check_plan(&self, made: (Stored, Then)) -> Result<(Stored, Then), Failure> {
        let Then::Plan(plan) = &made.1 else {
            return Ok(made);
        };
        let taken: BTreeSet<&str> =
            self.state.parts.iter().map(|part| part.plan.agent.as_str()).collect();
        match plan.fault(&self.facts.agents, &taken) {
            None => Ok(made),
            Some(fault) => {
                Err(Failure::new(Kind::BadOutput, format!("the plan is not valid: {fault}")))
            }
        }
    }

    fn stop(&mut self, step: StepId, now: Timestamp, out: &mut Out) {
        let Some(index) = self.state.part_of(step) else {
            return;
        };
        let agent = self.open(index).map(|(agent, _)| agent).unwrap_or_default();
        let told = format!("the step of {agent} was stopped");
        self.close(
            index,
            AgentOutcome::Cancelled,
            json!({ "message": told }),
            ToolOutcome::Cancelled,
            now,
            out,
        );
        let failure =
            Failure::new(Kind::Cancelled, format!("{told}, and the rest needs its result"));
        self.go_on_without(index, &told, failure, now, out);
    }

    /// Ends a step as an error.
    fn fail(&mut self, index: usize, failure: Failure, now: Timestamp, out: &mut Out) {
        let agent = self.open(index).map(|(agent, _)| agent).unwrap_or_default();
        let calls = match failure.kind {
            Kind::DeadlineExceeded => ToolOutcome::Timeout,
            _ => ToolOutcome::Cancelled,
        };
        let shown = json!(failure.report());
        self.close(index, AgentOutcome::Error, shown, calls, now, out);
        let told = format!("{agent} failed: {}", failure.report().message);
        self.go_on_without(index, &told, failure, now, out);
    }

    fn go_on_without(
        &mut self,
        index: usize,
        told: &str,
        failure: Failure,
        now: Timestamp,
        out: &mut Out,
    ) {
        let Some(part) = self.state.parts.get_mut(index) else {
            return;
        };
        part.status = Status::Missing;
        if !self.facts.record {
            part.journal = Journal::default();
        }
        if part.plan.optional {
            self.state.degrade(told);
        } else {
            self.end(Ending::Failed(failure), now, out);
        }
    }

    /// Closes what is open as interrupted; its agents begin again.
    fn interrupt(&mut self, now: Timestamp, out: &mut Out) {
        for index in 0..self.state.parts.len() {
            let Some((_, open)) = self.open(index) else {
                continue;
            };
            let step = open.step;
            self.close(
                index,
                AgentOutcome::Interrupted,
                Value::Null,
                ToolOutcome::Interrupted,
                now,
                out,
            );
            self.state.interrupted.get_or_insert(step);
            if let Some(part) = self.state.parts.get_mut(index) {
                part.status = Status::Pending;
            }
        }
    }

    fn hand_over(&mut self, now: Timestamp, out: &mut Out) {
        self.interrupt(now, out);
        out.effects.push(Effect::Record {
            events: std::mem::take(&mut out.events),
            transition: Some(RunState::Queued),
        });
        out.effects.push(Effect::Leave);
    }

    /// Ends the run. How it ends is saved together with the last step's end, before anyone is told: whoever goes on
    /// after a crash tells the same.
    fn end(&mut self, ending: Ending, now: Timestamp, out: &mut Out) {
        if self.is_ending() {
            return;
        }
        let (agent, calls) = match &ending {
            Ending::Completed(_) => (AgentOutcome::Skipped, ToolOutcome::Cancelled),
            Ending::Cancelled(_) => (AgentOutcome::Cancelled, ToolOutcome::Cancelled),
            Ending::Failed(failure) if failure.kind == Kind::DeadlineExceeded => {
                (AgentOutcome::Error, ToolOutcome::Timeout)
            }
            Ending::Failed(_) => (AgentOutcome::Skipped, ToolOutcome::Cancelled),
        };
        for index in 0..self.state.parts.len() {
            if self.open(index).is_some() {
                self.close(index, agent, Value::Null, calls, now, out);
                if let Some(part) = self.state.parts.get_mut(index) {
                    part.status = Status::Missing;
                }
            }
            // One that was interrupted is closed, and what it asked for still stands.
            self.withdraw(index, out);
        }
        let terminal = self.terminal(&ending, now);
        let text = ending.text();
        self.state.ending = Some(ending);
        // What was about to start does not.
        out.effects.retain(|effect| {
            !matches!(effect, Effect::StartAgent { .. } | Effect::StartCall { .. })
        });
        out.effects
            .push(Effect::Record { events: std::mem::take(&mut out.events), transition: None });
        if self.facts.record {
            out.effects.push(Effect::Keep);
        }
        out.effects.push(Effect::Tell(text));
        out.effects
            .push(Effect::Record { transition: terminal.terminal_state(), events: vec![terminal] });
        out.effects.push(Effect::Leave);
    }

    fn terminal(&self, ending: &Ending, now: Timestamp) -> Event {
        let elapsed_ms = millis(self.facts.started_at, now);
        let usage = self.state.usage;
        match ending {
            Ending::Completed(result) => Event::RunCompleted {
                elapsed_ms,
                usage,
                degraded: self.state.degraded.clone(),
                result: result.clone(),
            },
            Ending::Failed(failure) => {
                Event::RunFailed { elapsed_ms, usage, error: failure.report() }
            }
            Ending::Cancelled(by) => Event::RunCancelled { elapsed_ms, usage, by: *by },
        }
    }
}

fn purpose(facts: &Facts, part: &Part) -> String {
    let own = facts.agents.get(&part.plan.agent).map_or("", String::as_str);
    let planned = part.plan.purpose.as_str();
    let purpose = if planned.is_empty() { own } else { planned };
    clip(purpose, LONGEST_NOTE).into_owned()
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}
