//! Kills a process that writes, at random moments, and looks at what is there afterwards: everything that had been
//! acknowledged, no hole, and every run claimable at once. The process is this test binary, started again.

use crate::backend::{Postgres, runtime};
use apex_core::clock::{Clock as _, SystemClock};
use apex_core::id::{FileId, RequestId, RunId, ThreadId, UserId};
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{Claim, Claimed, Emitter, Live, NewRun, RunLimits, RunState};
use apex_core::store::Stores;
use apex_core::store::postgres::{self, PostgresOptions};
use apex_core::store::sqlite::{self, SqliteOptions};
use apex_core::testkit::{Random, completed, thought};
use bytes::Bytes;
use futures_util::stream;
use libtest_mimic::Trial;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Set for the process to be killed: the path of its database, or the address and the schema.
pub(crate) const CHILD: &str = "APEX_CRASH_CHILD";

/// How often it is killed.
const KILLS: u64 = 20;

/// The runs that it works on at once.
const WORKERS: u64 = 6;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("sqlite::crash::what_was_acknowledged_survives_a_kill_at_any_moment", || {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("apex.db").display().to_string();
        survives(&place, KILLS);
        Ok(())
    })]
}

/// The same over a server; fewer times, because there a dead process is known only after its silence.
pub(crate) fn trials_over(server: &Arc<Postgres>, name: &'static str) -> Vec<Trial> {
    let server = Arc::clone(server);
    let what = format!("{name}::crash::what_was_acknowledged_survives_a_kill_at_any_moment");
    vec![Trial::test(what, move || {
        let PostgresOptions { url, schema, .. } = server.options();
        survives(&format!("{} {schema}", url.reveal().reveal()), 4);
        Ok(())
    })]
}

fn survives(place: &str, kills: u64) {
    let mut acknowledged = Acknowledged::default();
    for kill in 0..kills {
        kill_a_writer(place, kill, &mut acknowledged);
        runtime().block_on(check(place, &acknowledged));
    }
    let few = if is_server(place) { 1 } else { 5 };
    assert!(acknowledged.heads.len() > 8 * few, "hardly anything was written");
    assert!(acknowledged.ended.len() >= few && acknowledged.files.len() >= few);
}

/// What the killed processes said that they were told.
#[derive(Debug, Default)]
struct Acknowledged {
    heads: HashMap<RunId, u64>,
    ended: BTreeSet<RunId>,
    files: BTreeSet<FileId>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["head", run, head] => {
                self.heads.insert(run.parse().unwrap(), head.parse().unwrap());
            }
            ["ended", run] => {
                self.ended.insert(run.parse().unwrap());
            }
            ["file", file] => {
                self.files.insert(file.parse().unwrap());
            }
            // A line that the kill cut off says nothing.
            _ => {}
        }
    }
}

/// Starts the writer and kills it: now and then while it opens the file, mostly while it works.
fn kill_a_writer(place: &str, kill: u64, acknowledged: &mut Acknowledged) {
    let mut random = Random::seeded(kill);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    if kill % 5 != 4 {
        lines.read_line(&mut text).unwrap();
    }
    // The moment of the kill is meant to be any; nothing is waited for.
    let longest = if is_server(place) { 3_000_000 } else { 120_000 };
    std::thread::sleep(Duration::from_micros(random.below(longest) as u64));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.read_to_string(&mut text).unwrap();
    for line in text.split_inclusive('\n') {
        if let Some(line) = line.strip_suffix('\n') {
            acknowledged.note(line);
        }
    }
}

async fn check(place: &str, acknowledged: &Acknowledged) {
    let stores = open(place).await;
    let user = user();
    let mut runs: BTreeSet<RunId> = acknowledged.heads.keys().copied().collect();
    let mut entries = 0;
    loop {
        let page = stores.runs.inbox(&user, entries, 1_000).await.unwrap();
        for entry in page.entries {
            entries += 1;
            assert_eq!(entry.seq, entries);
            runs.insert(entry.run);
        }
        if entries == page.head {
            break;
        }
    }
    let mut open_runs = 0;
    for run in runs {
        let head = acknowledged.heads.get(&run).copied().unwrap_or(1);
        let state = check_log(&stores, &user, run, head).await;
        assert!(state.is_terminal() || !acknowledged.ended.contains(&run));
        open_runs += usize::from(!state.is_terminal());
    }
    for file in &acknowledged.files {
        let mut content = stores.files.open(&user, *file).await.unwrap();
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        assert_eq!(text, file.to_string());
    }
    // Its holder is dead, and that is known without waiting for the lease.
    let mut claimed = claim_all(&stores).await;
    let silence = Instant::now();
    while is_server(place) && claimed < open_runs && silence.elapsed() < Duration::from_secs(13) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        claimed += claim_all(&stores).await;
    }
    assert_eq!(claimed, open_runs);
}

