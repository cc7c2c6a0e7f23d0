//! `steps NAME TURNS`: what a run of so many turns costs. `crowd NAME RUNS`: what a run of five turns costs where so many
//! are under way. `waiting NAME RUNS`: the heap that so many runs take that wait in a tool. `kept NAME RUNS`: what is
//! left of so many runs. Each prints JSON.

mod job;
mod measure;
mod peers;

use job::Job;
use measure::{Spent, live, resident};
use peers::Contender;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Turns of a run where their number is not what is measured.
const TURNS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [mode, name, count] = words.as_slice() else {
        panic!("steps NAME TURNS | crowd NAME RUNS | waiting NAME RUNS | kept NAME RUNS");
    };
    let count = count.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let told = match mode.as_str() {
        "steps" => steps(name, count, folder.path()).await,
        "crowd" => crowd(name, count, folder.path()).await,
        "waiting" => waiting(name, count, folder.path()).await,
        "kept" => kept(name, count, folder.path()).await,
        _ => panic!("{mode}?"),
    };
    println!("{told}");
}

/// One run after the other: the batch that cost least, for everything else is the machine's.
async fn steps(name: &str, turns: usize, folder: &Path) -> Value {
    let contender = peers::named(name, Job::new(turns), folder).await;
    let runs = (2_000 / turns).clamp(50, 500);
    let mut best: Option<Spent> = None;
    batch(&contender, runs / 5, 1).await;
    for _ in 0..5 {
        let spent = batch(&contender, runs, 1).await;
        best = best.filter(|best| best.cpu < spent.cpu).or(Some(spent));
    }
    each(best.unwrap(), runs)
}

async fn crowd(name: &str, at_once: usize, folder: &Path) -> Value {
    let contender = peers::named(name, Job::new(TURNS), folder).await;
    batch(&contender, at_once.max(100), at_once).await;
    let runs = at_once.max(1_000);
    each(batch(&contender, runs, at_once).await, runs)
}

/// So many runs, so many of them at once.
async fn batch(contender: &Contender, runs: usize, at_once: usize) -> Spent {
    let before = Spent::now();
    for _ in 0..runs / at_once {
        let tasks: Vec<_> = (0..at_once).map(|_| tokio::spawn(contender())).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    Spent::now().since(before)
}

fn each(spent: Spent, runs: usize) -> Value {
    let runs = runs as f64;
    json!({"cpu_us": spent.cpu / 1e3 / runs, "allocations": spent.allocations as f64 / runs})
}

async fn waiting(name: &str, runs: usize, folder: &Path) -> Value {
    let job = Job::holding();
    let contender = peers::named(name, job.clone(), folder).await;
    let before = live();
    let tasks: Vec<_> = (0..runs).map(|_| tokio::spawn(contender())).collect();
    while job.waiting() < runs {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = json!({"heap": live() - before});
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    told
}

/// Logs are kept for a minute at least, so that is how long it waits.
async fn kept(name: &str, runs: usize, folder: &Path) -> Value {
    let contender = peers::named(name, Job::new(1), folder).await;
    batch(&contender, runs, 100).await;
    let at_end = live();
    if name.starts_with("apex") {
        tokio::time::sleep(Duration::from_secs(150)).await;
        batch(&contender, 100, 100).await;
    }
    json!({"heap_at_end": at_end, "heap": live(), "resident_kib": resident()})
}
