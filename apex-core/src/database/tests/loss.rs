//! Writers, random faults, and afterwards: every acknowledged write is there once, every refused one is not, every
//! one of which nobody knew is there at most once, and exactly once after it was made again under its id.

use super::*;
use crate::testkit::loss::{Tally, Writes};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use tokio::task::JoinSet;

/// So many cycles for each version of the server, and how many servers share them; `APEX_FULL` asks for the long form.
fn cycles() -> (u64, u64) {
    if std::env::var_os("APEX_FULL").is_some() { (10_000, 4) } else { (200, 1) }
}

/// No key is unique here: what is done twice is to be seen.
pub(super) const TABLE: &str =
    "CREATE TABLE w (k text COLLATE \"C\" NOT NULL); CREATE INDEX ON w (k)";

const WRITERS: u64 = 4;

/// The shortest time for which a server or a network stands still.
const STANDSTILL: Duration = Duration::from_millis(50);

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

/// What was seen in some cycles.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    cycles: u64,
    /// The cycles in which the fault was felt: a write failed or stood still, or connections had to be made anew.
    felt: u64,
    tally: Tally,
}

impl Seen {
    fn and(self, other: Self) -> Self {
        Self {
            cycles: self.cycles + other.cycles,
            felt: self.felt + other.felt,
            tally: self.tally.and(other.tally),
        }
    }
}

struct Rig {
    server: Server,
    proxy: Proxy,
    database: Database,
    direct: Database,
    /// The writes of all cycles so far.
    done: Writes,
}

impl Rig {
    async fn new(server: Server) -> Self {
        let proxy = Proxy::start(server.port()).unwrap();
        let direct = open(server.url(), small()).await;
        let made = direct
            .write(access(), |transaction| Box::pin(async move { transaction.batch(TABLE).await }));
        made.await.unwrap();
        let address = server.url_at(proxy.port());
        let database = Database::open(&url(&address), small()).await.unwrap();
        Self { server, proxy, database, direct, done: Writes::default() }
    }

    async fn cycle(&mut self, cycle: u64) -> (Fault, Seen) {
        let mut random = fastrand::Rng::with_seed(cycle);
        let fault = Fault::random(&mut random);
        let connections = self.proxy.accepted();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (database, stop) = (self.database.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let (mut writes, mut longest) = (Writes::default(), Duration::ZERO);
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        let key = format!("{cycle} {writer} {number}");
                        writes.intend(&key);
                        // Every other writer does without a record.
                        let recorded = writer % 2 == 0;
                        let sent = Instant::now();
                        let answer = write(&database, &key, recorded).await;
                        longest = longest.max(sent.elapsed());
                        if let Err(error) = &answer {
                            assert!(!recorded || error.outcome() != Outcome::Applied);
                            assert_ne!(error.failure(), Some(Failure::Unknown), "{error:?}");
                            sleep(Duration::from_millis(5)).await;
                        }
                        writes.told(&key, &answer);
                    }
                    (writes, longest)
                })
            })
            .collect();
        sleep(Duration::from_micros(random.u64(0..30_000))).await;
        self.break_it(fault, &mut random).await;
        sleep(Duration::from_micros(random.u64(0..30_000))).await;
        self.proxy.pass();
        stop.store(true, Ordering::SeqCst);
        let mut seen = Seen { cycles: 1, ..Seen::default() };
        let mut longest = Duration::ZERO;
        for writer in writers {
            let (writes, waited) = within(Duration::from_secs(40), writer).await.unwrap();
            longest = longest.max(waited);
            seen = seen.and(self.check(cycle, writes, fault).await);
        }
        all_back_within(&self.database, Duration::from_secs(5)).await;
        let anew = self.proxy.accepted() > connections;
        let failed = seen.tally.not_applied + seen.tally.unknown_there + seen.tally.unknown_absent;
        seen.felt = u64::from(anew || failed > 0 || longest >= STANDSTILL);
        (fault, seen)
    }

    async fn break_it(&mut self, fault: Fault, random: &mut fastrand::Rng) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::LoseCommit => self.proxy.lose_reply_to(b"COMMIT\0"),
            Fault::CutAnswers => self.proxy.replies(Replies::CutAfter(random.u64(0..300))),
            Fault::Terminate => {
                const ALL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                     AND backend_start < now() - interval '0.01 s'";
                let _ = number(&self.direct, ALL).await;
            }
            Fault::Freeze => {
                self.proxy.freeze();
                sleep(STANDSTILL + Duration::from_millis(random.u64(0..650))).await;
            }
            Fault::Abandon => self.proxy.abandon(),
            Fault::Pause => {
                self.server.pause("postgres");
                sleep(STANDSTILL + Duration::from_millis(random.u64(0..650))).await;
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

    async fn check(&mut self, cycle: u64, mut writes: Writes, fault: Fault) -> Seen {
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
        self.done.join(writes);
        Seen { tally, ..Seen::default() }
    }

    async fn there(&self, cycle: u64) -> HashMap<String, u64> {
        there(&self.direct, &cycle.to_string()).await
    }
}

