//! Writers, random faults, and afterwards: every acknowledged write is there once, every refused one is not, every
//! one of which nobody knew is there at most once, and exactly once after it was made again under its id.

use super::*;
use crate::testkit::loss::{Tally, Writes};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// So many cycles; `APEX_FULL` asks for the long form.
fn cycles() -> u64 {
    if std::env::var_os("APEX_FULL").is_some() { 10_000 } else { 200 }
}

const WRITERS: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Fault {
    Cut,
    LoseCommit,
    CutAnswers,
    Terminate,
    Freeze,
    Abandon,
    Pause,
    Kill,
}

impl Fault {
    /// Quick ones more often.
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u32(0..100) {
            0..25 => Self::Cut,
            25..55 => Self::LoseCommit,
            55..70 => Self::CutAnswers,
            70..84 => Self::Terminate,
            84..90 => Self::Freeze,
            90..95 => Self::Abandon,
            95..98 => Self::Pause,
            _ => Self::Kill,
        }
    }
}

struct Rig {
    server: Server,
    proxy: Proxy,
    database: Database,
    direct: Database,
}

impl Rig {
    async fn new(server: Server) -> Self {
        let proxy = Proxy::start(server.port()).unwrap();
        let direct = open(server.url(), small()).await;
        let made = direct.write(access(), |transaction| {
            Box::pin(async move { transaction.batch("CREATE TABLE w (k text NOT NULL)").await })
        });
        made.await.unwrap();
        let address = server.url_at(proxy.port());
        let database = Database::open(&url(&address), small()).await.unwrap();
        Self { server, proxy, database, direct }
    }

    async fn cycle(&mut self, cycle: u64) -> (Fault, Tally) {
        let mut random = fastrand::Rng::with_seed(cycle);
        let fault = Fault::random(&mut random);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (database, stop) = (self.database.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut writes = Writes::default();
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let key = format!("{cycle} {writer} {number}");
                        writes.intend(&key);
                        // Every other writer does without a record.
                        let recorded = writer % 2 == 0;
                        let answer = write(&database, &key, recorded).await;
                        if let Err(error) = &answer {
                            assert!(!recorded || error.outcome() != Outcome::Applied);
                            assert_ne!(error.failure(), Some(Failure::Unknown), "{error:?}");
                            sleep(Duration::from_millis(5)).await;
                        }
                        writes.told(&key, &answer);
                    }
                    writes
                })
            })
            .collect();
        sleep(Duration::from_micros(random.u64(0..30_000))).await;
        self.break_it(fault, &mut random).await;
        sleep(Duration::from_micros(random.u64(0..30_000))).await;
        self.proxy.pass();
        stop.store(true, Ordering::SeqCst);
        let mut tally = Tally::default();
        for writer in writers {
            let writes = within(Duration::from_secs(40), writer).await.unwrap();
            tally = tally.and(self.check(cycle, writes, fault).await);
        }
        all_back_within(&self.database, Duration::from_secs(5)).await;
        (fault, tally)
    }

    async fn break_it(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::LoseCommit => self.proxy.lose_reply_to(b"COMMIT\0"),
            Fault::CutAnswers => self.proxy.replies(Replies::CutAfter(random.u64(0..2_000))),
            Fault::Terminate => {
                const ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                     AND backend_start < now() - interval '0.01 s'";
                let _ = number(&self.direct, ALL).await;
            }
            Fault::Freeze => {
                self.proxy.freeze();
                sleep(Duration::from_millis(random.u64(50..700))).await;
            }
            Fault::Abandon => self.proxy.abandon(),
            Fault::Pause => {
                self.server.pause("postgres");
                sleep(Duration::from_millis(random.u64(50..700))).await;
                self.server.resume("postgres");
            }
            Fault::Kill => {
                // Nobody who comes in between keeps the old server's memory in use.
                self.proxy.refuse();
                self.server.kill("postgres");
                start_again(&mut self.server).await;
            }
        }
    }

    async fn check(&self, cycle: u64, mut writes: Writes, fault: Fault) -> Tally {
        let there = self.there(cycle).await;
        let own = |there: HashMap<String, u64>, writes: &Writes| {
            let of_writer = |key: &String| writes.has(key);
            there.into_iter().filter(|(key, _)| of_writer(key)).collect::<HashMap<_, _>>()
        };
        let told = writes.check(&own(there, &writes));
        let tally = told.unwrap_or_else(|broken| panic!("cycle {cycle} ({fault:?}): {broken:?}"));
        for key in writes.undecided() {
            // A write without a record cannot be made again.
            if key.split(' ').nth(1).is_some_and(|writer| matches!(writer, "0" | "2")) {
                let again = write(&self.direct, &key, true).await;
                writes.told(&key, &again);
            }
        }
        let told = writes.check(&own(self.there(cycle).await, &writes));
        told.unwrap_or_else(|broken| panic!("cycle {cycle} ({fault:?}), again: {broken:?}"));
        tally
    }

    async fn there(&self, cycle: u64) -> HashMap<String, u64> {
        let prefix = format!("{cycle} %");
        let prefix = &prefix;
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let read = self.direct.read(access(), |transaction| {
                Box::pin(async move {
                    const COUNT: &str = "SELECT k, count(*) FROM w WHERE k LIKE $1 GROUP BY k";
                    let rows = transaction.query(COUNT, &[prefix]).await?;
                    let pairs = rows.iter().map(|row| {
                        Ok((row.column(0)?, u64::try_from(row.column::<i64>(1)?).unwrap()))
                    });
                    pairs.collect::<Result<HashMap<String, u64>>>()
                })
            });
            match read.await {
                Ok(there) => return there,
                Err(error) => assert!(Instant::now() < until, "{error:?}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn write(database: &Database, key: &str, recorded: bool) -> Result<()> {
    let digest = Sha256::digest(key.as_bytes());
    let id: [u8; 16] = digest[..16].try_into().unwrap();
    let access = if recorded { access().recorded(id) } else { access() };
    let written = database.write(access, |transaction| {
        Box::pin(async move {
            transaction.execute("INSERT INTO w (k) VALUES ($1)", &[&key]).await.map(drop)
        })
    });
    written.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_done_twice_whatever_breaks() {
    for server in servers() {
        let mut rig = Rig::new(server).await;
        let (mut all, mut faults) = (Tally::default(), std::collections::BTreeMap::new());
        let began = Instant::now();
        for cycle in 0..cycles() {
            let (fault, tally) = rig.cycle(cycle).await;
            all = all.and(tally);
            *faults.entry(fault).or_insert(0_u32) += 1;
        }
        println!("{} cycles in {:?}: {faults:?} {all:?}", cycles(), began.elapsed());
        assert!(all.applied > cycles() && all.unknown_there > 0);
        all_back_within(&rig.database, Duration::from_secs(5)).await;
        let watcher = Watcher::new(&rig.server).await;
        watcher.nothing_left_within(Duration::from_secs(3)).await;
    }
}
