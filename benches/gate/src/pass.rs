//! What it costs to append an event and to pass it to 50 readers in memory: a row of the benchmark `append`, without the
//! databases that its others need.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

#[allow(dead_code, reason = "the benchmark calls more of it")]
#[path = "../../../apex-core/benches/append/record.rs"]
mod record;

const READERS: usize = 50;

fn main() {
    let events = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(4_000);
    record::in_memory(events, READERS);
}