/// How often each key of a cycle is there; of all of them, where none is named.
pub(super) async fn there(database: &Database, cycle: &str) -> HashMap<String, u64> {
    let (from, below) = match cycle {
        "" => (String::new(), "zz".to_owned()),
        cycle => (format!("{cycle} "), format!("{cycle}!")),
    };
    let (from, below) = (&from, &below);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let read = database.read(access(), |transaction| {
            Box::pin(async move {
                const COUNT: &str = "SELECT k, count(*) FROM w WHERE k >= $1 AND k < $2 GROUP BY k";
                let rows = transaction.query(COUNT, &[from, below]).await?;
                let pairs = rows
                    .iter()
                    .map(|row| Ok((row.column(0)?, u64::try_from(row.column::<i64>(1)?).unwrap())));
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

/// Writes one row into the [table](TABLE).
pub(super) async fn write(database: &Database, key: &str, recorded: bool) -> Result<()> {
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
    let (_, parts) = cycles();
    let servers: Vec<_> =
        (0..parts).flat_map(|part| servers().map(move |server| (part, server))).collect();
    let mut broken = JoinSet::new();
    for (part, server) in servers {
        broken.spawn(break_again_and_again(server, part));
    }
    let mut of_version = BTreeMap::<i64, BTreeMap<Fault, Seen>>::new();
    while let Some(done) = broken.join_next().await {
        let (version, faults) = done.unwrap();
        let sums = of_version.entry(version).or_default();
        for (fault, seen) in faults {
            let sum = sums.entry(fault).or_default();
            *sum = sum.and(seen);
        }
    }
    for (version, faults) in of_version {
        let all = faults.values().fold(Seen::default(), |sum, seen| sum.and(*seen));
        println!("PostgreSQL {version}: {all:?}");
        assert_eq!(all.cycles, cycles().0);
        assert!(all.tally.applied > all.cycles && all.tally.unknown_there > 0);
        for (fault, seen) in faults {
            println!("    {fault:?}: {seen:?}");
            assert!(seen.felt * 2 > seen.cycles, "{fault:?} hits nothing: {seen:?}");
        }
    }
}

/// Every so-manieth cycle, on one server. Its version, and what was seen of each fault.
async fn break_again_and_again(server: Server, part: u64) -> (i64, BTreeMap<Fault, Seen>) {
    const VERSION: &str = "SELECT current_setting('server_version_num')::int8 / 10000";
    let mut rig = Rig::new(server).await;
    let version = number(&rig.direct, VERSION).await.unwrap();
    let mut faults = BTreeMap::<Fault, Seen>::new();
    let began = Instant::now();
    let (cycles, parts) = cycles();
    for cycle in (part..cycles).step_by(parts as usize) {
        let (fault, seen) = rig.cycle(cycle).await;
        let sum = faults.entry(fault).or_default();
        *sum = sum.and(seen);
        if (cycle - part).is_multiple_of(1_000) {
            println!("PostgreSQL {version}: cycle {cycle} after {:?}", began.elapsed());
        }
    }
    // What was there after its cycle has outlived all that came later; only what nobody knew of may have come since.
    let last = rig.done.check(&there(&rig.direct, "").await);
    last.unwrap_or_else(|broken| panic!("PostgreSQL {version}, in the end: {broken:?}"));
    all_back_within(&rig.database, Duration::from_secs(5)).await;
    let watcher = Watcher::new(&rig.server).await;
    watcher.nothing_left_within(Duration::from_secs(3)).await;
    (version, faults)
}
