//! The process is killed at a hundred random moments of runs whose tools count their calls, and another goes on: a
//! completed call was made once, the one in doubt at most once more with the same key, and every run ends.

use crate::support::{Random, assert_whole_run};
use futures_util::future::{BoxFuture, join_all, try_join3};
use netra_apex::core::config::{DatabaseUrl, Environment};
use netra_apex::core::run::RunLimits;
use netra_apex::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many processes are killed: so many databases at a time, so often each.
const DATABASES: u64 = 4;
const KILLS: usize = 25;

/// How many runs a process works on at a time.
const RUNS: usize = 3;

/// When a process is killed at the latest, after it has begun: what its runs take once or twice.
const LATEST: Duration = Duration::from_millis(200);

/// Names the folder to the process that is killed, and what that says when it has begun.
const FOLDER: &str = "APEX_TEST_KILLED";
const BEGUN: &str = "begun";

#[test]
fn calls_are_made_once_by_processes_killed_at_any_of_a_hundred_moments() {
    let Random(seed) = Random::of_this_time();
    let sums: Vec<Sum> = std::thread::scope(|threads| {
        let each = |database| {
            threads.spawn(move || killed_again_and_again(Random(seed.wrapping_add(database))))
        };
        let all: Vec<_> = (0..DATABASES).map(each).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = sums.iter().fold(Sum::default(), |sum, one| sum.plus(one));
    println!("{sum:?}");
    assert!(sum.resumed > KILLS && sum.interrupted > KILLS && sum.made_again > 0, "{sum:?}");
}

/// What the killed process does. As a test of its own, nothing kills it, and its runs end at the first attempt.
#[test]
fn runs_that_nobody_kills_make_each_call_once() {
    let own = tempfile::tempdir().unwrap();
    let killed = std::env::var_os(FOLDER).map(PathBuf::from);
    let folder = killed.as_deref().unwrap_or(own.path());
    runtime().block_on(async {
        let apex = host(folder).await;
        let user = apex.user("ada").await.unwrap();
        ended(&apex, &user).await;
        println!("{BEGUN}");
        let work = async || {
            while apex.ask(&user, "go").await.is_ok() && killed.is_some() {}
        };
        join_all((0..RUNS).map(|_| work())).await;
    });
    let sum = runtime().block_on(judged(folder));
    assert_eq!((sum.runs, sum.resumed, sum.interrupted, sum.made_again), (RUNS, 0, 0, 0));
}

/// Kills processes on one database in turn. Each lets the runs of the one before end before it begins its own.
fn killed_again_and_again(mut random: Random) -> Sum {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..KILLS {
        kill_after(folder.path(), random.below(LATEST));
    }
    runtime().block_on(async {
        let apex = host(folder.path()).await;
        ended(&apex, &apex.user("ada").await.unwrap()).await;
    });
    runtime().block_on(judged(folder.path()))
}

fn kill_after(folder: &Path, moment: Duration) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "killed_calls::runs_that_nobody_kills_make_each_call_once",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stdout.take().unwrap()).lines();
    let begun = said.map_while(|line| line.ok()).any(|line| line.ends_with(BEGUN));
    assert!(begun, "the process ended before it began");
    std::thread::sleep(moment);
    assert_eq!(process.try_wait().unwrap(), None, "it works until it is killed");
    process.kill().unwrap();
    process.wait().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Apex on the database of a folder, with an agent whose calls may be repeated, looked up, or neither.
async fn host(folder: &Path) -> Apex {
    let made = Made(folder.join("made"));
    let count = tool_fn("count", "Counts its calls.", made.tool()).effect(Effect::Idempotent);
    let looks = made.clone();
    let book = tool_fn("book", "Books, and can look it up.", made.tool()).look_up(
        move |n: u64, call: ToolContext| {
            let known = looks.calls().iter().any(|made| made.key == call.idempotency_key());
            async move { Ok(if known { LookUp::Done(n) } else { LookUp::NotDone }) }
        },
    );
    let pay = tool_fn("pay", "Pays, and nobody can tell.", made.tool());
    Apex::builder()
        .environment(Environment::Development)
        .database(DatabaseUrl::sqlite(folder.join("apex.db").to_str().unwrap()))
        .runs(RunLimits { inbox_entries: 100_000, ..RunLimits::default() })
        .agent(agent_fn("worker", "Calls.", work))
        .tool(count)
        .tool(book)
        .tool(pay)
        .build()
        .await
        .unwrap()
}

/// Calls in turn and at once.
async fn work(_: Request, run: Context) -> Result<String> {
    let first: u64 = run.call("count", 1).await?;
    let paid = match run.call::<u64>("pay", 2).await {
        Err(error) if error.kind() == Kind::InDoubt => "in doubt".to_owned(),
        paid => paid?.to_string(),
    };
    let (counted, again, booked): (u64, u64, u64) =
        try_join3(run.call("count", 3), run.call("count", 4), run.call("book", 5)).await?;
    Ok(format!("{first}, {paid}, {counted}, {again}, {booked}"))
}

/// Where the tools write down each call that they make.
#[derive(Debug, Clone)]
struct Made(PathBuf);

/// A call that was made.
#[derive(Debug, Clone, PartialEq)]
struct MadeCall {
    run: String,
    call: String,
    key: String,
}

impl Made {
    /// A tool that takes its time before and after what it does.
    fn tool(
        &self,
    ) -> impl Fn(u64, ToolContext) -> BoxFuture<'static, Result<u64>> + Send + Sync + use<> {
        let made = self.clone();
        move |n, call| {
            let made = made.clone();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                made.note(&call).map_err(|error| Error::internal("test", error.to_string()))?;
                tokio::time::sleep(Duration::from_millis(n)).await;
                Ok(n)
            })
        }
    }

    /// Writes the call down in one piece: what the system has taken, a killed process does not lose.
    fn note(&self, call: &ToolContext) -> std::io::Result<()> {
        let line = format!("{} {} {}\n", call.run(), call.call(), call.idempotency_key());
        OpenOptions::new().create(true).append(true).open(&self.0)?.write_all(line.as_bytes())
    }

    fn calls(&self) -> Vec<MadeCall> {
        let lines = std::fs::read_to_string(&self.0).unwrap_or_default();
        let call = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().unwrap();
            MadeCall { run: word(), call: word(), key: word() }
        };
        lines.lines().map(call).collect()
    }
}

