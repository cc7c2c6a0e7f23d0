//! Random walks through everything that a run log can be asked, compared step by step with the model.

use super::bench::{Bench, begun, completed, ended, thought};
use super::model::{Model, Taken};
use super::{Backend, Random, cases};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::event::{Decision, Event};
use crate::id::{ApprovalId, NodeId, StepId, ThreadId};
use crate::principal::Principal;
use crate::run::{Append, Lease, NewRun, RunLimits, RunState, Signal};
use std::sync::Arc;
use std::time::Duration;

cases!("walk": a_random_walk_agrees_with_the_model);

const SEEDS: u64 = 12;
const STEPS: usize = 250;

const LIMITS: RunLimits = RunLimits {
    running: 2,
    queued: 3,
    lease: Duration::from_secs(15),
    attempts: 3,
    history_events: 12,
    history_bytes: 4_000,
    history_age: Duration::from_secs(3_600),
    inbox_entries: 8,
};

async fn a_random_walk_agrees_with_the_model(backend: Arc<dyn Backend>) {
    for seed in 0..SEEDS {
        let mut walk = Walk::new(Bench::with_runs(&*backend, LIMITS).await, seed);
        for step in 0..STEPS {
            walk.at = format!("seed {seed}, step {step}");
            walk.step().await;
            if step % 10 == 9 {
                walk.compare().await;
            }
        }
    }
}

struct Walk {
    bench: Bench,
    model: Model,
    random: Random,
    users: Vec<Principal>,
    threads: Vec<ThreadId>,
    nodes: Vec<NodeId>,
    approvals: Vec<ApprovalId>,
    requests: Vec<(Principal, NewRun)>,
    leases: Vec<(Lease, Option<Append>)>,
    at: String,
}

