//! Prints the score of each agent on its evaluation set, and each case that failed.
//!
//! `cargo run -p apex-agents --example evaluate -- [AGENT...]`
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a command for developers stops where something is wrong with the sets"
)]

#[path = "../evaluation/runner.rs"]
mod runner;

fn main() -> std::process::ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let mut below = false;
    for set in runner::sets() {
        if !named.is_empty() && !named.contains(&set.agent) {
            continue;
        }
        let score = runner::run(&set);
        for (ask, why) in &score.failed {
            println!("- {}: {ask:?}: {why}\n", score.agent);
        }
        println!(
            "{}: {} of {} cases, threshold {}",
            score.agent, score.passed, score.cases, score.threshold
        );
        below |= score.passed < score.threshold;
    }
    if below { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}
