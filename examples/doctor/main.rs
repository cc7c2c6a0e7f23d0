//! Says whether a configuration would start: every fault at once, or each value with its source.
//!
//! `cargo run --example doctor [-- --config FILE] [--secrets FOLDER] [--json]` reads the sources as a host does: the
//! file, the environment (`APEX_<SECTION>_<FIELD>`), the secrets. It opens nothing. Exit status 0 when it would
//! start, 78 (EX_CONFIG) when it would not, 64 when it was called wrongly.

#[path = "../shared/variables.rs"]
mod variables;

use netra_apex::ApexConfig;
use netra_apex::core::config::{Loaded, Loader, Report};
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use variables::variables;

#[derive(Default)]
struct Arguments {
    config: Option<PathBuf>,
    secrets: Option<PathBuf>,
    json: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!(
                "doctor: {problem}\nusage: doctor [--config FILE] [--secrets FOLDER] [--json]"
            );
            return ExitCode::from(64);
        }
    };
    let mut loader = Loader::new().environment(variables());
    if let Some(path) = arguments.config {
        loader = loader.toml_file(path);
    }
    if let Some(folder) = arguments.secrets {
        loader = loader.secrets_dir(folder);
    }
    match loader.load::<ApexConfig>() {
        Ok(loaded) => {
            show(&resolved(&loaded, arguments.json));
            ExitCode::SUCCESS
        }
        Err(report) => {
            show(&faulty(&report, arguments.json));
            ExitCode::from(78)
        }
    }
}

/// A reader that has seen enough, such as `head`, changes nothing about what was found.
fn show(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn resolved(loaded: &Loaded<ApexConfig>, as_json: bool) -> String {
    if as_json {
        json!({ "faults": [], "values": loaded.listed, "warnings": loaded.warnings }).to_string()
    } else {
        format!("{loaded}\nThis configuration would start, in {}.", loaded.environment)
    }
}

fn faulty(report: &Report, as_json: bool) -> String {
    if as_json { json!(report).to_string() } else { report.to_string() }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => arguments.json = true,
            "--config" => {
                arguments.config = Some(words.next().ok_or("--config needs a file")?.into())
            }
            "--secrets" => {
                arguments.secrets = Some(words.next().ok_or("--secrets needs a folder")?.into())
            }
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(arguments)
}
