use super::bench::Bench;
use super::{Backend, Random, cases};
use crate::clock::{Clock as _, Timestamp};
use crate::error::Kind;
use crate::id::{AttemptId, StepId};
use crate::money::{Usage, Usd};
use crate::usage::{Attempt, AttemptOutcome, GroupBy, MOST_ATTEMPTS, UsageQuery};
use std::sync::Arc;
use std::time::Duration;

cases!("usage":
    an_attempt_comes_back_as_it_was_recorded,
    the_same_attempt_again_changes_nothing,
    attempts_recorded_at_once_are_recorded_all_or_none,
    attempts_are_paged_from_the_latest,
    one_run_can_be_asked_for,
    sums_are_exact,
    sums_are_by_model_outcome_day_run_and_step,
    what_is_forgotten_is_gone,
);

/// An attempt that begins now and is priced.
pub(super) fn attempt(bench: &Bench) -> Attempt {
    Attempt {
        attempt: AttemptId::new(&*bench.clock),
        run: None,
        step: None,
        number: 1,
        at: bench.clock.now(),
        took_ms: 1_250,
        provider: "openai".into(),
        model: "gpt-5".into(),
        outcome: AttemptOutcome::Answered,
        reason: None,
        request: None,
        service_tier: None,
        cache_write_tokens: 0,
        usage: Usage {
            input_tokens: 100,
            cached_tokens: 60,
            output_tokens: 30,
            reasoning_tokens: 20,
            cost_usd: Some(Usd::from_units(3)),
        },
        estimated: false,
    }
}

async fn an_attempt_comes_back_as_it_was_recorded(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let plain = attempt(&bench);
    bench.clock.advance(Duration::from_secs(1));
    let full = Attempt {
        run: Some(bench.new_run(bench.thread()).run),
        step: Some(StepId(7)),
        number: 3,
        outcome: AttemptOutcome::Retracted,
        reason: Some("broken".into()),
        request: Some("req_ä\u{1f4b8}".into()),
        service_tier: Some("flex".into()),
        cache_write_tokens: 12,
        usage: Usage {
            cost_usd: Some("170000000000000.000000000000000000000001".parse().unwrap()),
            ..plain.usage
        },
        estimated: true,
        ..attempt(&bench)
    };
    bench.clock.advance(Duration::from_secs(1));
    let unpriced = Attempt { usage: Usage { cost_usd: None, ..plain.usage }, ..attempt(&bench) };
    usage.record(&user, vec![plain.clone(), full.clone(), unpriced.clone()]).await.unwrap();
    let kept = usage.attempts(&user, None, None, 10).await.unwrap();
    assert_eq!((kept.items, kept.next), (vec![unpriced, full, plain], None));
}

async fn the_same_attempt_again_changes_nothing(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let first = attempt(&bench);
    usage.record(&user, vec![first.clone()]).await.unwrap();
    let again = Attempt { number: 2, ..first.clone() };
    let next = attempt(&bench);
    usage.record(&user, vec![again, next.clone(), next.clone()]).await.unwrap();
    let kept = usage.attempts(&user, None, None, 10).await.unwrap().items;
    assert_eq!(kept.len(), 2);
    assert!(kept.contains(&first) && kept.contains(&next), "{kept:?}");
}

async fn attempts_recorded_at_once_are_recorded_all_or_none(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (ada, eve, usage) = (bench.user(), bench.user(), &bench.stores.usage);
    let hers = attempt(&bench);
    usage.record(&ada, vec![hers.clone()]).await.unwrap();
    let taken = usage.record(&eve, vec![attempt(&bench), hers]).await;
    assert_eq!(taken.unwrap_err().kind(), Kind::Conflict);
    let many = (0..=MOST_ATTEMPTS).map(|_| attempt(&bench)).collect();
    assert_eq!(usage.record(&eve, many).await.unwrap_err().kind(), Kind::TooLarge);
    assert!(usage.attempts(&eve, None, None, 10).await.unwrap().items.is_empty());
    let as_many: Vec<Attempt> = (0..MOST_ATTEMPTS).map(|_| attempt(&bench)).collect();
    usage.record(&eve, as_many).await.unwrap();
    let total = usage.totals(&eve, &UsageQuery::default()).await.unwrap().remove(0);
    assert_eq!(total.attempts, MOST_ATTEMPTS as u64);
    usage.record(&eve, Vec::new()).await.unwrap();
}

