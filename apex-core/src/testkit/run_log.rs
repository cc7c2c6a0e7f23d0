//! Starting, admitting, appending and trimming.

use super::bench::{Bench, begun, completed, ended, thought};
use super::{Backend, cases};
use crate::error::Kind;
use crate::event::Event;
use crate::run::{Checkpoint, RunLimits, RunState, Topic};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

cases!("run_log":
    a_start_puts_the_first_event_and_the_inbox_entry_on_record,
    the_same_request_is_the_same_run,
    other_content_under_a_request_is_a_conflict,
    two_users_may_use_the_same_request_id,
    many_starts_of_one_request_at_once_are_one_run,
    a_run_without_a_place_begins_as_queued,
    a_queue_has_an_end,
    a_batch_is_all_or_nothing,
    a_batch_has_to_follow_the_head,
    the_same_batch_again_is_answered_as_the_first_time,
    of_two_writers_at_one_head_one_wins,
    a_terminal_event_and_its_state_go_together,
    nothing_follows_a_terminal_event,
    a_checkpoint_is_kept_until_the_run_ends,
    a_checkpoint_goes_on_where_the_one_before_ends,
    a_history_is_bounded_by_count,
    a_history_is_bounded_by_bytes,
    a_history_goes_after_its_age_and_the_outcome_stays,
    a_page_is_bounded,
    a_log_wakes_those_who_listen,
    a_conversation_is_forgotten_when_its_runs_have_ended,
);

async fn a_start_puts_the_first_event_and_the_inbox_entry_on_record(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let mut new = bench.new_run(bench.thread());
    new.text = "a question".into();
    let started = bench.stores.runs.start(&user, new.clone()).await.unwrap();
    assert!(started.created);
    let log = bench.log(&user, started.run).await;
    let first = log[0].decode().unwrap();
    assert_eq!((log.len(), first.seq), (1, Some(1)));
    let begins = Event::RunStarted {
        request_id: new.request,
        state: RunState::Running,
        agents: new.agents.clone(),
        budget: new.budget,
        trace: new.trace,
    };
    assert_eq!(first.event, begins);
    let view = bench.stores.runs.view(&user, started.run).await.unwrap();
    assert_eq!((view.state, view.head, view.oldest), (RunState::Queued, 1, 1));
    assert_eq!((view.attempt, view.epoch), (1, first.epoch));
    let inbox = bench.stores.runs.inbox(&user, 0, 10).await.unwrap();
    assert_eq!((inbox.head, inbox.oldest, inbox.entries.len()), (1, 1, 1));
    assert_eq!(inbox.entries[0].run, started.run);
    let claimed = bench.claim(bench.node(), 10).await.remove(0);
    assert_eq!((claimed.text.as_str(), claimed.request), ("a question", new.request));
    assert_eq!(claimed.principal.user(), user.user());
    assert_eq!((claimed.attempt, claimed.lease.head), (1, 1));
}

async fn the_same_request_is_the_same_run(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let runs = &bench.stores.runs;
    let new = bench.new_run(bench.thread());
    assert_eq!(runs.begun(&user, &new).await.unwrap(), None);
    let first = runs.start(&user, new.clone()).await.unwrap();
    let mut again = bench.new_run(bench.thread());
    again.request = new.request;
    assert_eq!(runs.begun(&bench.user(), &again).await.unwrap(), None);
    let begun = runs.begun(&user, &again).await.unwrap();
    assert_eq!(begun.map(|begun| (begun.run, begun.created)), Some((first.run, false)));
    let second = bench.stores.runs.start(&user, again).await.unwrap();
    assert!(!second.created);
    assert_eq!((second.run, second.thread), (first.run, new.thread));
    assert_eq!(bench.stores.runs.inbox(&user, 0, 10).await.unwrap().head, 1);
}

async fn other_content_under_a_request_is_a_conflict(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let new = bench.new_run(bench.thread());
    bench.stores.runs.start(&user, new.clone()).await.unwrap();
    let mut other = bench.new_run(new.thread);
    (other.request, other.digest) = (new.request, [8; 32]);
    let error = bench.stores.runs.begun(&user, &other).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let error = bench.stores.runs.start(&user, other).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let mut taken = bench.new_run(new.thread);
    taken.run = new.run;
    let error = bench.stores.runs.start(&user, taken).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

async fn two_users_may_use_the_same_request_id(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, bob) = (bench.user(), bench.user());
    let new = bench.new_run(bench.thread());
    let mut other = bench.new_run(bench.thread());
    (other.request, other.digest) = (new.request, [8; 32]);
    assert!(bench.stores.runs.start(&ada, new).await.unwrap().created);
    assert!(bench.stores.runs.start(&bob, other).await.unwrap().created);
}

