//! What recording an event costs, in memory, in SQLite, in PostgreSQL and in Redis over SQLite, alone and with readers,
//! and the databases beside the bare ones doing the same writes. The rows of PostgreSQL need its address in
//! `APEX_TEST_POSTGRES_URL`, those of Redis in `APEX_TEST_REDIS_URL`.
//!
//! `cargo bench -p apex-core --all-features --bench append` prints a table. The rows take turns, so that what else the
//! machine does falls on all of them; a share is the median of those of each round. `… -- only postgres` leaves out
//! the rows without that word. With the name of one row (and, if wanted, a number of events) it runs that row once,
//! for a profiler: `… --bench append -- memory 10000`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and fails by panicking"
)]

mod record;

use apex_core::clock::SystemClock;
use apex_core::config::DatabaseUrl;
use apex_core::database::DatabaseConfig;
use apex_core::run::RunLimits;
use apex_core::store::postgres::{self, PostgresOptions};
use apex_core::store::sqlite::{SqliteOptions, Synchronous};
use apex_core::store::{redis, sqlite};
use record::{begin, event, in_memory, record, runtime};
use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Readers of a run in the rows with fan-out.
const READERS: usize = 50;

/// Runs that are written at once in the rows with many writers.
const WRITERS: usize = 32;

type Row = (&'static str, usize, fn(usize) -> Duration);

/// Name, events, and what carries them out and says how long it took.
const ROWS: &[Row] = &[
    ("memory", 200_000, |events| in_memory(events, 0)),
    ("memory, 50 readers", 4_000, |events| in_memory(events, READERS)),
    ("sqlite full, 1 writer", 1_000, |events| in_sqlite(events, 1, Synchronous::Full)),
    ("bare full, 1 writer", 1_000, |events| bare(events, 1, "FULL")),
    ("sqlite full, 32 writers", 16_000, |events| in_sqlite(events, WRITERS, Synchronous::Full)),
    ("bare full, 32 in a commit", 16_000, |events| bare(events, WRITERS, "FULL")),
    ("sqlite normal, 1 writer", 10_000, |events| in_sqlite(events, 1, Synchronous::Normal)),
    ("bare normal, 1 writer", 10_000, |events| bare(events, 1, "NORMAL")),
    ("sqlite normal, 32 writers", 32_000, |events| in_sqlite(events, WRITERS, Synchronous::Normal)),
    ("bare normal, 32 in a commit", 32_000, |events| bare(events, WRITERS, "NORMAL")),
    ("postgres, 1 writer", 2_000, |events| in_postgres(events, 1)),
    ("bare postgres, 1 writer", 2_000, |events| bare_postgres(events, 1)),
    ("postgres, 32 writers", 12_800, |events| in_postgres(events, WRITERS)),
    ("bare postgres, 32 writers", 12_800, |events| bare_postgres(events, WRITERS)),
    ("redis, 1 writer", 4_000, |events| in_redis(events, 1)),
    ("bare redis, 1 writer", 4_000, |events| bare_redis(events, 1)),
    ("redis, 32 writers", 32_000, |events| in_redis(events, WRITERS)),
    ("bare redis, 32 writers", 32_000, |events| bare_redis(events, WRITERS)),
];

/// The connections to PostgreSQL, of Apex as of the bare rows.
const CONNECTIONS: usize = 10;

/// How often each row is measured; the median counts.
const ROUNDS: usize = 5;

fn main() {
    // Cargo itself passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut only = String::new();
    match arguments.next().as_deref() {
        None => {}
        Some("only") => only = arguments.next().unwrap_or_default(),
        Some(name) => {
            let row = ROWS.iter().find(|(known, ..)| *known == name);
            let Some((_, events, run)) = row else {
                let names: Vec<&str> = ROWS.iter().map(|(name, ..)| *name).collect();
                println!("no row {name:?}; there are: {}", names.join("; "));
                std::process::exit(2);
            };
            let events = arguments.next().map_or(*events, |text| text.parse().unwrap());
            run(events);
            return;
        }
    }
    let rows = ROWS.iter().filter(|(name, ..)| {
        let wanted = name.contains(&only);
        let needed = ["postgres", "redis"].into_iter().find(|server| name.contains(server));
        let missing = needed.filter(|server| address(server).is_none());
        if let Some(server) = missing.filter(|_| wanted) {
            println!("{name:<28} skipped: no address of {server}");
        }
        wanted && missing.is_none()
    });
    let rows: Vec<&Row> = rows.collect();
    let mut rates = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for ((_, events, run), rates) in rows.iter().zip(&mut rates) {
            rates.push(*events as f64 / run(*events).as_secs_f64());
        }
    }
    println!("{:<28} {:>10} {:>12} {:>8}", "row", "µs/event", "events/s", "of bare");
    for (index, (name, ..)) in rows.iter().enumerate() {
        let rate = median(rates[index].clone());
        // A bare row stands after the one that it is compared with.
        let share = if name.starts_with("bare") {
            let shares = rates[index - 1].iter().zip(&rates[index]).map(|(ours, bare)| ours / bare);
            format!("{:.2}", median(shares.collect()))
        } else {
            String::new()
        };
        println!("{name:<28} {:>10.2} {rate:>12.0} {share:>8}", 1e6 / rate);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn in_sqlite(events: usize, writers: usize, synchronous: Synchronous) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        synchronous,
        runs: RunLimits { running: writers, ..RunLimits::default() },
        ..SqliteOptions::new(folder.path().join("apex.db"))
    };
    let stores = sqlite::open(&options, Arc::new(SystemClock)).unwrap();
    record(&runtime(), &stores, events, writers, 0)
}

