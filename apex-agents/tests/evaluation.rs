//! Every agent reaches the threshold of its evaluation set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stop where tests do"
)]

#[path = "../evaluation/runner.rs"]
mod runner;

#[test]
fn every_agent_reaches_the_threshold_of_its_set() {
    for set in runner::sets() {
        let score = runner::run(&set);
        println!("{}: {} of {} cases", score.agent, score.passed, score.cases);
        assert!(
            score.passed >= score.threshold,
            "{}: {} of {} cases, threshold {}; failed: {:#?}",
            score.agent,
            score.passed,
            score.cases,
            score.threshold,
            score.failed
        );
    }
}