async fn claim_all(stores: &Stores) -> usize {
    let claim = Claim { node: stores.node, max: 1_000 };
    stores.runs.claim(claim).await.unwrap().len()
}

/// Passes when the log is whole and goes at least up to `head`.
async fn check_log(stores: &Stores, user: &Principal, run: RunId, head: u64) -> RunState {
    let view = stores.runs.view(user, run).await.unwrap();
    assert!(view.head >= head, "{} of {head} acknowledged events are there", view.head);
    let mut next = 1;
    while next <= view.head {
        let page = stores.runs.read(user, run, next - 1, 1_000).await.unwrap();
        assert!(!page.events.is_empty());
        for event in page.events {
            let envelope = event.decode().unwrap();
            assert_eq!((event.seq, envelope.seq), (next, Some(next)));
            let closes = view.state.is_terminal() && next == view.head;
            assert_eq!((event.terminal, envelope.event.is_terminal()), (closes, closes));
            next += 1;
        }
    }
    view.state
}

/// Works until it is killed, and says on its standard output what it was told.
pub(crate) fn child(place: &str) -> ! {
    runtime().block_on(async {
        let stores = open(place).await;
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| tokio::spawn(work(stores.clone(), worker))).collect();
        for worker in workers {
            worker.await.unwrap();
        }
    });
    std::process::exit(1);
}

async fn work(stores: Stores, seed: u64) {
    let clock = Arc::new(SystemClock);
    let mut random = Random::seeded(seed ^ clock.now().as_millis().unsigned_abs());
    loop {
        let claimed = next_run(&stores).await;
        let run = claimed.lease.run;
        let mut emitter = Emitter::new(
            Arc::clone(&stores.runs),
            Arc::clone(&clock) as _,
            Live::default(),
            claimed.lease,
        );
        while !random.once_in(12) {
            let events = (0..=random.below(3)).map(|_| thought(random.below(2_000))).collect();
            emitter.append(events, None, None).await.unwrap();
            say(&format!("head {run} {}", emitter.head()));
        }
        if random.once_in(2) {
            put_file(&stores).await;
        }
        let state = Some(RunState::Completed);
        emitter.append(vec![completed()], None, state).await.unwrap();
        say(&format!("head {run} {}", emitter.head()));
        say(&format!("ended {run}"));
    }
}

async fn next_run(stores: &Stores) -> Claimed {
    loop {
        // A server passes over a user whose runs somebody else is changing at that moment.
        for _ in 0..5 {
            let claim = Claim { node: stores.node, max: 1 };
            if let Some(claimed) = stores.runs.claim(claim).await.unwrap().pop() {
                return claimed;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let new = NewRun {
            run: RunId::new(&SystemClock),
            request: RequestId::new(&SystemClock),
            digest: [7; 32],
            thread: ThreadId::new(&SystemClock),
            parent: None,
            text: "where does it go?".into(),
            attachments: Vec::new(),
            agents: Vec::new(),
            budget: None,
            trace: None,
        };
        stores.runs.start(&user(), new).await.unwrap();
    }
}

async fn put_file(stores: &Stores) {
    let (user, file) = (user(), FileId::new(&SystemClock));
    let body = stream::iter([Ok(Bytes::from(file.to_string()))]);
    let put = stores.files.put(&user, file, "a.csv", Box::pin(body));
    put.await.unwrap();
    say(&format!("file {file}"));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn user() -> Principal {
    Principal::vouched(UserId::from_bytes([7; 16]), Scopes::USER)
}

fn is_server(place: &str) -> bool {
    place.starts_with("postgres:")
}

async fn open(place: &str) -> Stores {
    let runs = RunLimits { running: 1_000, inbox_entries: 100_000, ..RunLimits::default() };
    let clock = Arc::new(SystemClock);
    match place.split_once(' ') {
        Some((url, schema)) if is_server(place) => {
            let schema = schema.parse().unwrap();
            let mut options =
                PostgresOptions { schema, runs, ..PostgresOptions::new(url.parse().unwrap()) };
            // One user does what many would do.
            options.database.per_user = Some(options.database.connections);
            postgres::open(&options, clock).await.unwrap()
        }
        _ => sqlite::open(&SqliteOptions { runs, ..SqliteOptions::new(place) }, clock).unwrap(),
    }
}
