//! The run log as plainly as it can be said: a list of runs and a few loops. The walk compares backends with it.

use crate::clock::Timestamp;
use crate::error::Kind;
use crate::event::Recorded;
use crate::id::{BatchId, NodeId, RunId, ThreadId, UserId};
use crate::run::{Append, Lease, NewRun, RunLimits, RunState, Signal, Signals, Snapshot};
use std::collections::HashSet;

#[derive(Debug)]
pub(super) struct Model {
    limits: RunLimits,
    pub(super) runs: Vec<ModelRun>,
    pub(super) inbox: Vec<(UserId, RunId, RunState)>,
}

#[derive(Debug)]
pub(super) struct ModelRun {
    pub(super) new: NewRun,
    pub(super) user: UserId,
    pub(super) state: RunState,
    pub(super) events: Vec<Recorded>,
    pub(super) attempt: u32,
    pub(super) aged: bool,
    fence: u64,
    held: Option<(NodeId, Timestamp)>,
    place: bool,
    last: Option<BatchId>,
    signals: Signals,
    told: bool,
    wakes: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// What a claim gave: run, fence, attempt, head and signals.
pub(super) type Taken = (RunId, u64, u32, u64, Signals);

impl Model {
    pub(super) fn new(limits: RunLimits) -> Self {
        Self { limits, runs: Vec::new(), inbox: Vec::new() }
    }

    pub(super) fn start(&mut self, user: UserId, new: &NewRun) -> Result<(RunId, bool), Kind> {
        let same = |run: &&ModelRun| run.user == user && run.new.request == new.request;
        if let Some(known) = self.runs.iter().find(same) {
            return if known.new.digest == new.digest {
                Ok((known.new.run, false))
            } else {
                Err(Kind::Conflict)
            };
        }
        self.runs.push(ModelRun {
            new: new.clone(),
            user,
            state: RunState::Queued,
            events: Vec::new(),
            attempt: 1,
            aged: false,
            fence: 0,
            held: None,
            place: false,
            last: None,
            signals: Signals::default(),
            told: true,
            wakes: None,
            ended: None,
        });
        let ready = self.ready();
        let queue = |run: &&ModelRun| {
            let waits = run.state == RunState::Queued && !ready.contains(&run.new.run);
            run.user == user && waits && run.new.parent.is_none()
        };
        let runs_now = new.parent.is_some() || ready.contains(&new.run);
        if !runs_now && self.runs.iter().filter(queue).count() > self.limits.queued {
            self.runs.pop();
            return Err(Kind::TooManyRuns);
        }
        let begins = if runs_now { RunState::Running } else { RunState::Queued };
        self.inbox.push((user, new.run, begins));
        Ok((new.run, true))
    }

    pub(super) fn claim(&mut self, node: NodeId, max: usize, now: Timestamp) -> Vec<Taken> {
        for run in &mut self.runs {
            run.aged |= run.ended.is_some_and(|ended| now.since(ended) >= self.limits.history_age);
            if run.state == RunState::Waiting && run.wakes.is_some_and(|at| at <= now) {
                run.state = RunState::Queued;
            }
        }
        let idle = |run: &ModelRun| run.held.is_none() && run.ended.is_none();
        let child = |run: &ModelRun| run.new.parent.is_some() && run.state == RunState::Queued;
        let mut order: Vec<RunId> = Vec::new();
        let at_once =
            |run: &&ModelRun| idle(run) && (run.state == RunState::Cancelling || child(run));
        order.extend(self.runs.iter().filter(at_once).map(|run| run.new.run));
        order.extend(self.ready());
        let lost = |run: &&ModelRun| run.held.is_some_and(|(_, until)| until <= now);
        order.extend(self.runs.iter().filter(lost).map(|run| run.new.run));
        order.truncate(max);
        order
            .into_iter()
            .map(|id| {
                let until = now.plus(self.limits.lease);
                let run = self.run(id).expect("it was just found");
                run.fence += 1;
                run.attempt += u32::from(run.held.is_some());
                run.held = Some((node, until));
                run.told = true;
                if run.state == RunState::Queued {
                    run.state = RunState::Running;
                    run.place = run.new.parent.is_none();
                }
                (id, run.fence, run.attempt, run.head(), run.signals.clone())
            })
            .collect()
    }

