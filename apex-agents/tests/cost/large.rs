//! Large files, made as they are read: memory is bounded whatever they hold.

use super::{CATALOGUE, go_on};
use apex_agents::cost::{Analysis, AnalysisOptions, Report, Verification};
use std::io::Read;
use std::sync::Arc;

/// The bound for the whole process.
const MOST_KIB: u64 = 200 * 1_024;

/// A table whose every row has its own user, session, model and id, or few of each.
struct Table {
    row: u64,
    rows: u64,
    distinct: bool,
    padding: usize,
    text: Vec<u8>,
    taken: usize,
}

impl Table {
    fn new(rows: u64, distinct: bool, padding: usize) -> Self {
        let header = b"timestamp,request_id,user,session,model,input_tokens,cached_tokens,output_tokens,cost_usd,note\n";
        Self { row: 0, rows, distinct, padding, text: header.to_vec(), taken: 0 }
    }

    fn write_row(&mut self) {
        use std::io::Write;
        let n = self.row;
        let name = if self.distinct { n } else { n % 50 };
        let (input, output) = (100 + n % 5_000, n % 700);
        let cost = input * 250 + output * 1_000;
        self.text.clear();
        self.taken = 0;
        let second = 1_767_225_600 + n % 20_000_000;
        let model = if self.distinct { format!("model-{name}") } else { "gpt-4o".to_owned() };
        let _ = writeln!(
            self.text,
            "{second},req-{n},user-{name},session-{name},{model},{input},0,{output},0.{cost:08},{:padding$}",
            "",
            padding = self.padding
        );
        self.row += 1;
    }
}

impl Read for Table {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.taken == self.text.len() {
                if self.row == self.rows {
                    break;
                }
                self.write_row();
            }
            let count = (self.text.len() - self.taken).min(buffer.len() - filled);
            buffer[filled..filled + count]
                .copy_from_slice(&self.text[self.taken..self.taken + count]);
            self.taken += count;
            filled += count;
        }
        Ok(filled)
    }
}

/// The most memory that this process ever had, where the system tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn run(rows: u64, distinct: bool, padding: usize) -> Report {
    let start = std::time::Instant::now();
    let mut analysis = Analysis::new(Arc::clone(&CATALOGUE), AnalysisOptions::default());
    analysis.add("large.csv", Table::new(rows, distinct, padding), &mut go_on).unwrap();
    let report = analysis.finish();
    assert_eq!(report.totals.requests, rows);
    assert_eq!(report.totals.input_tokens, (0..rows).map(|n| 100 + n % 5_000).sum::<u64>());
    assert_eq!(report.by_model.iter().map(|m| m.totals.requests).sum::<u64>(), rows);
    assert_eq!(report.by_user.iter().map(|m| m.totals.requests).sum::<u64>(), rows);
    match peak_kib() {
        Some(peak) => {
            println!(
                "{rows} rows in {:.1} s, {} MiB at most",
                start.elapsed().as_secs_f64(),
                peak / 1_024
            );
            assert!(peak < MOST_KIB, "{peak} KiB");
        }
        None => println!("skipped: the system does not tell how much memory a process had"),
    }
    report
}

/// The large ones take minutes; `scripts/test --full` asks for them.
fn full() -> bool {
    let full = std::env::var_os("APEX_FULL").is_some();
    if !full {
        println!("skipped: large files are read with APEX_FULL=1");
    }
    full
}

#[test]
fn names_without_end_do_not_fill_memory() {
    let report = run(300_000, true, 0);
    assert!(report.by_user.len() <= 1_000 && report.by_model.len() <= 1_000);
    assert!(report.findings.iter().any(|f| f.kind == "limits_reached"));
    let mut verification = Verification::new(&report, Arc::clone(&CATALOGUE));
    verification.add("large.csv", Table::new(300_000, true, 0), &mut go_on).unwrap();
    verification.finish().unwrap();
}

#[test]
fn ten_million_rows_stay_under_200_mib() {
    if full() {
        run(10_000_000, false, 0);
    }
}

#[test]
fn ten_million_rows_of_nothing_but_new_names_stay_under_200_mib() {
    if full() {
        run(10_000_000, true, 0);
    }
}

#[test]
fn two_gigabytes_are_read() {
    if full() {
        let report = run(5_000_000, false, 420);
        assert!(report.sources[0].bytes > 2 << 30, "{}", report.sources[0].bytes);
    }
}
