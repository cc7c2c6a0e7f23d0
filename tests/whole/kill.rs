//! The process is killed at random moments and started again on the same database: every log is whole, what was
//! shown is what is recorded, and every run ends exactly once.

use crate::support::{
    Random, assert_success, assert_whole_run, builder, events, golden_path, server,
};
use netra_apex::core::auth::{Standing, User};
use netra_apex::core::clock::{Clock, SystemClock};
use netra_apex::core::id::UserId;
use netra_apex::core::principal::{Principal, Scopes};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Fewer where a server is used: there a dead process is known only after its silence.
const DATABASES: [usize; 2] = [10, 3];
const KILLS: usize = 5;

#[test]
fn a_process_killed_at_any_of_fifty_moments_leaves_whole_logs_that_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    assert_success(&golden_path(folder.path(), &[]).output().unwrap());
    let whole = began.elapsed();

    let mut random = Random::of_this_time();
    let (mut resumed, mut interrupted) = (0, 0);
    for _ in 0..DATABASES[usize::from(server().is_some())] {
        let folder = tempfile::tempdir().unwrap();
        let mut shown = BTreeMap::new();
        for _ in 0..KILLS {
            kill_after(folder.path(), random.below(whole));
            remember(&mut shown, &folder.path().join("events.jsonl"));
        }
        assert_success(&again(folder.path()).output().unwrap());
        remember(&mut shown, &folder.path().join("events.jsonl"));
        let logs = logs(folder.path());
        for log in logs.values() {
            assert_whole_run(log);
            resumed += usize::from(log.iter().any(|event| event["type"] == "run_resumed"));
            interrupted +=
                usize::from(log.iter().any(|event| event["data"]["outcome"] == "interrupted"));
        }
        for ((run, seq), event) in &shown {
            assert_eq!(logs[run].get(*seq as usize - 1), Some(event), "shown, but not on record");
        }
    }
    println!("{resumed} runs were resumed, {interrupted} had an interrupted step or call");
    assert!(resumed > 0, "no kill hit a run");
}

/// The golden path on the database of the folder that stays.
fn again(folder: &Path) -> Command {
    let file: &[&str] = if server().is_some() { &[] } else { &["--db", "apex.db"] };
    golden_path(folder, file)
}

fn kill_after(folder: &Path, moment: Duration) {
    let mut command = again(folder);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(moment);
    process.kill().unwrap();
    process.wait().unwrap();
}

fn remember(shown: &mut BTreeMap<(String, u64), Value>, file: &Path) {
    for event in events(file) {
        if let Some(seq) = event["seq"].as_u64() {
            shown.insert((event["run"].as_str().unwrap().to_owned(), seq), event);
        }
    }
}

/// Every run's whole log, as the store has it.
fn logs(folder: &Path) -> BTreeMap<String, Vec<Value>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let apex = builder(folder).build().await.unwrap();
        let stores = apex.stores();
        let account = User {
            user: UserId::new(&SystemClock),
            scopes: Scopes::USER,
            created_at: SystemClock.now(),
            standing: Standing::Active,
        };
        let user = stores.users.resolve("dev:golden-path", account).await.unwrap().user;
        let owner = Principal::vouched(user, Scopes::USER);
        let inbox = stores.runs.inbox(&owner, 0, 1_000).await.unwrap();
        let runs: BTreeSet<_> = inbox.entries.iter().map(|entry| entry.run).collect();
        let mut logs = BTreeMap::new();
        for run in runs {
            let page = stores.runs.read(&owner, run, 0, 1_000).await.unwrap();
            let events = page
                .events
                .iter()
                .map(|event| serde_json::from_slice(&event.json).unwrap())
                .collect();
            logs.insert(run.to_string(), events);
        }
        logs
    })
}
