//! Claims, leases, fences, and what users ask of runs.

use super::bench::{Bench, cancelled, completed, thought};
use super::run_log::woken;
use super::{Backend, cases};
use crate::clock::Clock as _;
use crate::error::Kind;
use crate::event::Decision;
use crate::id::{ApprovalId, StepId};
use crate::run::{Append, Lease, RunLimits, RunState, Signal, Topic};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

cases!("lease":
    the_oldest_run_with_a_place_comes_first,
    many_nodes_never_claim_the_same_run,
    a_conversation_runs_one_at_a_time,
    a_child_uses_the_place_of_its_parent,
    a_lease_that_ran_out_is_taken_over,
    a_late_writer_still_counts_while_nobody_took_over,
    a_zombie_is_fenced,
    a_renewal_keeps_the_lease,
    a_run_that_waits_holds_no_place,
    a_decision_makes_a_waiting_run_claimable,
    what_was_asked_meanwhile_is_looked_at_before_waiting,
    a_run_that_has_waited_long_enough_is_queued_again,
    what_has_lapsed_cannot_be_decided,
    what_was_decided_does_not_lapse,
    a_run_can_be_given_back,
    a_queued_run_that_is_cancelled_is_claimable_at_once,
    a_cancel_reaches_the_writer,
    the_first_decision_counts,
    a_signal_to_a_run_that_has_ended_does_nothing,
);

async fn the_oldest_run_with_a_place_comes_first(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 1, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let (ada, bob) = (bench.user(), bench.user());
    let mut started = Vec::new();
    for user in [&ada, &ada, &bob, &bob] {
        started.push(bench.start(user).await.run);
    }
    let claimed = bench.claim(bench.node(), 10).await;
    let runs: Vec<_> = claimed.iter().map(|claimed| claimed.lease.run).collect();
    assert_eq!(runs, [started[0], started[2]]);
    assert!(bench.claim(bench.node(), 10).await.is_empty());
    bench.complete(&claimed[0].lease, 1).await.unwrap();
    let next = bench.claim(bench.node(), 10).await;
    assert_eq!(next[0].lease.run, started[1]);
    assert!(bench.claim(bench.node(), 0).await.is_empty());
}

async fn many_nodes_never_claim_the_same_run(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    for _ in 0..10 {
        let user = bench.user();
        for _ in 0..4 {
            bench.start(&user).await;
        }
    }
    let nodes: Vec<_> = (0..8)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move {
                let (node, mut runs) = (bench.node(), Vec::new());
                loop {
                    let claimed = bench.claim(node, 3).await;
                    if claimed.is_empty() {
                        return runs;
                    }
                    runs.extend(claimed.into_iter().map(|claimed| claimed.lease.run));
                }
            })
        })
        .collect();
    let mut times: HashMap<_, usize> = HashMap::new();
    for node in nodes {
        for run in node.await.unwrap() {
            *times.entry(run).or_default() += 1;
        }
    }
    assert_eq!(times.len(), 40);
    assert!(times.values().all(|times| *times == 1));
}

async fn a_conversation_runs_one_at_a_time(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    let first = bench.start_in(&user, thread).await;
    let second = bench.start_in(&user, thread).await;
    // Another user's run under the same thread id has nothing to do with it.
    let other = bench.start_in(&bench.user(), thread).await;
    let claimed = bench.claim(bench.node(), 10).await;
    let runs: Vec<_> = claimed.iter().map(|claimed| claimed.lease.run).collect();
    assert_eq!(runs, [first.run, other.run]);
    bench.complete(&claimed[0].lease, 1).await.unwrap();
    assert_eq!(bench.claim(bench.node(), 10).await[0].lease.run, second.run);
}

async fn a_child_uses_the_place_of_its_parent(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 1, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    let parent = bench.running(&user).await;
    let mut new = bench.new_run(parent.lease.thread);
    new.parent = Some(parent.lease.run);
    bench.stores.runs.start(&user, new.clone()).await.unwrap();
    let child = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!((child.lease.run, child.lease.parent), (new.run, new.parent));
    bench.complete(&child.lease, 1).await.unwrap();
    bench.start(&user).await;
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}

async fn a_lease_that_ran_out_is_taken_over(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let first = bench.running(&user).await;
    bench.append(&first.lease, 1, vec![thought(1)], None).await.unwrap();
    bench.clock.advance(Duration::from_millis(14_000));
    assert!(bench.claim(bench.node(), 10).await.is_empty());
    bench.clock.advance(Duration::from_millis(1_001));
    let second = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!((second.attempt, second.lease.head), (2, 2));
    assert!(second.lease.fence > first.lease.fence);
    assert_eq!(second.lease.epoch, first.lease.epoch);
    bench.clock.advance(Duration::from_secs(16));
    let third = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(third.attempt, 3);
    let view = bench.stores.runs.view(&user, third.lease.run).await.unwrap();
    assert_eq!((view.attempt, view.state), (3, RunState::Running));
}

