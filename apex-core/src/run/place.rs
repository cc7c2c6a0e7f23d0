//! Who may run: a conversation has one run at work at a time, a user a few, and the rest wait in order.

use super::log::{NewRun, RunLimits};
use super::record::RunRecord;
use super::state::RunState;
use crate::error::{Error, Kind, Result};
use crate::id::{RunId, ThreadId};
use std::collections::HashSet;

/// One of a user's runs that have not ended, as far as places are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenRun {
    pub(crate) run: RunId,
    pub(crate) thread: ThreadId,
    pub(crate) queued: bool,
    pub(crate) placed: bool,
    pub(crate) child: bool,
}

impl From<&RunRecord> for OpenRun {
    fn from(record: &RunRecord) -> Self {
        Self {
            run: record.run,
            thread: record.thread,
            queued: record.state == RunState::Queued,
            placed: record.placed,
            child: record.parent.is_some(),
        }
    }
}

/// Which of one user's queued runs have a place now. A thread has one place, a user `limits.running`; runs come in
/// the order in which they were put on record. A child uses its parent's place.
pub(crate) fn with_place(open: &[OpenRun], limits: &RunLimits) -> Vec<RunId> {
    let placed = || open.iter().filter(|run| run.placed);
    let mut threads: HashSet<ThreadId> = placed().map(|run| run.thread).collect();
    let mut free = limits.running.saturating_sub(placed().count());
    let mut found = Vec::new();
    for run in open.iter().filter(|run| run.queued && !run.child) {
        if free > 0 && threads.insert(run.thread) {
            free -= 1;
            found.push(run.run);
        }
    }
    found
}

/// In which state a new run begins, given the user's other runs: running when it has a place, else queued.
///
/// # Errors
/// `too_many_runs` when too many wait already.
pub(crate) fn admit(open: &[OpenRun], new: &NewRun, limits: &RunLimits) -> Result<RunState> {
    let mut open = open.to_vec();
    open.push(OpenRun {
        run: new.run,
        thread: new.thread,
        queued: true,
        placed: false,
        child: new.parent.is_some(),
    });
    let found = with_place(&open, limits);
    if new.parent.is_some() || found.contains(&new.run) {
        return Ok(RunState::Running);
    }
    let waiting = open.iter().filter(|run| run.queued && !run.child).count() - found.len();
    // The new run is among those that wait.
    if waiting > limits.queued {
        return Err(Error::new(
            Kind::TooManyRuns,
            "run_log.start",
            "too many of your runs are waiting; let one end or cancel one",
        )
        .with("limit", limits.queued));
    }
    Ok(RunState::Queued)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::id::RequestId;

    fn new(thread: ThreadId, parent: Option<RunId>) -> NewRun {
        NewRun {
            run: RunId::new(&SystemClock),
            request: RequestId::new(&SystemClock),
            digest: [0; 32],
            thread,
            parent,
            text: String::new(),
            attachments: Vec::new(),
            agents: Vec::new(),
            budget: None,
            trace: None,
        }
    }

    fn open(thread: ThreadId, queued: bool) -> OpenRun {
        OpenRun { run: RunId::new(&SystemClock), thread, queued, placed: !queued, child: false }
    }

    fn limits(running: usize, queued: usize) -> RunLimits {
        RunLimits { running, queued, ..RunLimits::default() }
    }

    #[test]
    fn a_thread_has_one_place_and_a_user_a_few() {
        let [a, b, c] = [(); 3].map(|()| ThreadId::new(&SystemClock));
        let runs = [open(a, false), open(a, true), open(b, true), open(c, true)];
        assert_eq!(with_place(&runs, &limits(2, 9)), [runs[2].run]);
        assert_eq!(with_place(&runs, &limits(3, 9)), [runs[2].run, runs[3].run]);
        assert!(with_place(&runs, &limits(1, 9)).is_empty());
    }

    #[test]
    fn only_runs_that_have_to_wait_count_against_the_queue() {
        let [a, b] = [(); 2].map(|()| ThreadId::new(&SystemClock));
        let waiting = [open(a, false), open(a, true)];
        assert_eq!(admit(&waiting, &new(b, None), &limits(2, 1)).unwrap(), RunState::Running);
        assert_eq!(admit(&waiting, &new(a, None), &limits(2, 2)).unwrap(), RunState::Queued);
        let error = admit(&waiting, &new(a, None), &limits(2, 1)).unwrap_err();
        assert_eq!(error.kind(), Kind::TooManyRuns);
        let child = new(a, Some(waiting[0].run));
        assert_eq!(admit(&waiting, &child, &limits(1, 1)).unwrap(), RunState::Running);
    }
}