impl Walk {
    fn new(bench: Bench, seed: u64) -> Self {
        Self {
            model: Model::new(LIMITS),
            random: Random::seeded(seed),
            users: (0..2).map(|_| bench.user()).collect(),
            threads: (0..3).map(|_| bench.thread()).collect(),
            nodes: (0..2).map(|_| bench.node()).collect(),
            approvals: (0..3).map(|_| ApprovalId::new(&*bench.clock)).collect(),
            requests: Vec::new(),
            leases: Vec::new(),
            at: String::new(),
            bench,
        }
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..=3 => self.start().await,
            4..=6 => self.claim().await,
            7..=14 => self.append().await,
            15..=16 => self.signal().await,
            17 => self.forget().await,
            _ => {
                let hours = if self.random.once_in(20) { 3_600 } else { 0 };
                let seconds = self.random.below(10) as u64 + hours;
                self.bench.clock.advance(Duration::from_secs(seconds));
            }
        }
    }

    async fn start(&mut self) {
        let (user, new) = match self.random.choose(&self.requests.clone()) {
            Some((user, known)) if self.random.once_in(3) => {
                let mut again = self.bench.new_run(known.thread);
                again.request = known.request;
                if self.random.once_in(3) {
                    again.digest = [9; 32];
                }
                (user.clone(), again)
            }
            _ => {
                let user = self.random.choose(&self.users).unwrap().clone();
                let thread = *self.random.choose(&self.threads).unwrap();
                let mut new = self.bench.new_run(thread);
                if self.random.once_in(6)
                    && let Some((lease, _)) = self.random.choose(&self.leases)
                {
                    new.parent = Some(lease.run);
                }
                (user, new)
            }
        };
        let expected = self.model.start(user.user(), &new);
        let answer = self.bench.stores.runs.start(&user, new.clone()).await;
        let answer =
            answer.map(|started| (started.run, started.created)).map_err(|error| error.kind());
        assert_eq!(answer, expected, "start at {}", self.at);
        if let Ok((run, true)) = answer {
            let first = self.bench.log(&user, run).await;
            self.model.runs.last_mut().unwrap().events = first;
            self.requests.push((user, new));
        }
    }

    async fn claim(&mut self) {
        let node = *self.random.choose(&self.nodes).unwrap();
        let max = self.random.below(4);
        let expected = self.model.claim(node, max, self.bench.clock.now());
        let claimed = self.bench.claim(node, max).await;
        let taken: Vec<Taken> = claimed
            .iter()
            .map(|c| {
                let lease = &c.lease;
                (lease.run, lease.fence, c.attempt, lease.head, c.signals.clone())
            })
            .collect();
        assert_eq!(taken, expected, "claim at {}", self.at);
        let leases = claimed.into_iter().map(|claimed| (claimed.lease, None));
        self.leases.extend(leases);
    }

    async fn append(&mut self) {
        let recent = self.leases.len().saturating_sub(6);
        let among = if self.random.once_in(6) { 0 } else { recent };
        let Some(place) = (among < self.leases.len())
            .then(|| among + self.random.below(self.leases.len() - among))
        else {
            return;
        };
        let (lease, last) = self.leases[place].clone();
        let batch = match last {
            Some(last) if self.random.once_in(8) => last,
            _ => self.new_batch(&lease),
        };
        let expected = self.model.append(&lease, &batch, self.bench.clock.now());
        let answer = self.bench.stores.runs.append(&lease, batch.clone()).await;
        let answer =
            answer.map(|appended| (appended.head, appended.signals)).map_err(|error| error.kind());
        assert_eq!(answer, expected, "append at {}: {batch:?}", self.at);
        self.leases[place].1 = Some(batch);
    }

    fn new_batch(&mut self, lease: &Lease) -> Append {
        let known = self.model.runs.iter().find(|run| run.new.run == lease.run);
        let head = known.map_or(1, |run| run.head());
        let after = if self.random.once_in(12) { head + 1 } else { head };
        let mut events: Vec<Event> = (0..self.random.below(5))
            .map(|_| {
                let step = self.random.below(4) as u32;
                match self.random.below(3) {
                    0 => begun(step),
                    1 => ended(step),
                    _ => thought(self.random.below(400)),
                }
            })
            .collect();
        let transition = match self.random.below(12) {
            0 | 1 => Some(RunState::Completed),
            2 => Some(RunState::Waiting),
            3 => Some(RunState::Queued),
            4 => Some(RunState::Running),
            _ => None,
        };
        if (transition == Some(RunState::Completed)) != self.random.once_in(30) {
            events.push(completed());
        }
        let mut batch = self.bench.batch(lease, after, events, transition);
        if transition == Some(RunState::Waiting) && self.random.once_in(2) {
            let seconds = self.random.below(20) as u64;
            batch.wake_at = Some(self.bench.clock.now().plus(Duration::from_secs(seconds)));
        }
        if self.random.once_in(20) {
            batch.lapsed.push(*self.random.choose(&self.approvals).unwrap());
        }
        batch
    }

    async fn signal(&mut self) {
        let user = self.random.choose(&self.users).unwrap().clone();
        let Some((_, new)) = self.random.choose(&self.requests) else {
            return;
        };
        let run = new.run;
        let signal = match self.random.below(5) {
            0 => Signal::Cancel,
            1 | 2 => Signal::Stop(StepId(self.random.below(1_000_000) as u32)),
            _ => Signal::Decide {
                approval: *self.random.choose(&self.approvals).unwrap(),
                digest: "d".into(),
                decision: Decision::Approve,
            },
        };
        let expected = self.model.signal(user.user(), run, &signal);
        let answer = self.bench.stores.runs.signal(&user, run, signal).await;
        let answer = answer.map_err(|error| error.kind());
        assert_eq!(answer, expected, "signal at {}", self.at);
    }

    async fn forget(&mut self) {
        let user = self.random.choose(&self.users).unwrap().clone();
        let thread = *self.random.choose(&self.threads).unwrap();
        let expected = self.model.forget(user.user(), thread);
        let answer = self.bench.stores.runs.forget(&user, thread).await;
        let answer = answer.map_err(|error| error.kind());
        assert_eq!(answer, expected, "forget at {}", self.at);
    }

    async fn compare(&self) {
        for run in &self.model.runs {
            let id = run.new.run;
            for user in &self.users {
                let view = self.bench.stores.runs.view(user, id).await;
                if user.user() != run.user {
                    assert_eq!(view.unwrap_err().kind(), Kind::NotFound, "at {}", self.at);
                    continue;
                }
                let view = view.unwrap();
                assert_eq!(view.state, run.state, "at {}", self.at);
                assert_eq!((view.head, view.attempt), (run.head(), run.attempt), "at {}", self.at);
                assert_eq!(view.snapshot, run.snapshot(), "at {}", self.at);
                let log = self.bench.log(user, id).await;
                let kept = usize::try_from(view.oldest).unwrap() - 1;
                assert_eq!(log, run.events[kept..], "at {}", self.at);
                assert_eq!(log.is_empty(), run.aged, "at {}", self.at);
                assert!(log.len() <= LIMITS.history_events, "at {}", self.at);
                let bytes: usize = log.iter().map(|event| event.json.len()).sum();
                assert!(bytes <= LIMITS.history_bytes || log.len() == 1, "at {}", self.at);
            }
        }
        for user in &self.users {
            let page = self.bench.stores.runs.inbox(user, 0, 100).await.unwrap();
            let all = self.model.inbox.iter().filter(|entry| entry.0 == user.user());
            let all: Vec<_> = all.map(|(_, run, state)| (*run, *state)).collect();
            assert_eq!(page.head, all.len() as u64, "at {}", self.at);
            let kept = all.len().saturating_sub(LIMITS.inbox_entries);
            let found: Vec<_> = page.entries.iter().map(|e| (e.run, e.state)).collect();
            assert_eq!(found, all[kept..], "at {}", self.at);
            let numbers: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
            assert_eq!(numbers, (page.oldest..=page.head).collect::<Vec<_>>());
        }
    }
}
