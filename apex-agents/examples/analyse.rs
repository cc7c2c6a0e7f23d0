//! Analyses usage files and prints the report as JSON: `cargo run --release -p apex-agents --example analyse FILE...`
#![allow(clippy::print_stdout)]

use apex_agents::cost::{Analysis, AnalysisOptions, Catalogue};
use std::ops::ControlFlow;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut analysis = Analysis::new(Arc::new(Catalogue::embedded()?), AnalysisOptions::default());
    for path in std::env::args().skip(1) {
        let file = std::fs::File::open(&path)?;
        analysis.add(&path, file, &mut |_| ControlFlow::Continue(()))?;
    }
    println!("{}", analysis.finish().to_json());
    Ok(())
}