    pub(super) fn append(
        &mut self,
        lease: &Lease,
        batch: &Append,
        now: Timestamp,
    ) -> Result<(u64, Signals), Kind> {
        let until = now.plus(self.limits.lease);
        let run = self.run(lease.run).ok_or(Kind::Fenced)?;
        if run.last == Some(batch.batch) {
            return Ok((run.head(), run.signals.clone()));
        }
        if run.ended.is_some() || run.fence != lease.fence || run.held.is_none() {
            return Err(Kind::Fenced);
        }
        if run.head() != batch.after {
            return Err(Kind::Conflict);
        }
        let closes = batch.events.last().is_some_and(|event| event.terminal);
        let ends = batch.transition.is_some_and(RunState::is_terminal);
        if closes != ends {
            return Err(Kind::BadRequest);
        }
        run.events.extend(batch.events.iter().cloned());
        run.last = Some(batch.batch);
        let before = run.state;
        run.state = match batch.transition {
            Some(state) if ends => state,
            _ if before == RunState::Cancelling => before,
            Some(RunState::Waiting) if !run.told => RunState::Queued,
            Some(state) => state,
            None => before,
        };
        run.told = true;
        run.wakes = batch.wake_at;
        for lapsed in &batch.lapsed {
            let decided = run.signals.decided.iter().any(|(known, ..)| known == lapsed);
            if !decided && !run.signals.lapsed.contains(lapsed) {
                run.signals.lapsed.push(*lapsed);
            }
        }
        run.held = Some((lease.node, until));
        let gives_up = [Some(RunState::Waiting), Some(RunState::Queued)];
        if ends || gives_up.contains(&batch.transition) {
            (run.held, run.place) = (None, false);
        }
        if ends {
            run.ended = Some(now);
        }
        let answer = (run.head(), run.signals.clone());
        let entry = (run.user, run.new.run, run.state);
        if ends || run.state == RunState::Waiting {
            self.inbox.push(entry);
        }
        Ok(answer)
    }

    pub(super) fn signal(
        &mut self,
        user: UserId,
        run: RunId,
        signal: &Signal,
    ) -> Result<RunState, Kind> {
        let run = self.run(run).filter(|run| run.user == user);
        let run = run.ok_or(Kind::NotFound)?;
        if run.ended.is_some() {
            return Ok(run.state);
        }
        match signal {
            Signal::Cancel => {
                run.signals.cancelled_by = Some(user);
                run.state = RunState::Cancelling;
            }
            Signal::Stop(step) => {
                run.signals.stopped.retain(|known| known != step);
                run.signals.stopped.push(*step);
            }
            Signal::Decide { approval, decision, .. } => {
                let lapsed = run.signals.lapsed.contains(approval);
                if lapsed || run.signals.decided.iter().any(|(known, ..)| known == approval) {
                    return Err(Kind::Conflict);
                }
                run.signals.decided.push((*approval, *decision, user));
            }
        }
        if run.state == RunState::Waiting {
            run.state = RunState::Queued;
        }
        run.told = false;
        Ok(run.state)
    }

    pub(super) fn forget(&mut self, user: UserId, thread: ThreadId) -> Result<Vec<RunId>, Kind> {
        let of = |run: &ModelRun| run.user == user && run.new.thread == thread;
        if self.runs.iter().any(|run| of(run) && run.ended.is_none()) {
            return Err(Kind::Conflict);
        }
        let gone = self.runs.iter().filter(|run| of(run));
        let gone = gone.map(|run| run.new.run).collect();
        self.runs.retain(|run| !of(run));
        Ok(gone)
    }

    /// The queued runs that have a place, in order.
    fn ready(&self) -> Vec<RunId> {
        let mut busy: HashSet<(UserId, ThreadId)> = HashSet::new();
        let mut used: Vec<UserId> = Vec::new();
        for run in self.runs.iter().filter(|run| run.place) {
            busy.insert((run.user, run.new.thread));
            used.push(run.user);
        }
        let mut ready = Vec::new();
        for run in &self.runs {
            let queued = run.state == RunState::Queued && run.new.parent.is_none();
            let others = used.iter().filter(|user| **user == run.user).count();
            if queued && others < self.limits.running && busy.insert((run.user, run.new.thread)) {
                used.push(run.user);
                ready.push(run.new.run);
            }
        }
        ready
    }

    fn run(&mut self, run: RunId) -> Option<&mut ModelRun> {
        self.runs.iter_mut().find(|known| known.new.run == run)
    }
}

impl ModelRun {
    pub(super) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for event in &self.events {
            snapshot.apply(&event.decode().expect("the event is whole").event);
        }
        snapshot.state = self.state;
        snapshot
    }
}