async fn a_late_writer_still_counts_while_nobody_took_over(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let lease = bench.running(&bench.user()).await.lease;
    bench.clock.advance(Duration::from_secs(60));
    bench.append(&lease, 1, vec![thought(1)], None).await.unwrap();
    assert!(bench.claim(bench.node(), 10).await.is_empty(), "that renewed it");
}

async fn a_zombie_is_fenced(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let zombie = bench.running(&user).await.lease;
    let batch = bench.batch(&zombie, 1, vec![thought(1)], None);
    bench.stores.runs.append(&zombie, batch.clone()).await.unwrap();
    bench.clock.advance(Duration::from_secs(16));
    let lease = bench.claim(bench.node(), 10).await.remove(0).lease;
    // What it had written is answered; anything new is refused.
    assert_eq!(bench.stores.runs.append(&zombie, batch.clone()).await.unwrap().head, 2);
    for (events, transition) in
        [(vec![thought(2)], None), (vec![], None), (vec![completed()], Some(RunState::Completed))]
    {
        let error = bench.append(&zombie, 2, events, transition).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Fenced);
    }
    bench.append(&lease, 2, vec![thought(3)], None).await.unwrap();
    let error = bench.stores.runs.append(&zombie, batch).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert_eq!(bench.log(&user, lease.run).await.len(), 3);
}

async fn a_renewal_keeps_the_lease(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let lease = bench.running(&bench.user()).await.lease;
    for _ in 0..4 {
        bench.clock.advance(Duration::from_secs(10));
        let answer = bench.append(&lease, 1, vec![], None).await.unwrap();
        assert_eq!(answer.head, 1);
        assert!(bench.claim(bench.node(), 10).await.is_empty());
    }
}

