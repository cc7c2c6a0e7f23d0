//! `generate ROWS FILE`, `plain FILE`, `ours FILE`, `verify FILE`: each prints one line of JSON with its answers and its time. The
//! answers are counts, token sums and exact cost sums, in all and by model, user and day.

use apex_agents::cost::report::Totals;
use apex_agents::cost::{Analysis, AnalysisOptions, Catalogue, Verification};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let start = Instant::now();
    let answers = match arguments.as_slice() {
        ["generate", rows, file] => generate(rows.parse()?, file)?,
        ["plain", file] => plain(file)?,
        ["ours", file] => ours(file, false)?,
        ["verify", file] => ours(file, true)?,
        _ => return Err("generate ROWS FILE | plain FILE | ours FILE | verify FILE".into()),
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0").trim().to_owned();
    println!("{}", json!({"seconds": start.elapsed().as_secs_f64(), "peak": peak, "answers": answers}));
    Ok(())
}

/// A file like a gateway's log: 12 models, 400 users, 90 days, costs with eight decimals.
fn generate(rows: u64, file: &str) -> Result<Value, Box<dyn Error>> {
    let models = [
        ("gpt-4o", 250, 1_000), ("gpt-4o-mini", 15, 60), ("gpt-4.1", 200, 800), ("o3", 200, 800),
        ("claude-sonnet-4-5", 300, 1_500), ("claude-3-5-haiku-20241022", 80, 400), ("claude-opus-4-1", 1_500, 7_500),
        ("gemini-2.5-pro", 125, 1_000), ("gemini-2.5-flash", 30, 250), ("gpt-5", 125, 1_000), ("gpt-5-mini", 25, 200),
        ("llama-in-house", 10, 10),
    ];
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    out.write_all(b"timestamp,user,session,model,input_tokens,cached_tokens,output_tokens,status,cost_usd\n")?;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for row in 0..rows {
        let (model, input_price, output_price) = models[random(models.len() as u64) as usize];
        let second = row * 90 * 86_400 / rows;
        // 2026-08-01 on: 31, 30 and 31 days.
        let day = second / 86_400;
        let (month, date) = match day {
            0..31 => (8, day + 1),
            31..61 => (9, day - 30),
            _ => (10, day - 60),
        };
        let user = random(20) * random(20);
        let input = 20 + random(8_000);
        let output = random(900);
        let cost = input * input_price + output * output_price;
        let status = if random(100) == 0 { "error" } else { "ok" };
        writeln!(
            out,
            "2026-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z,user-{user:03},s-{:06x},{model},{input},0,{output},{status},{}.{:08}",
            second / 3_600 % 24, second / 60 % 60, second % 60, random(1_000), random(1 << 24),
            cost / 100_000_000, cost % 100_000_000,
        )?;
    }
    out.flush()?;
    Ok(json!({"rows": rows}))
}

#[derive(Default, Clone, Copy)]
struct Sum {
    requests: u64,
    input: u64,
    output: u64,
    /// Units of 10^-8 dollars.
    cost: u64,
}

/// The plain way: the csv crate, one thread, one map for each group, and nothing else: no prices, no checks.
fn plain(file: &str) -> Result<Value, Box<dyn Error>> {
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 20).from_path(file)?;
    let mut total = Sum::default();
    let mut groups: [FxHashMap<Vec<u8>, Sum>; 3] = Default::default();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        let number = |at: usize| -> Result<u64, Box<dyn Error>> { Ok(std::str::from_utf8(&record[at])?.parse()?) };
        let cost = std::str::from_utf8(&record[8])?;
        let (whole, fraction) = cost.split_once('.').ok_or("no decimals")?;
        let one = Sum {
            requests: 1,
            input: number(4)?,
            output: number(6)?,
            cost: whole.parse::<u64>()? * 100_000_000 + fraction.parse::<u64>()?,
        };
        let add = |sum: &mut Sum| {
            sum.requests += one.requests;
            sum.input += one.input;
            sum.output += one.output;
            sum.cost += one.cost;
        };
        add(&mut total);
        for (group, key) in groups.iter_mut().zip([&record[3], &record[1], &record[0][..10]]) {
            match group.get_mut(key) {
                Some(sum) => add(sum),
                None => add(group.entry(key.to_vec()).or_default()),
            }
        }
    }
    let written = |sum: &Sum| {
        json!([sum.requests, sum.input, sum.output, cost_text(sum.cost)])
    };
    let group = |at: usize| -> Value {
        groups[at].iter().map(|(key, sum)| (String::from_utf8_lossy(key).into_owned(), written(sum))).collect()
    };
    Ok(json!({"total": written(&total), "model": group(0), "user": group(1), "day": group(2)}))
}

fn cost_text(units: u64) -> String {
    let text = format!("{}.{:08}", units / 100_000_000, units % 100_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Ours: the whole report, with prices, anomalies, copies and levers; with `again` also its verification.
fn ours(file: &str, again: bool) -> Result<Value, Box<dyn Error>> {
    let options = AnalysisOptions::default();
    let catalogue = Arc::new(Catalogue::embedded()?);
    let mut analysis = Analysis::new(Arc::clone(&catalogue), options);
    analysis.add(file, File::open(file)?, &mut |_| ControlFlow::Continue(()))?;
    let report = analysis.finish();
    if again {
        let mut verification = Verification::new(&report, catalogue);
        verification.add(file, File::open(file)?, &mut |_| ControlFlow::Continue(()))?;
        verification.finish()?;
    }
    let written = |t: &Totals| {
        let cost = t.recorded_cost_usd.map(|c| c.to_string()).unwrap_or_default();
        json!([t.requests, t.input_tokens, t.output_tokens, cost])
    };
    Ok(json!({
        "total": written(&report.totals),
        "model": report.by_model.iter().map(|r| (r.model.clone(), written(&r.totals))).collect::<serde_json::Map<_, _>>(),
        "user": report.by_user.iter().map(|r| (r.user.clone(), written(&r.totals))).collect::<serde_json::Map<_, _>>(),
        "day": report.by_day.iter().map(|r| (r.day.clone(), written(&r.totals))).collect::<serde_json::Map<_, _>>(),
    }))
}
