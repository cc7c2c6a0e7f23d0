//! Writers in a process that is killed at random moments, or whose disk fills up: what they were told, held against
//! what is in the file. The process is this test binary, started again.

use super::Synchronous;
use super::database::{configure, connect};
use super::writer::Writer;
use crate::error::Result;
use crate::run::LocalWakeup;
use crate::testkit::Random;
use crate::testkit::loss::{Tally, Writes, killed};
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Set for the process to be killed: the cycle, and the path of the database.
const CHILD: &str = "APEX_LOSS_CHILD";

const WRITERS: u64 = 4;

/// So many cycles; `APEX_FULL` asks for the long form.
fn cycles() -> u64 {
    if std::env::var_os("APEX_FULL").is_some() { 10_000 } else { 200 }
}

#[test]
fn nothing_is_lost_and_nothing_done_twice_when_the_process_is_killed_or_the_disk_full() {
    if let Ok(child) = std::env::var(CHILD) {
        let (cycle, path) = child.split_once(' ').unwrap();
        write_until_killed(cycle, Path::new(path));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.db");
    let connection = connect(&path).unwrap();
    configure(&connection, Synchronous::Full).unwrap();
    table(&connection);
    let mut all = Tally::default();
    let began = std::time::Instant::now();
    for cycle in 0..cycles() {
        let writes = run_and_kill(cycle, &path);
        let kept = writes
            .check(&there(&connection, cycle))
            .unwrap_or_else(|broken| panic!("cycle {cycle}: {broken:?}"));
        all = all.and(kept);
        if (cycle + 1).is_multiple_of(1_000) {
            println!("SQLite: {} cycles in {:?}", cycle + 1, began.elapsed());
        }
    }
    println!("SQLite: {} cycles in {:?}: {all:?}", cycles(), began.elapsed());
    assert!(all.applied > cycles() && all.not_applied > 0, "{all:?}");
    assert!(all.unknown_there + all.unknown_absent > 0, "{all:?}");
    // What was there after its cycle has outlived all that came later.
    let rows: u32 = connection.query_row("SELECT count(*) FROM w", [], |row| row.get(0)).unwrap();
    assert_eq!(u64::from(rows), all.applied + all.unknown_there);
    let intact: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(intact, "ok");
}

/// No key is unique here: what is done twice is to be seen.
pub(super) fn table(connection: &Connection) {
    let tables = "CREATE TABLE w (k TEXT NOT NULL, filler BLOB); CREATE INDEX w_k ON w (k)";
    connection.execute_batch(tables).unwrap();
}

/// The keys of a cycle that are there, and how often each.
pub(super) fn there(connection: &Connection, cycle: u64) -> HashMap<String, u64> {
    let sql = "SELECT k, count(*) FROM w WHERE k >= ?1 || ' ' AND k < ?1 || '!' GROUP BY k";
    let mut statement = connection.prepare_cached(sql).unwrap();
    let rows = statement
        .query_map([cycle.to_string()], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?.into())));
    rows.unwrap().map(std::result::Result::unwrap).collect()
}

fn run_and_kill(cycle: u64, path: &Path) -> Writes {
    let test = concat!(
        "store::sqlite::loss::",
        "nothing_is_lost_and_nothing_done_twice_when_the_process_is_killed_or_the_disk_full"
    );
    let after = Duration::from_micros(Random::seeded(cycle).below(30_000) as u64);
    killed::run(test, (CHILD, &format!("{cycle} {}", path.display())), after)
}

fn write_until_killed(cycle: &str, path: &Path) {
    let connection = connect(path).unwrap();
    configure(&connection, Synchronous::Full).unwrap();
    let number: u64 = cycle.parse().unwrap();
    let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    if number % 4 == 3 {
        // Soon the disk is full.
        connection.pragma_update(None, "max_page_count", pages + 8).unwrap();
    }
    let wakeup = Arc::new(LocalWakeup::default());
    let writer = Arc::new(Writer::spawn(connection, path.to_owned(), wakeup).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    killed::say("begun");
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|task| {
            let (writer, cycle) = (Arc::clone(&writer), cycle.to_owned());
            tokio::spawn(async move {
                for number in 0..2_000 {
                    let key = format!("{cycle} {task} {number}");
                    killed::write(&key, write(&writer, key.clone())).await;
                }
            })
        });
        futures_util::future::join_all(writers).await;
    });
    // Whoever is to be killed waits for it.
    std::thread::sleep(Duration::from_secs(60));
}

/// Writes a row of that key.
pub(super) async fn write(writer: &Writer, key: String) -> Result<()> {
    let work = move |connection: &Connection, _: &mut Vec<_>| {
        connection
            .prepare_cached("INSERT INTO w (k, filler) VALUES (?1, zeroblob(700))")?
            .execute([&key])?;
        Ok(())
    };
    writer.write("test", work).await
}
