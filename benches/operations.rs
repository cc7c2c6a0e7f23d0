//! What protection and a start cost: the whole policy around a call that succeeds beside the bare call, a call that
//! the breaker refuses, and loading and validating a full configuration.
//!
//! `cargo bench --bench operations` prints a table. `… --bench operations -- gate PATH COUNT` runs one path so often,
//! for the instruction counts of `scripts/gate.py`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark says what it measured")]

use netra_apex::ApexConfig;
use netra_apex::core::config::{Environment, Loader};
use netra_apex::core::error::Result;
use netra_apex::core::resilience::{BreakerState, Effect, Policy, ResilienceConfig};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How often each path is measured; the fastest counts, for everything else is the machine's.
const ROUNDS: usize = 5;

/// Name, calls a round, and what carries them out.
type Measured = (&'static str, usize, fn(usize));

const PATHS: [Measured; 4] = [
    ("bare_call", 1_000_000, bare),
    ("policy_call", 200_000, through_policy),
    ("breaker_refusal", 200_000, refused),
    ("config_load", 200, load),
];

fn main() {
    // Cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [mode, path, count] = words.as_slice()
        && mode == "gate"
    {
        let (_, _, run) = PATHS.iter().find(|(name, ..)| name == path).unwrap();
        run(count.parse().unwrap());
        return;
    }
    for (name, calls, run) in PATHS {
        let measure = |_| {
            let began = Instant::now();
            run(calls);
            began.elapsed()
        };
        let fastest = (0..ROUNDS).map(measure).min().unwrap_or(Duration::ZERO);
        let each = fastest.as_secs_f64() * 1e9 / calls as f64;
        println!("{name:16} {each:>12.0} ns each");
    }
}

async fn answer(number: usize) -> Result<usize> {
    Ok(black_box(number))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn policy() -> Policy {
    ResilienceConfig::default().policy("database", Environment::Production)
}

fn bare(calls: usize) {
    runtime().block_on(async {
        for number in 0..calls {
            black_box(answer(number).await.unwrap());
        }
    });
}

fn through_policy(calls: usize) {
    let policy = policy();
    runtime().block_on(async {
        for number in 0..calls {
            let call = policy.call(Effect::Read);
            black_box(policy.run(call, |_| answer(number)).await.unwrap());
        }
    });
}

fn refused(calls: usize) {
    let policy = policy();
    policy.breaker().force(BreakerState::ForcedOpen);
    runtime().block_on(async {
        for number in 0..calls {
            let call = policy.call(Effect::Read);
            black_box(policy.run(call, |_| answer(number)).await.is_err());
        }
    });
}

/// Every field that has a default stands in the file, and a few in the environment.
fn load(loads: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apex.toml");
    std::fs::write(&path, full_file()).unwrap();
    let loader = Loader::new().toml_file(&path).environment([
        ("APEX_RUNS_RUNNING", "8"),
        ("APEX_DATABASE_URL", "sqlite:/var/lib/apex/apex.db"),
        ("APEX_SERVER_ORIGINS", "https://a.example,https://b.example"),
    ]);
    for _ in 0..loads {
        black_box(loader.load::<ApexConfig>().unwrap());
    }
}

fn full_file() -> String {
    let defaults = Loader::new().load::<ApexConfig>().unwrap();
    let mut text = String::new();
    let mut section = "";
    for entry in &defaults.listed {
        let Some((table, field)) = entry.key.split_once('.') else {
            continue;
        };
        if entry.value.starts_with('(') {
            continue;
        }
        if table != section {
            section = table;
            writeln!(text, "[{table}]").unwrap();
        }
        let plain = entry.value.parse::<f64>().is_ok()
            || ["true", "false", "[]"].contains(&entry.value.as_str());
        let quote = if plain { "" } else { "\"" };
        writeln!(text, "{field} = {quote}{}{quote}", entry.value).unwrap();
    }
    text
}