async fn a_run_that_waits_holds_no_place(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 1, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    let waiting = bench.running(&user).await.lease;
    let mut work = bench.stores.wakeup.listen(Topic::Work);
    bench.append(&waiting, 1, vec![thought(1)], Some(RunState::Waiting)).await.unwrap();
    woken(&mut work).await;
    let inbox = bench.stores.runs.inbox(&user, 0, 10).await.unwrap();
    assert_eq!(inbox.entries[1].state, RunState::Waiting);
    let error = bench.append(&waiting, 2, vec![], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    let next = bench.start_in(&user, waiting.thread).await;
    bench.clock.advance(Duration::from_secs(60));
    let claimed = bench.claim(bench.node(), 10).await;
    assert_eq!(claimed.len(), 1, "a run that waits is nobody's to claim");
    assert_eq!(claimed[0].lease.run, next.run);
}

async fn a_decision_makes_a_waiting_run_claimable(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let first = bench.running(&user).await.lease;
    bench.append(&first, 1, vec![], Some(RunState::Waiting)).await.unwrap();
    let approval = ApprovalId::new(&*bench.clock);
    let mut work = bench.stores.wakeup.listen(Topic::Work);
    let state = bench
        .stores
        .runs
        .signal(&user, first.run, decide(approval, Decision::Approve))
        .await
        .unwrap();
    assert_eq!(state, RunState::Queued);
    woken(&mut work).await;
    let second = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(second.lease.run, first.run);
    assert_eq!(second.attempt, 1, "nothing was lost");
    assert!(second.lease.fence > first.fence);
    let decided = (approval, Decision::Approve, user.user());
    assert_eq!(second.signals.decided, [decided]);
}

async fn what_was_asked_meanwhile_is_looked_at_before_waiting(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let stop = Signal::Stop(StepId(2));
    bench.stores.runs.signal(&user, lease.run, stop).await.unwrap();
    bench.append(&lease, 1, vec![], Some(RunState::Waiting)).await.unwrap();
    let claimed = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(claimed.signals.stopped, [StepId(2)]);
    bench.append(&claimed.lease, 1, vec![], Some(RunState::Waiting)).await.unwrap();
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}

async fn a_run_that_has_waited_long_enough_is_queued_again(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let first = bench.running(&user).await.lease;
    let wait = |lease: &Lease, seconds| Append {
        wake_at: Some(bench.clock.now().plus(Duration::from_secs(seconds))),
        ..bench.batch(lease, 1, vec![], Some(RunState::Waiting))
    };
    bench.stores.runs.append(&first, wait(&first, 60)).await.unwrap();
    bench.clock.advance(Duration::from_secs(59));
    assert!(bench.claim(bench.node(), 10).await.is_empty(), "it is not time yet");
    bench.clock.advance(Duration::from_secs(1));
    let second = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!((second.lease.run, second.attempt), (first.run, 1), "nothing was lost");
    assert!(second.lease.fence > first.fence);
    // It needs a place as any other, and its conversation has one.
    bench.stores.runs.append(&second.lease, wait(&second.lease, 5)).await.unwrap();
    let next = bench.start_in(&user, first.thread).await;
    let busy = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(busy.lease.run, next.run);
    bench.clock.advance(Duration::from_secs(6));
    assert!(bench.claim(bench.node(), 10).await.is_empty(), "its conversation is busy");
    bench.complete(&busy.lease, 1).await.unwrap();
    let third = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(third.lease.run, first.run);
    // What it is told ends the wait, and no time is left over from it.
    bench.stores.runs.append(&third.lease, wait(&third.lease, 10)).await.unwrap();
    let approval = ApprovalId::new(&*bench.clock);
    let told = decide(approval, Decision::Approve);
    bench.stores.runs.signal(&user, first.run, told).await.unwrap();
    let fourth = bench.claim(bench.node(), 10).await.remove(0);
    bench.append(&fourth.lease, 1, vec![], Some(RunState::Waiting)).await.unwrap();
    bench.clock.advance(Duration::from_secs(3_600));
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}

async fn what_has_lapsed_cannot_be_decided(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let (runs, approval) = (&bench.stores.runs, ApprovalId::new(&*bench.clock));
    let lapse = Append { lapsed: vec![approval], ..bench.batch(&lease, 1, vec![], None) };
    let answer = runs.append(&lease, lapse.clone()).await.unwrap();
    assert_eq!(answer.signals.lapsed, [approval]);
    let again = Append { lapsed: vec![approval], ..bench.batch(&lease, 1, vec![], None) };
    let answer = runs.append(&lease, again).await.unwrap();
    assert_eq!(answer.signals.lapsed, [approval], "it lapses once");
    let late = runs.signal(&user, lease.run, decide(approval, Decision::Approve)).await;
    assert_eq!(late.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(runs.view(&user, lease.run).await.unwrap().settled, [approval]);
    bench.clock.advance(Duration::from_secs(16));
    let claimed = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(claimed.signals.lapsed, [approval], "whoever goes on knows it");
}

async fn what_was_decided_does_not_lapse(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let (runs, approval) = (&bench.stores.runs, ApprovalId::new(&*bench.clock));
    runs.signal(&user, lease.run, decide(approval, Decision::Approve)).await.unwrap();
    let lapse = Append { lapsed: vec![approval], ..bench.batch(&lease, 1, vec![], None) };
    let answer = runs.append(&lease, lapse).await.unwrap();
    let decided = (approval, Decision::Approve, user.user());
    assert_eq!((answer.signals.decided, answer.signals.lapsed), (vec![decided], vec![]));
}

async fn a_run_can_be_given_back(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let lease = bench.running(&bench.user()).await.lease;
    bench.append(&lease, 1, vec![thought(1)], Some(RunState::Queued)).await.unwrap();
    let error = bench.append(&lease, 2, vec![], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    let again = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!((again.lease.run, again.attempt), (lease.run, 1));
}

async fn a_queued_run_that_is_cancelled_is_claimable_at_once(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 1, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    bench.running(&user).await;
    let queued = bench.start(&user).await;
    assert!(bench.claim(bench.node(), 10).await.is_empty());
    let state = bench.stores.runs.signal(&user, queued.run, Signal::Cancel).await.unwrap();
    assert_eq!(state, RunState::Cancelling);
    let claimed = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(claimed.lease.run, queued.run);
    assert_eq!(claimed.signals.cancelled_by, Some(user.user()));
    let events = vec![cancelled(user.user())];
    bench.append(&claimed.lease, 1, events, Some(RunState::Cancelled)).await.unwrap();
    let view = bench.stores.runs.view(&user, queued.run).await.unwrap();
    assert_eq!((view.state, view.snapshot.state), (RunState::Cancelled, RunState::Cancelled));
}

async fn a_cancel_reaches_the_writer(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let mut signals = bench.stores.wakeup.listen(Topic::Signals(lease.run));
    bench.stores.runs.signal(&user, lease.run, Signal::Cancel).await.unwrap();
    woken(&mut signals).await;
    let answer = bench.append(&lease, 1, vec![], None).await.unwrap();
    assert_eq!(answer.signals.cancelled_by, Some(user.user()));
    // It stays a cancel, whatever the writer says, until the run has ended.
    bench.append(&lease, 1, vec![], Some(RunState::Running)).await.unwrap();
    let view = bench.stores.runs.view(&user, lease.run).await.unwrap();
    assert_eq!(view.state, RunState::Cancelling);
    bench.clock.advance(Duration::from_secs(16));
    let claimed = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!(claimed.signals.cancelled_by, Some(user.user()));
}

async fn the_first_decision_counts(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let (runs, approval) = (&bench.stores.runs, ApprovalId::new(&*bench.clock));
    runs.signal(&user, lease.run, decide(approval, Decision::Deny)).await.unwrap();
    let error =
        runs.signal(&user, lease.run, decide(approval, Decision::Approve)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let answer = bench.append(&lease, 1, vec![], None).await.unwrap();
    assert_eq!(answer.signals.decided, [(approval, Decision::Deny, user.user())]);
}

async fn a_signal_to_a_run_that_has_ended_does_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    bench.complete(&lease, 1).await.unwrap();
    let state = bench.stores.runs.signal(&user, lease.run, Signal::Cancel).await.unwrap();
    assert_eq!(state, RunState::Completed);
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}

fn decide(approval: ApprovalId, decision: Decision) -> Signal {
    Signal::Decide { approval, digest: "d".into(), decision }
}