async fn attempts_are_paged_from_the_latest(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let mut made: Vec<Attempt> = Vec::new();
    for number in 1..=7 {
        // Some of them in the same millisecond.
        if number % 3 == 0 {
            bench.clock.advance(Duration::from_millis(1));
        }
        made.push(Attempt { number, ..attempt(&bench) });
    }
    usage.record(&user, made.clone()).await.unwrap();
    made.sort_by_key(|made| std::cmp::Reverse((made.at, made.attempt)));
    let (mut read, mut cursor) = (Vec::new(), None);
    loop {
        let page = usage.attempts(&user, None, cursor.as_deref(), 2).await.unwrap();
        assert!(page.items.len() <= 2);
        read.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(read, made);
    let strange = usage.attempts(&user, None, Some("x"), 2).await;
    assert_eq!(strange.unwrap_err().kind(), Kind::BadRequest);
}

async fn one_run_can_be_asked_for(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let run = Some(bench.new_run(bench.thread()).run);
    let (of_run, other) = (Attempt { run, ..attempt(&bench) }, attempt(&bench));
    usage.record(&user, vec![of_run.clone(), other]).await.unwrap();
    assert_eq!(usage.attempts(&user, run, None, 10).await.unwrap().items, [of_run]);
    let query = UsageQuery { run, ..UsageQuery::default() };
    assert_eq!(usage.totals(&user, &query).await.unwrap()[0].attempts, 1);
    let query = UsageQuery { run: Some(bench.new_run(bench.thread()).run), ..query };
    assert!(usage.totals(&user, &query).await.unwrap().is_empty());
}

async fn sums_are_exact(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let mut random = Random::seeded(7);
    let (mut sum, mut made) = (Usd::ZERO, Vec::new());
    for _ in 0..200 {
        // Up to a million dollars, to the 24th decimal.
        let cost = Usd::from_units(random.below(1 << 60) as i128 * 867_361_737_988 + 7);
        sum += cost;
        let used = Usage { cost_usd: Some(cost), ..attempt(&bench).usage };
        made.push(Attempt { usage: used, ..attempt(&bench) });
    }
    usage.record(&user, made).await.unwrap();
    let total = usage.totals(&user, &UsageQuery::default()).await.unwrap().remove(0);
    assert_eq!((total.group.as_str(), total.attempts, total.unpriced_attempts), ("", 200, 0));
    assert_eq!(total.usage.cost_usd, Some(sum));
    assert_eq!(total.priced_cost_usd, sum);
    assert_eq!((total.usage.input_tokens, total.usage.reasoning_tokens), (20_000, 4_000));
    let unpriced = Usage { cost_usd: None, ..attempt(&bench).usage };
    usage.record(&user, vec![Attempt { usage: unpriced, ..attempt(&bench) }]).await.unwrap();
    let total = usage.totals(&user, &UsageQuery::default()).await.unwrap().remove(0);
    assert_eq!((total.usage.cost_usd, total.unpriced_attempts), (None, 1), "never as $0");
    assert_eq!((total.priced_cost_usd, total.usage.input_tokens), (sum, 20_100));
}

async fn sums_are_by_model_outcome_day_run_and_step(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, usage) = (bench.user(), &bench.stores.usage);
    let day = |text: &str| text.parse::<Timestamp>().unwrap();
    let (first, second) = (day("2026-11-22T23:59:59.999Z"), day("2026-11-23T00:00:00.000Z"));
    let run = bench.new_run(bench.thread()).run;
    let step = Some(StepId(12));
    let one = Attempt { at: first, ..attempt(&bench) };
    let two = Attempt {
        at: second,
        run: Some(run),
        step,
        provider: "gemini".into(),
        outcome: AttemptOutcome::Failed,
        ..attempt(&bench)
    };
    usage.record(&user, vec![one, two]).await.unwrap();
    let sums = async |query: UsageQuery| {
        let totals = usage.totals(&user, &query).await.unwrap();
        totals.into_iter().map(|total| (total.group, total.attempts)).collect::<Vec<_>>()
    };
    let all = UsageQuery::default();
    for (by, groups) in [
        (GroupBy::Model, ["gemini:gpt-5", "openai:gpt-5"]),
        (GroupBy::Outcome, ["answered", "failed"]),
        (GroupBy::Day, ["2026-11-22", "2026-11-23"]),
        (GroupBy::Run, ["", &run.to_string()]),
        (GroupBy::Step, ["", &format!("{run}:s12")]),
    ] {
        let query = UsageQuery { by, ..all };
        assert_eq!(sums(query).await, groups.map(|group| (group.to_owned(), 1)));
    }
    let (run, step) = (bench.new_run(bench.thread()).run, StepId(3));
    let asked = Attempt { run: Some(run), step: Some(step), at: second, ..attempt(&bench) };
    let owner = bench.user();
    let other = |asked: &Attempt| Attempt { attempt: attempt(&bench).attempt, ..asked.clone() };
    let alone = Attempt { step: None, ..other(&asked) };
    let nobodys = Attempt { run: None, step: None, ..other(&asked) };
    usage.record(&owner, vec![asked, alone, nobodys]).await.unwrap();
    for (by, groups) in [
        (GroupBy::Run, [(String::new(), 1), (run.to_string(), 2)]),
        (GroupBy::Step, [(String::new(), 2), (format!("{run}:s3"), 1)]),
    ] {
        let totals = usage.totals(&owner, &UsageQuery { by, ..all }).await.unwrap();
        let told = totals.into_iter().map(|total| (total.group, total.attempts));
        assert_eq!(told.collect::<Vec<_>>(), groups, "{by:?}");
    }
    let by = GroupBy::Day;
    let from = UsageQuery { from: Some(second), by, ..all };
    assert_eq!(sums(from).await, [("2026-11-23".to_owned(), 1)]);
    let before = UsageQuery { before: Some(second), by, ..all };
    assert_eq!(sums(before).await, [("2026-11-22".to_owned(), 1)]);
}

async fn what_is_forgotten_is_gone(backend: Arc<dyn Backend>) {
    let bench = Bench::open(&*backend).await;
    let (user, other, usage) = (bench.user(), bench.user(), &bench.stores.usage);
    let old = attempt(&bench);
    usage.record(&other, vec![attempt(&bench)]).await.unwrap();
    bench.clock.advance(Duration::from_secs(60));
    let new = attempt(&bench);
    usage.record(&user, vec![old, new.clone()]).await.unwrap();
    assert_eq!(usage.forget(&user, new.at).await.unwrap(), 1);
    assert_eq!(usage.attempts(&user, None, None, 10).await.unwrap().items, [new]);
    assert_eq!(usage.attempts(&other, None, None, 10).await.unwrap().items.len(), 1);
}
