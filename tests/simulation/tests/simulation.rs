//! Seeds of the simulation: 300, or as many as `APEX_SEEDS` says, or 10,000 with `APEX_FULL`. Each is a process of its
//! own, since tokio counts its runtimes; `APEX_SEED` names the one of a process.

#![cfg(target_os = "linux")]

use apex_test_simulation::{Defect, Fault, Plan, seeded, simulate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The seed of this process, and the defect that is planted.
const SEED: &str = "APEX_SEED";
const DEFECT: &str = "APEX_DEFECT";

/// What a process says of its seed begins with it.
const TOLD: &str = "told ";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seed that `APEX_SEED` names, with its plan and every promise that it broke; without one, the first.
#[test]
fn one_seed() {
    let seed = number(SEED).unwrap_or(0);
    let defect = match std::env::var(DEFECT).as_deref() {
        Ok("loses") => Defect::LosesUnnoticed,
        Ok("fences") => Defect::IgnoresFences,
        _ => Defect::None,
    };
    let plan = Plan::of(seed);
    println!("{plan:#?}");
    let outcome = seeded(seed, || simulate(seed, defect)).unwrap();
    let history = &outcome.history;
    let failovers = plan.faults.iter().filter(|planned| planned.fault == Fault::Failover);
    let told = json!({
        "hash": outcome.hash,
        "broken": outcome.violations.len(),
        "runs": history.logs.len(),
        "acknowledged events": history.acknowledged.len(),
        "readers": history.readers.len(),
        "resets": outcome.resets(),
        "runs taken over": outcome.taken_over(),
        "faults": plan.faults.len(),
        "failovers": failovers.count(),
        "logs that lost something": outcome.lives_lost,
        "runs lost altogether": history.gone.len(),
        "seconds": outcome.took.as_secs(),
    });
    println!("{TOLD}{told}");
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
}

/// What a process says that has only this seed to live through; or all of its output, where it says nothing.
fn lived(seed: u64, defect: &str) -> Result<Value, String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "one_seed"])
        .env(SEED, seed.to_string())
        .env(DEFECT, defect)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = said.lines().find_map(|line| line.strip_prefix(TOLD));
    let all = || format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(told.ok_or_else(all)?).unwrap();
    if told["broken"] == 0 { Ok(told) } else { Err(all()) }
}

/// Lets two processes at a time live through seeds from 0, each until `look` has seen enough.
fn live_through(
    count: u64,
    defect: &str,
    look: impl Fn(u64, Result<Value, String>) -> bool + Sync,
) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || look(seed, lived(seed, defect)) {
                        next.store(count, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn every_seed_keeps_every_promise() {
    let full = std::env::var_os("APEX_FULL").map(|_| 10_000);
    let count = number("APEX_SEEDS").or(full).unwrap_or(300);
    let sums = Mutex::new(BTreeMap::<String, u64>::new());
    let (failed, began) = (Mutex::new(Vec::new()), Instant::now());
    live_through(count, "", |seed, lived| {
        match lived {
            Ok(told) => {
                let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                *sums.entry("seeds".to_owned()).or_default() += 1;
                for (what, count) in told.as_object().unwrap().iter().filter(|(k, _)| *k != "hash")
                {
                    *sums.entry(what.clone()).or_default() += count.as_u64().unwrap();
                }
            }
            Err(said) => {
                println!("{said}\nseed {seed} broke a promise; again: {}", command(seed));
                failed.lock().unwrap().push(seed);
            }
        }
        false
    });
    println!("{:#?} in {:?}", sums.into_inner().unwrap(), began.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} seeds: {failed:?}", failed.len());
}

fn command(seed: u64) -> String {
    format!(
        "{SEED}={seed} cargo test -p apex-test-simulation --test simulation -- --nocapture one_seed"
    )
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in [1, 2, 3] {
        let [one, again] = [(); 2].map(|()| lived(seed, "").unwrap());
        assert!(one["acknowledged events"].as_u64() > Some(0));
        assert_eq!(one, again, "seed {seed}");
    }
}

/// Whether one of the first seeds finds a planted defect.
fn is_found(defect: &str) -> bool {
    let found = AtomicU64::new(0);
    live_through(40, defect, |_, lived| {
        let finds = lived.is_err();
        found.fetch_add(u64::from(finds), Ordering::Relaxed);
        finds
    });
    found.into_inner() > 0
}

#[test]
fn a_store_that_loses_without_a_new_epoch_is_found() {
    assert!(is_found("loses"));
}

#[test]
fn a_writer_that_ignores_its_fence_is_found() {
    assert!(is_found("fences"));
}