async fn many_starts_of_one_request_at_once_are_one_run(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    let request = bench.new_run(thread).request;
    let starts = (0..50).map(|_| {
        let (bench, user) = (bench.clone(), user.clone());
        tokio::spawn(async move {
            let mut new = bench.new_run(thread);
            new.request = request;
            bench.stores.runs.start(&user, new).await.unwrap()
        })
    });
    let mut runs = HashSet::new();
    let mut created = 0;
    for start in starts.collect::<Vec<_>>() {
        let started = start.await.unwrap();
        runs.insert(started.run);
        created += usize::from(started.created);
    }
    assert_eq!((runs.len(), created), (1, 1));
    assert_eq!(bench.claim(bench.node(), 100).await.len(), 1);
}

async fn a_run_without_a_place_begins_as_queued(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 2, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let (user, thread) = (bench.user(), bench.thread());
    let mut begins = Vec::new();
    for thread in [thread, thread, bench.thread(), bench.thread()] {
        let started = bench.start_in(&user, thread).await;
        match bench.log(&user, started.run).await[0].decode().unwrap().event {
            Event::RunStarted { state, .. } => begins.push(state),
            other => panic!("{other:?}"),
        }
    }
    let (running, queued) = (RunState::Running, RunState::Queued);
    assert_eq!(begins, [running, queued, running, queued]);
}

async fn a_queue_has_an_end(backend: Arc<dyn Backend>) {
    let limits = RunLimits { running: 1, queued: 2, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    for _ in 0..3 {
        bench.start(&user).await;
    }
    let refused = bench.new_run(bench.thread());
    let error = bench.stores.runs.start(&user, refused.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooManyRuns);
    bench.start(&bench.user()).await;
    let claimed = bench.claim(bench.node(), 1).await.remove(0);
    bench.complete(&claimed.lease, 1).await.unwrap();
    let again = bench.stores.runs.start(&user, refused).await.unwrap();
    assert!(again.created, "a refused run leaves nothing behind");
}

async fn a_batch_is_all_or_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let events = vec![begun(1), thought(3), ended(1)];
    let answer = bench.append(&lease, 1, events, None).await.unwrap();
    assert_eq!(answer.head, 4);
    let mut holed = bench.batch(&lease, 4, vec![thought(1), thought(2)], None);
    holed.events[1].seq = 7;
    let error = bench.stores.runs.append(&lease, holed).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadRequest);
    let log = bench.log(&user, lease.run).await;
    let names: Vec<&str> = log.iter().map(|e| e.decode().unwrap().event.name()).collect();
    assert_eq!(names, ["run_started", "agent_started", "agent_thinking", "agent_completed"]);
}

async fn a_batch_has_to_follow_the_head(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in [0, 2, 99] {
        let error = bench.append(&lease, after, vec![thought(1)], None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
    }
    assert_eq!(bench.log(&user, lease.run).await.len(), 1);
}

async fn the_same_batch_again_is_answered_as_the_first_time(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let batch = bench.batch(&lease, 1, vec![begun(1), thought(1)], None);
    let first = bench.stores.runs.append(&lease, batch.clone()).await.unwrap();
    bench.log(&user, lease.run).await;
    let again = bench.stores.runs.append(&lease, batch).await.unwrap();
    assert_eq!(first, again);
    let last = bench.batch(&lease, 3, vec![completed()], Some(RunState::Completed));
    let first = bench.stores.runs.append(&lease, last.clone()).await.unwrap();
    assert_eq!(bench.stores.runs.append(&lease, last).await.unwrap(), first);
    assert_eq!(bench.log(&user, lease.run).await.len(), 4);
    assert_eq!(bench.stores.runs.inbox(&user, 0, 10).await.unwrap().head, 2);
}

async fn of_two_writers_at_one_head_one_wins(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in 1..20 {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (bench, lease) = (bench.clone(), lease.clone());
                tokio::spawn(async move {
                    bench.append(&lease, after, vec![thought(9)], None).await.is_ok()
                })
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            won += usize::from(writer.await.unwrap());
        }
        assert_eq!(won, 1);
    }
    assert_eq!(bench.log(&user, lease.run).await.len(), 20);
}

async fn a_terminal_event_and_its_state_go_together(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let wrong = [
        (vec![completed()], None),
        (vec![completed()], Some(RunState::Failed)),
        (vec![thought(1)], Some(RunState::Completed)),
        (vec![], Some(RunState::Cancelled)),
        (vec![completed(), thought(1)], Some(RunState::Completed)),
    ];
    for (events, transition) in wrong {
        let error = bench.append(&lease, 1, events, transition).await.unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest);
    }
    bench.complete(&lease, 1).await.unwrap();
    let view = bench.stores.runs.view(&user, lease.run).await.unwrap();
    assert_eq!(view.state, RunState::Completed);
    assert!(view.ended_at.is_some() && view.snapshot.result.is_some());
}

