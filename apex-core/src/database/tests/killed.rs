//! This process, killed at any moment, also between a commit and its answer: who comes after it finds out by the
//! record what took effect.

use super::loss::{TABLE, there, write};
use super::*;
use crate::testkit::loss::{Tally, killed};

/// Set for the process to be killed: the round, and the address of the database.
const CHILD: &str = "APEX_KILLED_CHILD";

const TEST: &str =
    "database::tests::killed::nothing_is_lost_and_nothing_done_twice_when_this_process_is_killed";

#[test]
fn nothing_is_lost_and_nothing_done_twice_when_this_process_is_killed() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    match std::env::var(CHILD) {
        Ok(child) => runtime.block_on(write_until_killed(&child)),
        Err(_) => runtime.block_on(kill_again_and_again()),
    }
}

async fn write_until_killed(child: &str) {
    let (round, address) = child.split_once(' ').unwrap();
    let database = Database::open(&url(address), small()).await.unwrap();
    let database = &database;
    killed::say("begun");
    let writers = (0..8).map(|writer| async move {
        for number in 0.. {
            let key = format!("{round} {writer} {number}");
            killed::write(&key, write(database, &key, true)).await;
        }
    });
    futures_util::future::join_all(writers).await;
}

async fn kill_again_and_again() {
    let Some(server) = server(&Options::default()) else { return };
    let database = open(&format!("{}&application_name=test", server.url()), small()).await;
    let made = database.write(access(), |transaction| Box::pin(transaction.batch(TABLE)));
    made.await.unwrap();
    let watcher = Watcher::new(&server).await;
    let rounds = if std::env::var_os("APEX_FULL").is_some() { 1_000 } else { 20 };
    let mut all = Tally::default();
    for round in 0..rounds {
        let address = format!("{round} {}", server.url());
        let after = Duration::from_micros(fastrand::Rng::with_seed(round).u64(0..60_000));
        let run = move || killed::run(TEST, (CHILD, &address), after);
        let mut writes = tokio::task::spawn_blocking(run).await.unwrap();
        // The server ends what it has begun for those who are gone.
        let until = Instant::now() + Duration::from_secs(10);
        while watcher.connections().await > 0 {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(5)).await;
        }
        let round = round.to_string();
        let kept = writes.check(&there(&database, &round).await);
        all = all.and(kept.unwrap_or_else(|broken| panic!("round {round}: {broken:?}")));
        for key in writes.undecided() {
            writes.told(&key, &write(&database, &key, true).await);
        }
        assert!(writes.undecided().is_empty());
        let kept = writes.check(&there(&database, &round).await);
        kept.unwrap_or_else(|broken| panic!("round {round}, again: {broken:?}"));
    }
    println!("{rounds} rounds: {all:?}");
    assert!(all.applied > rounds && all.unknown_there > 0 && all.unknown_absent > 0, "{all:?}");
}
