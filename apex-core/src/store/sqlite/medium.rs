//! A disk that fails now and then: writes and syncs that come back with EIO, by libfiu's preload library around a process
//! that is this test binary, started again. What its writers were told is held against what is in the file.

use super::Synchronous;
use super::database::{configure, connect};
use super::loss::{table, there, write};
use super::writer::Writer;
use crate::error::{Failure, Kind, Outcome};
use crate::run::LocalWakeup;
use crate::testkit::Random;
use crate::testkit::loss::{Tally, killed};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Set for the process whose disk fails: the cycle, and the path of the database.
const CHILD: &str = "APEX_MEDIUM_CHILD";

const CYCLES: u64 = 12;

/// The calls that fail, and how often. EIO is 5.
const FAULTS: [&str; 3] = [
    "enable_random name=posix/io/rw/pwrite,probability=0.02,failinfo=5",
    "enable_random name=posix/io/sync/fsync,probability=0.1,failinfo=5",
    "enable_random name=posix/io/sync/fdatasync,probability=0.1,failinfo=5",
];

#[test]
fn nothing_is_lost_and_nothing_done_twice_when_the_disk_fails_now_and_then() {
    if let Ok(child) = std::env::var(CHILD) {
        let (cycle, path) = child.split_once(' ').unwrap();
        write_until_killed(cycle, Path::new(path));
        return;
    }
    if Command::new("fiu-run").output().is_err() {
        apex_test_services::skip("fiu", "fiu-run is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.db");
    let connection = connect(&path).unwrap();
    configure(&connection, Synchronous::Full).unwrap();
    table(&connection);
    let mut all = Tally::default();
    for cycle in 0..CYCLES {
        let mut command = Command::new("fiu-run");
        command.args(["-x", "-f", ""]);
        for fault in FAULTS {
            command.args(["-c", fault]);
        }
        command.arg(std::env::current_exe().unwrap());
        let test = concat!(
            "store::sqlite::medium::",
            "nothing_is_lost_and_nothing_done_twice_when_the_disk_fails_now_and_then"
        );
        let after = Duration::from_millis(300 + Random::seeded(cycle).below(300) as u64);
        let told = format!("{cycle} {}", path.display());
        let writes = killed::run_by(command, test, (CHILD, &told), after);
        let kept = writes.check(&there(&connection, cycle));
        all = all.and(kept.unwrap_or_else(|broken| panic!("cycle {cycle}: {broken:?}")));
    }
    println!("a disk that fails: {all:?}");
    assert!(all.applied > 0 && all.unknown_there + all.unknown_absent > 0, "{all:?}");
    let rows: u32 = connection.query_row("SELECT count(*) FROM w", [], |row| row.get(0)).unwrap();
    assert_eq!(u64::from(rows), all.applied + all.unknown_there);
    let intact: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(intact, "ok");
}

fn write_until_killed(cycle: &str, path: &Path) {
    // The first calls may fail, too.
    let connection = loop {
        let made =
            connect(path).and_then(|made| configure(&made, Synchronous::Full).map(|()| made));
        if let Ok(made) = made {
            break made;
        }
    };
    let wakeup = Arc::new(LocalWakeup::default());
    let writer = Writer::spawn(connection, path.to_owned(), wakeup).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    killed::say("begun");
    runtime.block_on(async {
        for number in 0..100_000 {
            let key = format!("{cycle} 0 {number}");
            let written = async {
                let written = write(&writer, key.clone()).await;
                if let Err(error) = &written {
                    let class = (error.kind(), error.failure());
                    let known = class == (Kind::Storage, Some(Failure::Corruption));
                    // Whoever started this reads of a write that is not there.
                    if !known || error.outcome() == Outcome::Applied {
                        killed::say(&format!("applied: {error:?}"));
                    }
                }
                written
            };
            killed::write(&key, written).await;
        }
    });
}