async fn nothing_follows_a_terminal_event(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    bench.complete(&lease, 1).await.unwrap();
    for (after, events, transition) in [
        (2, vec![thought(1)], None),
        (2, vec![completed()], Some(RunState::Completed)),
        (2, vec![], None),
    ] {
        let error = bench.append(&lease, after, events, transition).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Fenced);
    }
    let page = bench.stores.runs.read(&user, lease.run, 2, 10).await.unwrap();
    assert!(page.ended && page.events.is_empty());
    assert!(bench.claim(bench.node(), 10).await.is_empty());
}

async fn a_checkpoint_is_kept_until_the_run_ends(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let lease = bench.running(&bench.user()).await.lease;
    let checkpoint = |state: &'static [u8]| Checkpoint::whole(3, Bytes::from_static(state));
    let mut batch = bench.batch(&lease, 1, vec![begun(1)], None);
    batch.checkpoint = Some(checkpoint(b"one"));
    bench.stores.runs.append(&lease, batch).await.unwrap();
    let mut batch = bench.batch(&lease, 2, vec![], None);
    batch.checkpoint = Some(checkpoint(b"two"));
    bench.stores.runs.append(&lease, batch).await.unwrap();
    bench.append(&lease, 2, vec![thought(1)], None).await.unwrap();
    bench.clock.advance(Duration::from_secs(16));
    let claimed = bench.claim(bench.node(), 1).await.remove(0);
    assert_eq!(claimed.checkpoint, Some(checkpoint(b"two")));
    assert_eq!(claimed.lease.head, 3);
}

async fn a_checkpoint_goes_on_where_the_one_before_ends(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let lease = bench.running(&bench.user()).await.lease;
    let save = |after, events, checkpoint| {
        let mut batch = bench.batch(&lease, after, events, None);
        batch.checkpoint = Some(checkpoint);
        batch
    };
    let append = |batch| bench.stores.runs.append(&lease, batch);
    for unfounded in [Checkpoint::more(3, "a"), Checkpoint::more(4, "b")] {
        let version = unfounded.version;
        let batch = save(1, vec![begun(1)], unfounded);
        let error = append(batch).await.unwrap_err();
        assert_eq!(error.kind(), Kind::BadRequest, "{error}");
        // It changed nothing, and one of another version is no ground either.
        if version == 3 {
            append(save(1, vec![], Checkpoint::whole(3, "gone;"))).await.unwrap();
        }
    }
    append(save(1, vec![begun(1)], Checkpoint::whole(3, "one"))).await.unwrap();
    let twice = save(2, vec![thought(1)], Checkpoint::more(3, ";two"));
    append(twice.clone()).await.unwrap();
    append(twice).await.unwrap();
    append(save(3, vec![], Checkpoint::more(3, ";three"))).await.unwrap();
    bench.append(&lease, 3, vec![thought(1)], None).await.unwrap();
    append(save(4, vec![thought(1)], Checkpoint::more(3, ";four"))).await.unwrap();
    bench.clock.advance(Duration::from_secs(16));
    let claimed = bench.claim(bench.node(), 1).await.remove(0);
    let expected = Checkpoint::whole(3, "one;two;three;four");
    assert_eq!(claimed.checkpoint, Some(expected), "once each, in order, and nothing of before");
    // The next writer goes on with it.
    let lease = claimed.lease;
    let mut batch = bench.batch(&lease, 5, vec![thought(1)], None);
    batch.checkpoint = Some(Checkpoint::more(3, ";five"));
    bench.stores.runs.append(&lease, batch).await.unwrap();
    bench.clock.advance(Duration::from_secs(16));
    let claimed = bench.claim(bench.node(), 1).await.remove(0);
    assert_eq!(claimed.checkpoint.unwrap().state, "one;two;three;four;five");
}

async fn a_history_is_bounded_by_count(backend: Arc<dyn Backend>) {
    let limits = RunLimits { history_events: 40, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    let mut head = 1;
    for step in 1..=50 {
        let events = vec![begun(step), thought(10), ended(step)];
        head = bench.append(&lease, head, events, None).await.unwrap().head;
        let view = bench.stores.runs.view(&user, lease.run).await.unwrap();
        assert!(view.head + 1 - view.oldest <= 40);
        assert_eq!(view.snapshot.steps.len(), step as usize, "detail goes, the outcome stays");
    }
    bench.complete(&lease, head).await.unwrap();
    let log = bench.log(&user, lease.run).await;
    assert!(log.len() <= 40 && log.last().unwrap().terminal);
    let numbers: Vec<u64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (numbers[0]..=head + 1).collect::<Vec<_>>());
    let view = bench.stores.runs.view(&user, lease.run).await.unwrap();
    assert_eq!(view.oldest, numbers[0]);
    assert!(view.snapshot.result.is_some());
}

