//! For operators: moves everything from one place to another, or the logins alone, or tells a database that it was put
//! back to an earlier state. Stop the nodes first.
//!
//! ```text
//! cargo run --release --features postgres,redis --example transfer -- copy FROM… to TO…
//! … -- logins FROM to TO
//! … -- restored ADDRESS
//! ```
//!
//! A place is one address or several, as a host has them: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`, beside
//! it a `redis://HOST/0` where the host has one, and `auth=ADDRESS` for a database of accounts and logins. `@FILE` is an
//! address that stands in a file. `copy` wants an empty place and goes on where it was when it was broken off; `logins`
//! moves them into or out of a Redis and leaves the rest where it is. `restored` begins new epochs after a restore.
//! APEX_ENVIRONMENT, APEX_DATABASE_SCHEMA and APEX_REDIS_PREFIX say what they say to a host, for both places.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what it has to say, it says in the terminal

mod place;
#[path = "../shared/variables.rs"]
mod variables;

use netra_apex::core::clock::SystemClock;
use netra_apex::core::store::transfer::{self, Moved, Progress};
use netra_apex::prelude::*;
use place::Place;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: transfer copy FROM… to TO…
       transfer logins FROM to TO
       transfer restored ADDRESS
where FROM and TO are sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME, with redis://HOST/0 and auth=ADDRESS
beside it where the host has them; @FILE is an address that stands in a file";

/// How often a long table is told about.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let both = |words: &[&str]| {
        let at = words.iter().position(|word| *word == "to")?;
        let (from, to) = (words.get(..at)?, words.get(at + 1..)?);
        (!from.is_empty() && !to.is_empty()).then(|| (owned(from), owned(to)))
    };
    let done = match words.split_first() {
        Some((&"copy", rest)) if both(rest).is_some() => moved(both(rest), true).await,
        Some((&"logins", rest)) if both(rest).is_some() => moved(both(rest), false).await,
        Some((&"restored", [address])) => restored(address).await,
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

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn moved(places: Option<(Vec<String>, Vec<String>)>, everything: bool) -> Result<String> {
    let (from, to) = places.unwrap_or_default();
    let (from, to) = (Place::read(&from)?, Place::read(&to)?);
    if everything {
        from.require_database()?;
        to.require_database()?;
    }
    from.require_file()?;
    let (from, to) = (from.open().await?, to.open().await?);
    let teller = Teller::default();
    let told = |progress| teller.tell(progress);
    let moved = if everything {
        transfer::copy(&from, &to, &told).await?
    } else {
        transfer::copy_logins(&from, &to, &told).await?
    };
    Ok(report(moved))
}

fn report(moved: Moved) -> String {
    let mut said = format!("copied {} rows and {} bytes of contents", moved.rows, moved.bytes);
    said.push_str("\nleft out, because it lives for seconds:");
    for (what, comes) in transfer::LEFT_OUT {
        said.push_str(&format!("\n  {what}: {comes}"));
    }
    said
}

async fn restored(address: &str) -> Result<String> {
    let place = Place::read(&[address.to_owned()])?;
    place.require_file()?;
    let renewed = transfer::renew_epochs(&place.open().await?, &SystemClock).await?;
    Ok(format!("began a new epoch of {renewed} open logs, and of the inboxes"))
}

/// Tells how far it is: each table when it is done, and a long one now and then.
#[derive(Default)]
struct Teller(Mutex<Option<Instant>>);

impl Teller {
    fn tell(&self, progress: Progress) {
        let Progress { table, rows, of, bytes } = progress;
        let Ok(mut last) = self.0.lock() else { return };
        if rows < of && last.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return;
        }
        *last = Some(Instant::now());
        eprintln!("{table}: {rows} of {of} rows, {bytes} bytes of contents");
    }
}
