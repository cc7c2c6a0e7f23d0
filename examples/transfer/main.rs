//! For operators: moves everything from one database to another, or tells a database that it was put back to an
//! earlier state. Stop the nodes first.
//!
//! `cargo run --release --features postgres --example transfer -- copy FROM TO` copies everything of FROM into TO,
//! which must be empty. `… -- restored URL` begins new epochs after a restore. An address is `sqlite:PATH` or
//! `postgres://USER:PASSWORD@HOST/NAME`, or `@FILE` for one that stands in a file; APEX_ENVIRONMENT and APEX_DATABASE_SCHEMA say what they say to a host.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it has to say, it says in the terminal

#[path = "../shared/variables.rs"]
mod variables;

use netra_apex::ApexConfig;
use netra_apex::core::clock::SystemClock;
use netra_apex::core::config::{BadDatabaseUrl, DatabaseUrl, Loader};
use netra_apex::core::store::{Stores, transfer};
use netra_apex::prelude::*;
use std::process::ExitCode;
use variables::variables;

const USAGE: &str = "usage: transfer copy FROM TO | transfer restored URL";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["copy", from, to] => copy(from, to).await,
        ["restored", url] => restored(url).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("transfer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bad_address(bad: &BadDatabaseUrl) -> String {
    format!("that is no address of a database: {bad}")
}

async fn copy(from: &str, to: &str) -> Result<String> {
    let (from, to) = (open(from).await?, open(to).await?);
    let moved = transfer::copy(&from, &to).await?;
    Ok(format!("copied {} rows and {} bytes of contents", moved.rows, moved.bytes))
}

async fn restored(url: &str) -> Result<String> {
    let renewed = transfer::renew_epochs(&open(url).await?, &SystemClock).await?;
    Ok(format!("began a new epoch of {renewed} open logs, and of the inboxes"))
}

/// The stores of a database, without anything that works on them.
async fn open(address: &str) -> Result<Stores> {
    let fault = |told: String| Error::new(Kind::Config, "transfer.open", told);
    let text = match address.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| fault(format!("{path}: {error}")))?
        }
        None => address.to_owned(),
    };
    let loader = Loader::new().environment(variables());
    let loaded = loader.load::<ApexConfig>().map_err(|report| fault(report.to_string()))?;
    let mut config = loaded.value;
    let url: DatabaseUrl = text.trim().parse().map_err(|bad| fault(bad_address(&bad)))?;
    config.database.url = Some(url);
    // That one database, whatever a host keeps beside it.
    (config.database.auth, config.redis.url) = (None, None);
    config.builder()?.stores_alone().await
}
