//! Analyses usage files, verifies the report and writes it.
//!
//! `cargo run --release -p apex-agents --example analyse -- [--report DIR] [--contract FILE] [FILE...]`
//!
//! Without a file it takes the sample. With `--report` it writes `report.json`, `report.md` and `report.html` there.
#![allow(clippy::print_stdout)]

use apex_agents::cost::{Analysis, AnalysisOptions, Catalogue, Verification, sample};
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut files, mut folder, mut catalogue) = (Vec::new(), None, Catalogue::embedded()?);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--report" => folder = arguments.next(),
            "--contract" => {
                let path = arguments.next().ok_or("--contract needs a file")?;
                catalogue = catalogue.with_contract(&std::fs::read(path)?)?;
            }
            _ => files.push(argument),
        }
    }
    if files.is_empty() {
        files.push(sample::NAME.to_owned());
    }
    let open = |path: &str| -> std::io::Result<Box<dyn Read + Send>> {
        if path == sample::NAME {
            return Ok(Box::new(std::io::Cursor::new(sample::csv())));
        }
        Ok(Box::new(std::fs::File::open(path)?))
    };
    let catalogue = Arc::new(catalogue);
    let mut analysis = Analysis::new(Arc::clone(&catalogue), AnalysisOptions::default());
    for path in &files {
        analysis.add(path, open(path)?, &mut |_| ControlFlow::Continue(()))?;
    }
    let report = analysis.finish();
    let mut verification = Verification::new(&report, catalogue);
    for path in &files {
        verification.add(path, open(path)?, &mut |_| ControlFlow::Continue(()))?;
    }
    let verified = verification.finish()?;
    print!("{}", report.summary());
    println!(
        "{} figures and texts computed a second way over {} rows",
        verified.figures, verified.rows
    );
    if let Some(folder) = folder {
        let folder = std::path::Path::new(&folder);
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.json"), report.to_json())?;
        std::fs::write(folder.join("report.md"), report.to_markdown())?;
        std::fs::write(folder.join("report.html"), report.to_html())?;
    }
    Ok(())
}