fn address(server: &str) -> Option<DatabaseUrl> {
    let variable = format!("APEX_TEST_{}_URL", server.to_uppercase());
    std::env::var(variable).ok().map(|url| url.parse().unwrap())
}

/// The events in Redis under keys of their own for each measurement, everything else in SQLite.
fn in_redis(events: usize, writers: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let clock = Arc::new(SystemClock);
    let runs = RunLimits { running: writers, ..RunLimits::default() };
    let prefix = format!("bench-{}", uuid::Uuid::now_v7().simple());
    let stores = runtime.block_on(async {
        let url = address("redis").unwrap();
        let options = redis::RedisOptions { prefix, ..redis::RedisOptions::new(url) };
        let shared = redis::open(&options, &*clock).await.unwrap();
        let options = SqliteOptions { runs, ..SqliteOptions::new(folder.path().join("apex.db")) };
        let wakeup = Arc::clone(&shared.wakeup);
        let stores = sqlite::open_with(&options, Arc::clone(&clock) as _, wakeup).unwrap();
        shared.with_event_log(stores, runs, clock).await.unwrap()
    });
    record(&runtime, &stores, events, writers, 0)
}

/// The same writes by hand over one connection of the driver: a transaction an append.
fn bare_redis(events: usize, writers: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let url = address("redis").unwrap();
        let client = ::redis::Client::open(url.reveal().reveal().as_str()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let json = vec![b'x'; 220];
        let began = Instant::now();
        let mut writing = JoinSet::new();
        for _ in 0..writers {
            let (mut connection, json) = (connection.clone(), json.clone());
            let key = format!("bench-{}", uuid::Uuid::now_v7().simple());
            writing.spawn(async move {
                let (state, stream) = (format!("{{{key}}}:s"), format!("{{{key}}}:e"));
                for seq in 2..events as u64 / writers as u64 + 2 {
                    let batch = uuid::Uuid::now_v7().to_string();
                    let mut append = ::redis::pipe();
                    append.atomic();
                    append.cmd("HMGET").arg(&state).arg(&["e", "f", "h", "o", "b", "l", "t", "g"]);
                    append.cmd("XADD").arg(&stream).arg(format!("{seq}-0")).arg("e").arg(&json);
                    append.cmd("HSET").arg(&state).arg(&["h", &seq.to_string(), "o", "1"]);
                    append.arg(&["b", "220", "l", &batch, "t", "0"]);
                    append.cmd("PEXPIRE").arg(&state).arg(600_000);
                    append.cmd("PEXPIRE").arg(&stream).arg(600_000);
                    append.cmd("PUBLISH").arg("bench").arg(&batch);
                    append.exec_async(&mut connection).await.unwrap();
                }
            });
        }
        while let Some(written) = writing.join_next().await {
            written.unwrap();
        }
        began.elapsed()
    })
}

/// A schema of its own for each measurement.
fn in_postgres(events: usize, writers: usize) -> Duration {
    let runtime = runtime();
    let options = postgres_options(writers);
    let stores = runtime.block_on(postgres::open(&options, Arc::new(SystemClock))).unwrap();
    record(&runtime, &stores, events, writers, 0)
}

