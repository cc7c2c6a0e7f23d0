//! What the cost analysis promises, tested through its public interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests stop where tests do"
)]

mod bad_input;
mod formats;
mod known_answers;
mod large;
mod prices;
mod properties;
mod sample;

use apex_agents::cost::{Analysis, AnalysisOptions, Catalogue, Report, Verification};
use apex_core::error::Error;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

static CATALOGUE: LazyLock<Arc<Catalogue>> =
    LazyLock::new(|| Arc::new(Catalogue::embedded().unwrap()));

fn go_on(_: apex_agents::cost::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The report on these files.
fn report(files: &[(&str, &[u8])]) -> Report {
    let mut analysis = Analysis::new(Arc::clone(&CATALOGUE), AnalysisOptions::default());
    for (name, bytes) in files {
        analysis.add(name, *bytes, &mut go_on).unwrap();
    }
    analysis.finish()
}

/// The report on one file, after its figures came out the same a second way.
fn verified(name: &str, bytes: &[u8]) -> Report {
    let report = report(&[(name, bytes)]);
    verify(&report, name, bytes).unwrap();
    report
}

fn verify(report: &Report, name: &str, reader: impl Read + Send) -> Result<(), Error> {
    let mut verification = Verification::new(report, Arc::clone(&CATALOGUE));
    verification.add(name, reader, &mut go_on).unwrap();
    verification.finish().map(|_| ())
}

/// A file of the real data, which is not part of the project; says so where it is not there.
fn data(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("APEX_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = if folder.exists() {
        folder
    } else {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")
    };
    let path = folder.join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!(
            "skipped: {name} is not there (set APEX_TEST_DATA to the folder of the real data)"
        );
    }
    bytes
}