async fn a_history_is_bounded_by_bytes(backend: Arc<dyn Backend>) {
    let limits = RunLimits { history_bytes: 20_000, ..RunLimits::default() };
    let bench = Bench::with_runs(&*backend, limits).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in 1..30 {
        bench.append(&lease, after, vec![thought(3_000)], None).await.unwrap();
        let log = bench.log(&user, lease.run).await;
        let bytes: usize = log.iter().map(|event| event.json.len()).sum();
        assert!(bytes <= 20_000, "{bytes}");
    }
    bench.append(&lease, 30, vec![thought(30_000)], None).await.unwrap();
    let log = bench.log(&user, lease.run).await;
    assert_eq!(log.len(), 1, "the last event stays, whatever its size");
}

async fn a_history_goes_after_its_age_and_the_outcome_stays(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    bench.append(&lease, 1, vec![begun(1), ended(1)], None).await.unwrap();
    bench.complete(&lease, 3).await.unwrap();
    let before = bench.stores.runs.view(&user, lease.run).await.unwrap();
    bench.clock.advance(Duration::from_secs(23 * 3600));
    bench.claim(bench.node(), 1).await;
    assert_eq!(bench.log(&user, lease.run).await.len(), 4);
    bench.clock.advance(Duration::from_secs(2 * 3600));
    bench.claim(bench.node(), 1).await;
    assert!(bench.log(&user, lease.run).await.is_empty());
    let after = bench.stores.runs.view(&user, lease.run).await.unwrap();
    assert_eq!((after.head, after.oldest), (4, 5));
    assert_eq!((after.snapshot, after.state), (before.snapshot, before.state));
    let again = bench.claim(bench.node(), 1).await;
    assert!(again.is_empty());
}

async fn a_page_is_bounded(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let lease = bench.running(&user).await.lease;
    for after in (1..200).step_by(10) {
        let events = (0..10).map(|_| thought(8_000)).collect();
        bench.append(&lease, after, events, None).await.unwrap();
    }
    let page = bench.stores.runs.read(&user, lease.run, 0, 1_000).await.unwrap();
    let bytes: usize = page.events.iter().map(|event| event.json.len()).sum();
    assert!((200_000..=262_144).contains(&bytes), "{bytes}");
    assert_eq!((page.head, page.oldest, page.ended), (201, 1, false));
    let few = bench.stores.runs.read(&user, lease.run, 5, 3).await.unwrap();
    let numbers: Vec<u64> = few.events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, [6, 7, 8]);
    let none = bench.stores.runs.read(&user, lease.run, u64::MAX, 3).await.unwrap();
    assert!(none.events.is_empty());
}

async fn a_log_wakes_those_who_listen(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let user = bench.user();
    let wakeup = &bench.stores.wakeup;
    let mut work = wakeup.listen(Topic::Work);
    let mut inbox = wakeup.listen(Topic::Inbox(user.user()));
    let started = bench.start(&user).await;
    woken(&mut work).await;
    woken(&mut inbox).await;
    let lease = bench.claim(bench.node(), 1).await.remove(0).lease;
    let mut run = wakeup.listen(Topic::Run(started.run));
    let mut ended = wakeup.listen(Topic::Ended(started.run));
    bench.append(&lease, 1, vec![thought(1)], None).await.unwrap();
    woken(&mut run).await;
    bench.complete(&lease, 2).await.unwrap();
    woken(&mut run).await;
    woken(&mut ended).await;
    woken(&mut work).await;
    woken(&mut inbox).await;
}

/// Passes when a wake-up comes long before the reader would have looked by itself.
pub(super) async fn woken(woken: &mut crate::run::Woken) {
    let before = tokio::time::Instant::now();
    woken.wait(Duration::from_secs(20)).await;
    assert!(before.elapsed() < Duration::from_secs(10), "no wake-up came");
}

async fn a_conversation_is_forgotten_when_its_runs_have_ended(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, thread) = (bench.user(), bench.thread());
    let new = bench.new_run(thread);
    bench.stores.runs.start(&user, new.clone()).await.unwrap();
    let kept = bench.start(&user).await;
    let error = bench.stores.runs.forget(&user, thread).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    for claimed in bench.claim(bench.node(), 2).await {
        bench.complete(&claimed.lease, 1).await.unwrap();
    }
    assert_eq!(bench.stores.runs.forget(&user, thread).await.unwrap(), [new.run]);
    let error = bench.stores.runs.view(&user, new.run).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    bench.stores.runs.view(&user, kept.run).await.unwrap();
    assert!(bench.stores.runs.forget(&user, thread).await.unwrap().is_empty());
    let again = bench.stores.runs.start(&user, new).await.unwrap();
    assert!(again.created, "its request ids went with it");
}
