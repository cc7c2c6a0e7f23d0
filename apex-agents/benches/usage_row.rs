//! A row of a usage file to a record: `cargo bench -p apex-agents --bench usage_row [-- ROWS]`.
//!
//! It prints the time a row; under `valgrind --tool=callgrind` its instructions are the same in every run.
#![allow(clippy::print_stdout, clippy::expect_used, missing_docs)]

use apex_agents::cost::{import, sample};
use std::time::Instant;

fn main() {
    // Cargo itself passes `--bench`.
    let rows = std::env::args().skip(1).find_map(|a| a.parse::<usize>().ok()).unwrap_or(100_000);
    let sample = sample::csv();
    let header = sample.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    let (head, body) = sample.split_at(header);
    let mut file = head.to_vec();
    for line in body.split_inclusive(|b| *b == b'\n').cycle().take(rows) {
        file.extend_from_slice(line);
    }
    let start = Instant::now();
    let (read, usable) = import::check(file.as_slice()).expect("memory can be read");
    let elapsed = start.elapsed();
    assert_eq!(read, rows as u64);
    assert!(usable > read * 9 / 10);
    println!(
        "{read} rows, {usable} records, {} ns a row",
        elapsed.as_nanos() / rows.max(1) as u128
    );
}