/// Waits for all runs to end, and gives all that is on record of them.
async fn ended(apex: &Apex, user: &Principal) -> BTreeMap<String, Vec<Value>> {
    let inbox = apex.stores().runs.inbox(user, 0, 100_000).await.unwrap();
    let runs: BTreeSet<_> = inbox.entries.iter().map(|entry| entry.run).collect();
    let mut logs = BTreeMap::new();
    for run in runs {
        let end = tokio::time::timeout(Duration::from_secs(60), apex.result(user, run)).await;
        end.unwrap_or_else(|_| panic!("{run} has not ended")).unwrap();
        let page = apex.stores().runs.read(user, run, 0, 1_000).await.unwrap();
        let read = |json: &[u8]| serde_json::from_slice(json).unwrap();
        logs.insert(run.to_string(), page.events.iter().map(|event| read(&event.json)).collect());
    }
    logs
}

/// What happened on one database.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    runs: usize,
    resumed: usize,
    interrupted: usize,
    made_again: usize,
}

impl Sum {
    fn plus(self, other: &Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            resumed: self.resumed + other.resumed,
            interrupted: self.interrupted + other.interrupted,
            made_again: self.made_again + other.made_again,
        }
    }
}

/// Holds the calls that were made against those on record.
async fn judged(folder: &Path) -> Sum {
    let apex = host(folder).await;
    let logs = ended(&apex, &apex.user("ada").await.unwrap()).await;
    let mut sum = Sum { runs: logs.len(), ..Sum::default() };
    // How each call on record ended, by run and call, and its tool.
    let mut recorded: HashMap<(&str, &str), (&str, &str)> = HashMap::new();
    for (run, events) in &logs {
        assert_whole_run(events);
        assert_eq!(events.last().unwrap()["type"], "run_completed", "{events:?}");
        let resumed = events.iter().filter(|event| event["type"] == "run_resumed").count();
        assert!(resumed <= 1, "each run meets one kill: {events:?}");
        sum.resumed += resumed;
        for event in events.iter().filter(|event| event["type"] == "tool_completed") {
            let [call, tool, outcome] =
                ["call", "tool", "outcome"].map(|name| event["data"][name].as_str().unwrap());
            sum.interrupted += usize::from(outcome == "interrupted");
            assert!(["ok", "interrupted"].contains(&outcome), "{event}");
            recorded.insert((run, call), (tool, outcome));
        }
    }
    let calls = Made(folder.join("made")).calls();
    let mut by_key: BTreeMap<&str, Vec<&MadeCall>> = BTreeMap::new();
    for made in &calls {
        assert!(recorded.contains_key(&(&*made.run, &*made.call)), "made, not on record: {made:?}");
        by_key.entry(&made.key).or_default().push(made);
    }
    for (key, made) in &by_key {
        let (tool, _) = recorded[&(&*made[0].run, &*made[0].call)];
        sum.made_again += made.len() - 1;
        assert!(made.len() <= if tool == "count" { 2 } else { 1 }, "{key} of {tool}: {made:?}");
        for earlier in &made[..made.len() - 1] {
            let (_, outcome) = recorded[&(&*earlier.run, &*earlier.call)];
            assert_eq!(outcome, "interrupted", "{key} was made again after it was completed");
        }
    }
    for ((run, call), (tool, outcome)) in &recorded {
        let made = calls.iter().filter(|made| made.run == *run && made.call == *call).count();
        // A booking that was made by the process that was lost is looked up, and not made again.
        let looked_up = *tool == "book" && made == 0;
        assert!(made == 1 || *outcome != "ok" || looked_up, "{run} {call} was made {made} times");
    }
    for run in logs.keys() {
        let keys = by_key.values().filter(|made| made[0].run == *run).count();
        assert!(
            keys >= 4,
            "{run} has made {keys} of its five calls; only the payment may be missing"
        );
    }
    sum
}
