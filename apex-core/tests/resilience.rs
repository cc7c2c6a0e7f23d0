//! The whole policy, as a caller meets it, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use apex_core::clock::SystemClock;
use apex_core::config::{Environment, Loader};
use apex_core::error::{Error, Failure, Kind, Outcome, Phase, Result};
use apex_core::id::NodeId;
use apex_core::resilience::{
    Backoff, Breaker, BreakerExchange, BreakerHint, BreakerOptions, BreakerState, Budget, Bulkhead,
    Call, Effect, Policy, PolicyOptions, ResilienceConfig,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

fn options() -> PolicyOptions {
    ResilienceConfig::default().policy_options(Environment::Production)
}

/// A breaker that never opens, where the rest is looked at.
fn lenient() -> BreakerOptions {
    BreakerOptions { least_calls: u32::MAX, ..BreakerOptions::default() }
}

fn policy(options: PolicyOptions, breaker: BreakerOptions) -> Policy {
    Policy::new(
        options,
        Arc::new(Breaker::seeded("db", breaker, 1)),
        Arc::new(Bulkhead::new("db", 64, 20_000)),
        Arc::new(Budget::new(0.2, 10)),
    )
    .with_seed(7)
}

fn down() -> Error {
    Error::driver(Failure::Connection, Phase::BeforeCommit, "db.read", "refused")
}

#[test]
fn each_environment_has_its_own_terms() {
    let config = ResilienceConfig::default();
    let here = config.policy_options(Environment::Development);
    assert_eq!((here.tries, here.total.as_secs(), here.connect.as_secs()), (3, 5, 2));
    for environment in [Environment::Staging, Environment::Production] {
        let there = config.policy_options(environment);
        assert_eq!((there.tries, there.total.as_secs(), there.connect.as_secs()), (5, 10, 3));
    }
    let sleepy = ResilienceConfig { serverless_connector: true, ..config };
    assert_eq!(sleepy.policy_options(Environment::Production).connect.as_secs(), 30);
    let pairs = [("APEX_ATTEMPT", "20s"), ("APEX_BREAKER_OPEN", "2m"), ("APEX_BACKOFF_BASE", "3s")];
    let report = Loader::new().environment(pairs).load::<ResilienceConfig>().err().unwrap();
    assert_eq!(report.faults.len(), 3, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_twice_succeeds_and_one_that_must_not_be_repeated_is_not() {
    let policy = policy(options(), lenient());
    let tried = AtomicU32::new(0);
    let answer = policy
        .run(policy.call(Effect::Once), |_| async {
            if tried.fetch_add(1, Ordering::Relaxed) < 2 { Err(down()) } else { Ok(5) }
        })
        .await;
    assert_eq!(answer.unwrap(), 5);

    for (effect, outcome, tries) in [
        (Effect::Once, Outcome::Unknown, 1),
        (Effect::Idempotent, Outcome::Unknown, 5),
        (Effect::Idempotent, Outcome::Applied, 1),
        (Effect::Once, Outcome::NotApplied, 5),
    ] {
        let tried = AtomicU32::new(0);
        let error = policy
            .run::<(), _, _>(policy.call(effect), |_| async {
                tried.fetch_add(1, Ordering::Relaxed);
                Err(Error::new(Kind::Unavailable, "db.write", "down").with_outcome(outcome))
            })
            .await
            .unwrap_err();
        assert_eq!(tried.load(Ordering::Relaxed), tries, "{effect:?} {outcome:?}");
        assert_eq!(error.outcome(), outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_unknown_and_a_read_is_not() {
    let policy = policy(PolicyOptions { tries: 1, ..options() }, lenient());
    for (effect, outcome) in [(Effect::Once, Outcome::Unknown), (Effect::Read, Outcome::NotApplied)]
    {
        let began = Instant::now();
        let error = policy
            .run::<(), _, _>(policy.call(effect), |_| std::future::pending())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (Kind::DeadlineExceeded, outcome));
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_wake_up_first_gets_the_time_to_connect_and_is_not_slow() {
    for (serverless_connector, woken) in [(true, true), (false, false)] {
        let config = ResilienceConfig { serverless_connector, ..ResilienceConfig::default() };
        let policy = config.policy("db", Environment::Production);
        for _ in 0..30 {
            let call = policy.call(Effect::Read);
            let result = policy
                .connect(call, |_| async {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    Ok(())
                })
                .await;
            assert_eq!(result.is_ok(), woken);
        }
        assert_eq!(policy.breaker().state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_side_may_ask_for_a_longer_wait() {
    let policy = policy(options(), lenient());
    let tried = AtomicU32::new(0);
    let began = Instant::now();
    let answer = policy
        .run(policy.call(Effect::Read), |_| async {
            match tried.fetch_add(1, Ordering::Relaxed) {
                0 => Err(down().with_retry_after(Duration::from_secs(4))),
                1 => Err(Error::driver(Failure::Capacity, Phase::BeforeCommit, "db.read", "53300")),
                _ => Ok(()),
            }
        })
        .await;
    answer.unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "4 s asked for, 1 s at least for a server out of means"
    );
}

/// Three layers, each with a policy, above a dependency that is down.
#[tokio::test(start_paused = true)]
async fn only_the_outermost_layer_repeats() {
    let [top, middle, bottom] = [(); 3].map(|()| policy(options(), lenient()));
    let reached = AtomicU32::new(0);
    let calls = 200;
    for _ in 0..calls {
        let result: Result<()> = top
            .run(top.call(Effect::Read), |call| {
                middle.run(call, |call| {
                    bottom.run(call, |_| async {
                        reached.fetch_add(1, Ordering::Relaxed);
                        Err(down())
                    })
                })
            })
            .await;
        assert!(result.is_err());
    }
    let reached = reached.load(Ordering::Relaxed);
    assert!(reached <= calls * 5, "{reached}: one layer repeats, not three");
}

/// A busy service in a total outage: the calls come within the budget's ten seconds.
#[tokio::test(start_paused = true)]
async fn in_an_outage_the_budget_keeps_the_load_at_a_fifth_more() {
    let policy = Arc::new(policy(options(), lenient()));
    let reached = Arc::new(AtomicU32::new(0));
    let calls = (0..10_000).map(|_| {
        let (policy, reached) = (Arc::clone(&policy), Arc::clone(&reached));
        tokio::spawn(async move {
            policy
                .run::<(), _, _>(policy.call(Effect::Read), |_| async {
                    reached.fetch_add(1, Ordering::Relaxed);
                    Err(down())
                })
                .await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().is_err());
    }
    let reached = reached.load(Ordering::Relaxed);
    assert!((10_000..=12_300).contains(&reached), "{reached} calls reached it");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_at_a_breaker_that_opens_are_refused_at_once() {
    let policy = Arc::new(policy(options(), BreakerOptions::default()));
    let reached = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let calls = (0..10_000).map(|_| {
        let (policy, reached) = (Arc::clone(&policy), Arc::clone(&reached));
        tokio::spawn(async move {
            policy
                .run::<(), _, _>(policy.call(Effect::Read), |_| async {
                    reached.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Err(down())
                })
                .await
        })
    });
    let mut refused = 0;
    for call in calls.collect::<Vec<_>>() {
        let error = call.await.unwrap().unwrap_err();
        refused += u32::from(error.operation() == "breaker.admit" && error.retry_after().is_some());
    }
    let reached = reached.load(Ordering::Relaxed);
    assert!(
        reached <= 128,
        "{reached} calls reached it: one bulkhead full, and what was let in meanwhile"
    );
    assert!(refused >= 10_000 - 128, "{refused} refused");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(policy.breaker().state(), BreakerState::Open);
    assert_eq!((policy.bulkhead().in_use(), policy.bulkhead().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_lets_a_few_through_and_closes_when_they_succeed() {
    let policy = policy(PolicyOptions { tries: 1, ..options() }, BreakerOptions::default());
    let fail = || policy.run::<(), _, _>(policy.call(Effect::Read), |_| async { Err(down()) });
    for _ in 0..20 {
        fail().await.unwrap_err();
    }
    assert_eq!(policy.breaker().state(), BreakerState::Open);
    let status = policy.breaker().status();
    assert!(
        status.retry_after_ms.is_some_and(|wait| (5_000..=6_000).contains(&wait)),
        "{status:?}"
    );
    tokio::time::advance(Duration::from_secs(6)).await;
    for _ in 0..3 {
        policy.run(policy.call(Effect::Read), |_| async { Ok(()) }).await.unwrap();
    }
    assert_eq!(policy.breaker().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_content_opens_no_breaker_and_has_no_fallback() {
    let policy = policy(PolicyOptions { tries: 1, ..options() }, BreakerOptions::default());
    for kind in [Kind::Forbidden, Kind::Unauthenticated, Kind::BadRequest, Kind::NotFound] {
        for _ in 0..50 {
            let result = policy
                .run_or(
                    policy.call(Effect::Read),
                    |_| async move { Err::<u8, _>(Error::new(kind, "auth.check", "no")) },
                    || async { Ok(1) },
                )
                .await;
            assert_eq!(result.unwrap_err().kind(), kind, "who was not let in stays out");
        }
    }
    assert_eq!(policy.breaker().state(), BreakerState::Closed);
    let answer = policy
        .run_or(policy.call(Effect::Read), |_| async { Err(down()) }, || async { Ok(1) })
        .await
        .unwrap();
    assert_eq!(
        answer.degraded.map(|degraded| (degraded.dependency, degraded.code)),
        Some(("db".into(), "unavailable"))
    );
}

/// What one try of the generated dependency does.
#[derive(Debug, Clone, Copy)]
struct Try {
    millis: u64,
    kind: Option<Kind>,
    outcome: Outcome,
    retry_after: Option<u64>,
}

fn a_try() -> impl Strategy<Value = Try> {
    let kind = prop_oneof![
        1 => Just(None),
        6 => Just(Some(Kind::Unavailable)),
        2 => Just(Some(Kind::DeadlineExceeded)),
        1 => Just(Some(Kind::BadRequest)),
    ];
    let outcome = prop_oneof![3 => Just(Outcome::NotApplied), 1 => Just(Outcome::Unknown), 1 => Just(Outcome::Applied)];
    (0_u64..4_000, kind, outcome, proptest::option::weighted(0.2, 0_u64..5_000))
        .prop_map(|(millis, kind, outcome, retry_after)| Try { millis, kind, outcome, retry_after })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn retries_never_pass_deadline_budget_tries_or_what_is_safe(
        tries in 1_u32..8,
        total in 1_u64..12_000,
        attempt in 1_u64..4_000,
        limit in 1_u64..15_000,
        base in 1_u64..2_000,
        effect in prop_oneof![Just(Effect::Read), Just(Effect::Idempotent), Just(Effect::Once)],
        per_second in 0_u32..2,
        plan in proptest::collection::vec(a_try(), 8),
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let millis = Duration::from_millis;
            let options = PolicyOptions {
                tries,
                total: millis(total),
                attempt: millis(attempt),
                connect: millis(attempt),
                backoff: Backoff { base: millis(base), cap: millis(base * 4) },
            };
            let policy = Policy::new(
                options,
                Arc::new(Breaker::seeded("db", lenient(), seed)),
                Arc::new(Bulkhead::new("db", 1, 0)),
                Arc::new(Budget::new(0.0, per_second)),
            )
            .with_seed(seed);
            let began = Instant::now();
            let made = Mutex::new(Vec::<(Instant, Try)>::new());
            let result = policy
                .run(Call::new(effect, millis(limit)), |_| {
                    let this = plan[made.lock().len() % plan.len()];
                    made.lock().push((Instant::now(), this));
                    async move {
                        tokio::time::sleep(millis(this.millis)).await;
                        let error = |kind| {
                            let error = Error::new(kind, "db", "x").with_outcome(this.outcome);
                            match this.retry_after {
                                Some(wait) => error.with_retry_after(millis(wait)),
                                None => error,
                            }
                        };
                        this.kind.map_or(Ok(()), |kind| Err(error(kind)))
                    }
                })
                .await;
            let made = made.into_inner();
            // Timers fire on whole milliseconds.
            let most = millis(limit.min(total.max(attempt)) + 2);
            assert!(began.elapsed() <= most, "{:?} of {most:?}", began.elapsed());
            assert!(made.len() <= tries as usize);
            assert!(made.len() <= 1 + 10 * per_second as usize, "the budget holds ten seconds' worth");
            for pair in made.windows(2) {
                let [(at, this), (next, _)] = pair else { continue };
                let timed_out = this.millis >= attempt;
                let unsure = if timed_out { effect == Effect::Once } else {
                    match this.outcome {
                        Outcome::NotApplied => false,
                        Outcome::Unknown => effect == Effect::Once,
                        Outcome::Applied => true,
                    }
                };
                assert!(!unsure, "repeated what may have been done: {this:?} {effect:?}");
                assert!(timed_out || matches!(this.kind, Some(Kind::Unavailable | Kind::DeadlineExceeded)));
                if let (Some(wait), false) = (this.retry_after, timed_out) {
                    assert!(*next - *at >= millis(this.millis + wait));
                }
            }
            if let Some((_, last)) = made.last() {
                let in_time = last.millis + 2 < attempt && began.elapsed() + millis(2) < millis(limit.min(total));
                assert!(last.kind.is_some() || !in_time || result.is_ok());
            }
        });
    }
}

/// Hints in memory, as one store would carry them; it can be taken away.
#[derive(Debug, Default)]
struct Board {
    hints: Mutex<HashMap<NodeId, Vec<BreakerHint>>>,
    gone: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl BreakerExchange for Board {
    async fn publish(&self, node: NodeId, hints: Vec<BreakerHint>) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.hints.lock().insert(node, hints);
        Ok(())
    }

    async fn hints(&self) -> Result<Vec<BreakerHint>> {
        Ok(self.hints.lock().values().flatten().cloned().collect())
    }
}

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::seeded("db", BreakerOptions::default(), 3))
}

fn call<T>(breaker: &Breaker, result: Result<T>) -> bool {
    breaker.admit().map(|permit| permit.done(&result)).is_ok()
}

#[tokio::test(start_paused = true)]
async fn nodes_warn_each_other_and_none_can_cut_off_what_answers() {
    let board = Board::default();
    let nodes: Vec<_> = (0..5).map(|_| (NodeId::new(&SystemClock), breaker())).collect();
    for _ in 0..20 {
        call::<()>(&nodes[0].1, Err(down()));
    }
    assert_eq!(nodes[0].1.state(), BreakerState::Open);
    for (node, breaker) in &nodes {
        Breaker::share(&[&**breaker], &board, *node).await.unwrap();
    }
    for (_, breaker) in &nodes[1..] {
        assert_eq!(breaker.state(), BreakerState::Closed, "a hint opens nothing");
        assert_eq!(breaker.status().peers, 1);
        for _ in 0..3 {
            call::<()>(breaker, Err(down()));
        }
        assert_eq!(
            breaker.state(),
            BreakerState::Open,
            "three bad calls are enough after a warning"
        );
    }
    // A node that lies for ever.
    let honest = breaker();
    let lie =
        BreakerHint { dependency: "db".into(), node: NodeId::new(&SystemClock), probing: false };
    for _ in 0..100 {
        board.publish(lie.node, vec![lie.clone()]).await.unwrap();
        Breaker::share(&[&*honest], &board, NodeId::new(&SystemClock)).await.unwrap();
        assert!(call(&honest, Ok(())));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(honest.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_take_turns_but_nobody_waits_for_ever() {
    let board = Board::default();
    let breaker = breaker();
    for _ in 0..20 {
        call::<()>(&breaker, Err(down()));
    }
    let mut waited = 0;
    while breaker.state() == BreakerState::Open {
        for node in 0..3_u8 {
            let node = NodeId::derived(&[&[node]]);
            let hint = BreakerHint { dependency: "db".into(), node, probing: true };
            board.publish(node, vec![hint]).await.unwrap();
        }
        Breaker::share(&[&*breaker], &board, NodeId::new(&SystemClock)).await.unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        call(&breaker, Ok(()));
        waited += 500;
    }
    assert!(
        (8_000..=13_000).contains(&waited),
        "its own 5 s and up to 5 s more for the others: {waited} ms"
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_exchange_each_node_still_protects_itself() {
    let board = Board::default();
    board.gone.store(true, Ordering::Relaxed);
    let breaker = breaker();
    let began = Instant::now();
    let error = Breaker::share(&[&*breaker], &board, NodeId::new(&SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    assert!(began.elapsed() <= Duration::from_secs(2));
    for _ in 0..20 {
        call::<()>(&breaker, Err(down()));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}