fn postgres_options(writers: usize) -> PostgresOptions {
    let name = format!("bench_{}", uuid::Uuid::now_v7().simple());
    PostgresOptions {
        schema: name.parse().unwrap(),
        database: DatabaseConfig { connections: CONNECTIONS, ..DatabaseConfig::default() },
        runs: RunLimits { running: writers, ..RunLimits::default() },
        ..PostgresOptions::new(address("postgres").unwrap())
    }
}

/// The same rows written by hand over bare connections: one prepared statement an append, which commits by itself.
fn bare_postgres(events: usize, writers: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let options = postgres_options(writers);
        let stores = postgres::open(&options, Arc::new(SystemClock)).await.unwrap();
        for _ in 0..writers {
            let (_, mut emitter) = begin(&stores).await;
            emitter.append(vec![event()], None, None).await.unwrap();
        }
        drop(stores);
        let url = options.url.reveal();
        let connections = writers.min(CONNECTIONS);
        let mut clients = Vec::new();
        for _ in 0..connections {
            let (client, driven) =
                tokio_postgres::connect(url.reveal(), tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(driven);
            client.batch_execute(&format!("SET search_path = {}", options.schema)).await.unwrap();
            clients.push(client);
        }
        let bytes = "SELECT octet_length(json)::bigint FROM event WHERE seq = 2 LIMIT 1";
        let bytes: i64 = clients[0].query_one(bytes, &[]).await.unwrap().get(0);
        let began = Instant::now();
        let mut writing = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            let ids: Vec<i64> =
                (1..=writers as i64).filter(|id| *id as usize % connections == number).collect();
            writing.spawn(by_hand(client, ids, events / writers, vec![b'x'; bytes as usize]));
        }
        while let Some(written) = writing.join_next().await {
            written.unwrap();
        }
        began.elapsed()
    })
}

async fn by_hand(client: tokio_postgres::Client, ids: Vec<i64>, events: usize, json: Vec<u8>) {
    let append = "WITH changed AS (UPDATE run SET head = $2, bytes = bytes + $3, lease_until = $4, last_batch = $5 \
         WHERE id = $1 RETURNING id) \
         INSERT INTO event (id, seq, terminal, json) SELECT id, $2, false, $6 FROM changed";
    let append = client.prepare(append).await.unwrap();
    let batch = uuid::Uuid::now_v7();
    for seq in 3..events as i64 + 3 {
        for id in &ids {
            let bytes = json.len() as i64;
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [id, &seq, &bytes, &seq, &batch, &json];
            client.execute(&append, &row).await.unwrap();
        }
    }
}

/// The same rows written by hand: a thread that does nothing else, `group` appends a commit.
fn bare(events: usize, group: usize, synchronous: &str) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("apex.db");
    let lengths = prepared(&path, group);
    let mut connection = Connection::open(&path).unwrap();
    for (name, value) in [("journal_mode", "WAL"), ("synchronous", synchronous)] {
        connection.pragma_update(None, name, value).unwrap();
    }
    let json = vec![b'x'; lengths];
    let began = Instant::now();
    for round in 0..events / group {
        let commit = connection.transaction().unwrap();
        for run in 1..=group as i64 {
            let seq = round as i64 + 3;
            commit
                .prepare_cached(
                    "INSERT INTO event (id, seq, terminal, json) VALUES (?1, ?2, 0, ?3)",
                )
                .unwrap()
                .execute(params![run, seq, json])
                .unwrap();
            commit
                .prepare_cached(
                    "UPDATE run SET head = ?2, bytes = bytes + ?3, lease_until = ?4, last_batch = ?5 \
                     WHERE id = ?1",
                )
                .unwrap()
                .execute(params![run, seq, json.len() as i64, seq, [7_u8; 16]])
                .unwrap();
        }
        commit.commit().unwrap();
    }
    began.elapsed()
}

/// Makes a database with `runs` claimed runs, and says how large an encoded event is.
fn prepared(path: &Path, runs: usize) -> usize {
    let options = SqliteOptions::new(path);
    let stores = sqlite::open(&options, Arc::new(SystemClock)).unwrap();
    runtime().block_on(async {
        let mut length = 0;
        for _ in 0..runs {
            let (principal, mut emitter) = begin(&stores).await;
            emitter.append(vec![event()], None, None).await.unwrap();
            let page = stores.runs.read(&principal, emitter.lease().run, 1, 1);
            length = page.await.unwrap().events.first().unwrap().json.len();
        }
        length
    })
}
