//! The events of runs in Redis, under what happens to a Redis: nothing is shown that is not recorded, no number is used
//! twice in one life of a log, and what is lost ends in a new epoch and a reset.

use crate::support::{options, say, until};
use apex_core::clock::Clock;
use apex_core::error::{Kind, Result};
use apex_core::event::Event;
use apex_core::id::{Epoch, StepId};
use apex_core::principal::Principal;
use apex_core::run::{Checkpoint, Delivery, Lease, Position, RunLimits, RunState, Subscription};
use apex_core::store::redis;
use apex_core::store::sqlite::{self, SqliteOptions, Synchronous};
use apex_core::store::{Stores, memory};
use apex_core::testkit::{Bench, VirtualClock, thought};
use apex_test_services::{Kind as Service, Options, Proxy, Server};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One process of those that share a database and a Redis.
async fn node(folder: &Path, url: &str, prefix: &str, clock: &Arc<VirtualClock>) -> Bench {
    let stores = stores(folder, url, prefix, clock).await.unwrap();
    Bench::of(stores, Arc::clone(clock))
}

async fn stores(
    folder: &Path,
    url: &str,
    prefix: &str,
    clock: &Arc<VirtualClock>,
) -> Result<Stores> {
    let options = redis::RedisOptions { prefix: prefix.to_owned(), ..options(url) };
    let shared = redis::open(&options, &**clock).await?;
    let time = Arc::clone(clock) as Arc<dyn Clock>;
    let database = SqliteOptions {
        synchronous: Synchronous::Normal,
        ..SqliteOptions::new(folder.join("apex.db"))
    };
    let stores = sqlite::open_with(&database, Arc::clone(&time), Arc::clone(&shared.wakeup))?;
    shared.with_event_log(shared.of(stores), RunLimits::default(), time).await
}

/// A run that is written by one node and read by one, and what its reader has applied.
struct Tale {
    folder: tempfile::TempDir,
    url: String,
    clock: Arc<VirtualClock>,
    bench: Bench,
    user: Principal,
    lease: Lease,
    head: u64,
    reader: Subscription,
    applied: BTreeMap<(Epoch, u64), bytes::Bytes>,
    cursor: u64,
    epoch: Epoch,
    resets: usize,
    ended: bool,
}

impl Tale {
    /// With a run of four events, of which the database knows the first two.
    async fn begin(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::still());
        let bench = node(folder.path(), url, "tale", &clock).await;
        let user = bench.user();
        let lease = bench.running(&user).await.lease;
        let reader = bench.subscribe(&user, lease.run, Position::default()).await;
        let (head, epoch, url) = (lease.head, lease.epoch, url.to_owned());
        let mut tale = Self {
            folder,
            url,
            clock,
            bench,
            user,
            lease,
            head,
            reader,
            applied: BTreeMap::new(),
            cursor: 0,
            epoch,
            resets: 0,
            ended: false,
        };
        for _ in 0..3 {
            tale.think().await;
        }
        tale.read().await;
        assert_eq!((tale.cursor, tale.resets), (4, 0));
        tale
    }

    async fn another_node(&self) -> Bench {
        node(self.folder.path(), &self.url, "tale", &self.clock).await
    }

    /// Appends as a writer does, who learns of a new life from the answer.
    async fn append(&mut self, events: Vec<Event>, state: Option<RunState>) -> Result<()> {
        let batch = self.bench.batch(&self.lease, self.head, events, state);
        loop {
            match self.bench.stores.runs.append(&self.lease, batch.clone()).await {
                Ok(appended) => {
                    self.head = appended.head;
                    self.lease.epoch = appended.epoch;
                    return Ok(());
                }
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn think(&mut self) {
        self.append(vec![thought(20)], None).await.unwrap();
    }

    async fn complete(&mut self) {
        let done = apex_core::testkit::completed();
        self.append(vec![done], Some(RunState::Completed)).await.unwrap();
    }

    /// Reads until nothing more comes, and holds every delivery against what may come.
    async fn read(&mut self) {
        let began = std::time::Instant::now();
        while !self.ended {
            let next = tokio::time::timeout(Duration::from_secs(2), self.reader.next()).await;
            match next {
                Err(_) => return,
                Ok(Err(error)) => {
                    assert!(error.is_retryable() && began.elapsed().as_secs() < 30, "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(Ok(delivery)) => self.apply(delivery),
            }
            if self.cursor == self.head && !self.ended && self.epoch == self.lease.epoch {
                return;
            }
        }
    }

    fn apply(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Events(events) => {
                for event in events {
                    let envelope = event.decode().unwrap();
                    assert_eq!((event.seq, envelope.epoch), (self.cursor + 1, self.epoch));
                    let name = (self.epoch, event.seq);
                    let before = self.applied.insert(name, event.json.clone());
                    assert!(before.is_none_or(|before| before == event.json), "{name:?} is twice");
                    self.cursor = event.seq;
                }
            }
            Delivery::Reset { epoch, head, .. } => {
                self.resets += 1;
                (self.epoch, self.cursor) = (epoch, head);
            }
            Delivery::End(state) => {
                assert_eq!(state, RunState::Completed);
                self.ended = true;
            }
            Delivery::Live(_) => {}
        }
    }

    /// Goes on to the end, and holds what the reader applied against the log.
    async fn end(mut self) -> usize {
        self.complete().await;
        while !self.ended {
            self.read().await;
        }
        let log = self.bench.log(&self.user, self.lease.run).await;
        for event in &log {
            let name = (event.decode().unwrap().epoch, event.seq);
            assert_eq!(name.0, self.lease.epoch);
            if let Some(applied) = self.applied.get(&name) {
                assert_eq!(*applied, event.json);
            }
        }
        assert!(log.last().is_none_or(|last| last.terminal));
        let view = self.bench.stores.runs.view(&self.user, self.lease.run).await.unwrap();
        assert_eq!((view.state, view.head), (RunState::Completed, self.head));
        assert!(view.snapshot.result.is_some());
        assert_eq!(log.len() as u64, view.head + 1 - view.oldest);
        self.resets
    }
}

fn server(options: &Options) -> Option<Server> {
    Server::start_or_skip(Service::Redis, options)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_gone_are_brought_again() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    say(server.port(), "SCRIPT FLUSH");
    tale.think().await;
    say(server.port(), "SCRIPT FLUSH");
    assert_eq!(tale.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_emptied_redis_had_is_reset_under_a_new_epoch() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    let before = tale.lease.epoch;
    say(server.port(), "FLUSHALL");
    tale.think().await;
    assert_ne!(tale.lease.epoch, before);
    tale.read().await;
    assert_eq!((tale.cursor, tale.epoch), (5, tale.lease.epoch));
    assert_eq!(tale.end().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_finds_the_log_gone_makes_the_new_epoch() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    let before = tale.lease.epoch;
    say(server.port(), "FLUSHALL");
    let view = tale.bench.stores.runs.view(&tale.user, tale.lease.run).await.unwrap();
    assert_ne!(view.epoch, before);
    assert_eq!((view.head, view.oldest), (4, 5), "it goes on after what was seen");
    tale.think().await;
    assert_eq!(tale.lease.epoch, view.epoch, "the writer goes on in it");
    assert_eq!(tale.end().await, 1);
}

/// While Redis is away appends go to the database, and everything is there afterwards, or told to be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_and_comes_back_empty_costs_detail_alone() {
    let Some(mut server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    server.kill("redis");
    for _ in 0..3 {
        tale.think().await;
    }
    assert_eq!(tale.head, 7);
    server.restart("redis").unwrap();
    say(server.port(), "FLUSHALL");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    tale.think().await;
    assert_eq!(tale.end().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_run_is_not_lost_with_redis() {
    let Some(mut server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    server.kill("redis");
    tale.complete().await;
    server.restart("redis").unwrap();
    say(server.port(), "FLUSHALL");
    while !tale.ended {
        tale.read().await;
    }
    let view = tale.bench.stores.runs.view(&tale.user, tale.lease.run).await.unwrap();
    assert_eq!((view.state, view.head), (RunState::Completed, 5));
    assert!(view.snapshot.result.is_some());
}

/// A file that is synced at every write loses nothing: the writer goes on, and who takes the run over later begins a new
/// epoch, because nobody can know that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_a_file_comes_back_with_its_logs() {
    let kept = Options::default().set("appendonly", "yes").set("appendfsync", "always");
    let Some(mut server) = server(&kept) else { return };
    let mut tale = Tale::begin(server.url()).await;
    let before = tale.lease.epoch;
    server.kill("redis");
    server.restart("redis").unwrap();
    tale.think().await;
    tale.think().await;
    assert_eq!(tale.lease.epoch, before);
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    assert_eq!((claimed.lease.head, claimed.attempt), (6, 2));
    assert_ne!(claimed.lease.epoch, before);
    let late = tale.append(vec![thought(1)], None).await;
    assert_eq!(late.unwrap_err().kind(), Kind::Fenced);
    (tale.lease, tale.bench) = (claimed.lease, other);
    tale.think().await;
    assert_eq!(tale.end().await, 1);
}

/// Two servers, the second a replica that lags: it is promoted without the last events.
struct Failover {
    first: Server,
    second: Server,
    clients: Proxy,
    copying: Proxy,
}

impl Failover {
    async fn begin() -> Option<Self> {
        let (first, second) = (server(&Options::default())?, server(&Options::default())?);
        let clients = Proxy::start(first.port()).unwrap();
        let copying = Proxy::start(first.port()).unwrap();
        say(second.port(), &format!("REPLICAOF 127.0.0.1 {}", copying.port()));
        let follows = async || say(second.port(), "INFO replication").contains("link_status:up");
        until("it follows", follows).await;
        Some(Self { first, second, clients, copying })
    }

    fn url(&self) -> String {
        self.first.url_at(self.clients.port())
    }

    /// From now on nothing is copied.
    async fn lag(&self) {
        let told = |port| {
            let info = say(port, "INFO replication");
            let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            line.map(str::to_owned)
        };
        let (first, second) = (self.first.port(), self.second.port());
        until("it has everything", async || told(first) == told(second)).await;
        self.copying.freeze();
    }

    fn promote(&self) {
        say(self.second.port(), "REPLICAOF NO ONE");
        self.clients.redirect(self.second.port());
        self.clients.cut();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_finds_out_that_a_replica_lagged() {
    let Some(servers) = Failover::begin().await else { return };
    let mut tale = Tale::begin(&servers.url()).await;
    let before = tale.lease.epoch;
    servers.lag().await;
    tale.think().await;
    tale.think().await;
    tale.read().await;
    assert_eq!((tale.cursor, tale.resets), (6, 0));
    servers.promote();
    tale.think().await;
    assert_ne!(tale.lease.epoch, before);
    assert_eq!(tale.end().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_over_does_not_trust_a_server_that_was_promoted() {
    let Some(servers) = Failover::begin().await else { return };
    let mut tale = Tale::begin(&servers.url()).await;
    let before = tale.lease.epoch;
    servers.lag().await;
    tale.think().await;
    tale.read().await;
    servers.promote();
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    assert_ne!(claimed.lease.epoch, before);
    tale.head = claimed.lease.head;
    (tale.lease, tale.bench) = (claimed.lease, other);
    tale.think().await;
    assert_eq!(tale.end().await, 1);
}

/// The one who is fenced off finds a server that has not heard of the claim yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_at_a_server_that_forgot_the_claim_is_never_read() {
    let Some(servers) = Failover::begin().await else { return };
    let mut tale = Tale::begin(&servers.url()).await;
    servers.lag().await;
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    let said = other.append(&claimed.lease, 4, vec![thought(30)], None).await.unwrap();
    assert_eq!((said.head, said.epoch), (5, tale.lease.epoch));
    servers.promote();
    // It may be taken in, as long as nobody is shown it.
    tale.clock.advance(Duration::from_secs(1));
    let zombie = tale.bench.append(&tale.lease, 4, vec![thought(77)], None).await;
    let log = other.log(&tale.user, tale.lease.run).await;
    let shown = |event: &apex_core::event::Recorded| matches!(event.event(), Ok(Event::AgentThinking { note, .. }) if note.len() == 77);
    assert!(!log.iter().any(shown), "{zombie:?}");
    tale.head = said.head;
    (tale.lease, tale.bench) = (claimed.lease, other);
    tale.think().await;
    assert!(tale.end().await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_memory_costs_speed_alone() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    let before = tale.lease.epoch;
    say(server.port(), "CONFIG SET maxmemory 1");
    for _ in 0..4 {
        tale.think().await;
    }
    tale.read().await;
    assert_eq!(tale.cursor, 8);
    say(server.port(), "CONFIG SET maxmemory 0");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    tale.think().await;
    assert_eq!(tale.lease.epoch, before);
    let log = tale.bench.log(&tale.user, tale.lease.run).await;
    assert_eq!(log.len(), 9, "Redis has what it missed");
    assert_eq!(tale.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes_costs_speed_alone() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    let before = tale.lease.epoch;
    say(server.port(), "CONFIG SET min-replicas-to-write 1");
    for _ in 0..4 {
        tale.think().await;
    }
    say(server.port(), "CONFIG SET min-replicas-to-write 0");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    tale.think().await;
    assert_eq!(tale.lease.epoch, before);
    assert_eq!(tale.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_reply_is_lost_is_there_once() {
    let Some(server) = server(&Options::default()) else { return };
    let proxy = Proxy::start(server.port()).unwrap();
    let mut tale = Tale::begin(&server.url_at(proxy.port())).await;
    for _ in 0..3 {
        let marked = Event::AgentThinking {
            step: StepId(1),
            agent: "triage".into(),
            note: "this reply is lost".into(),
        };
        proxy.lose_reply_to(b"this reply is lost");
        tale.append(vec![marked], None).await.unwrap();
    }
    let log = tale.bench.log(&tale.user, tale.lease.run).await;
    assert_eq!(log.len(), 7);
    assert_eq!(tale.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_on_another_node_is_fenced_by_redis_itself() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    assert_eq!((claimed.lease.head, claimed.lease.epoch), (4, tale.lease.epoch));
    let late = tale.append(vec![thought(1)], None).await;
    assert_eq!(late.unwrap_err().kind(), Kind::Fenced);
    (tale.lease, tale.bench) = (claimed.lease, other);
    tale.think().await;
    assert_eq!(tale.end().await, 0);
}

/// A run is taken over with the newest checkpoint, which only Redis has; an emptied one leaves that of the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_taken_over_where_it_was_left() {
    let Some(server) = server(&Options::default()) else { return };
    for emptied in [false, true] {
        say(server.port(), "FLUSHALL");
        let mut tale = Tale::begin(server.url()).await;
        for (saved, seconds) in [
            (Checkpoint::whole(3, "saved"), 6),
            (Checkpoint::more(3, " whole"), 6),
            (Checkpoint::more(3, " passed"), 1),
            (Checkpoint::more(3, " on"), 1),
        ] {
            tale.clock.advance(Duration::from_secs(seconds));
            let mut batch = tale.bench.batch(&tale.lease, tale.head, vec![thought(9)], None);
            batch.checkpoint = Some(saved);
            let appended = tale.bench.stores.runs.append(&tale.lease, batch).await.unwrap();
            tale.head = appended.head;
        }
        if emptied {
            say(server.port(), "FLUSHALL");
        }
        tale.clock.advance(Duration::from_secs(20));
        let other = tale.another_node().await;
        let claimed = other.claim(other.node(), 1).await.remove(0);
        let state = claimed.checkpoint.unwrap().state;
        assert_eq!(state, if emptied { "saved whole" } else { "saved whole passed on" });
        assert_eq!(claimed.lease.epoch == tale.lease.epoch, !emptied);
    }
}

/// What goes to the database because something may have been asked of the run brings the checkpoint along: the database
/// then knows as many events as Redis, and who takes over believes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_not_left_behind_by_a_look_at_what_was_asked() {
    let Some(server) = server(&Options::default()) else { return };
    let mut tale = Tale::begin(server.url()).await;
    for saved in [Checkpoint::whole(3, "first"), Checkpoint::more(3, " second")] {
        let mut batch = tale.bench.batch(&tale.lease, tale.head, vec![thought(9)], None);
        batch.checkpoint = Some(saved);
        tale.head = tale.bench.stores.runs.append(&tale.lease, batch).await.unwrap().head;
        let user = Principal::vouched(tale.lease.user, apex_core::principal::Scopes::USER);
        let stop = apex_core::run::Signal::Stop(StepId(9));
        tale.bench.stores.runs.signal(&user, tale.lease.run, stop).await.unwrap();
    }
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    assert_eq!(claimed.checkpoint.unwrap().state, "first second");
}

/// As with everything else that Redis has: see `login`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_with_the_named_rights_is_enough_for_a_log() {
    let page = include_str!("../../../docs/operations.md");
    let (_, after) = page.split_once("The login needs the commands `").unwrap();
    let (commands, _) = after.split_once('`').unwrap();
    let Some(server) = server(&Options::default()) else { return };
    let rights: Vec<String> =
        commands.split(' ').map(|command| format!("+{}", command.to_lowercase())).collect();
    let user = format!("ACL SETUSER apex on >s3cret ~tale:* &tale:* {}", rights.join(" "));
    assert_eq!(say(server.port(), &user), "+OK");
    let mut tale = Tale::begin(&server.url().replace("//", "//apex:s3cret@")).await;
    tale.clock.advance(Duration::from_secs(20));
    let other = tale.another_node().await;
    let claimed = other.claim(other.node(), 1).await.remove(0);
    (tale.lease, tale.bench) = (claimed.lease, other);
    tale.think().await;
    say(server.port(), "FLUSHALL");
    tale.think().await;
    assert_eq!(tale.end().await, 1);
    assert_eq!(say(server.port(), "ACL LOG"), "*0", "nothing was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_keep_a_log_is_refused_at_the_start() {
    let Some(server) = server(&Options::default()) else { return };
    let clock = Arc::new(VirtualClock::still());
    let folder = tempfile::tempdir().unwrap();
    for policy in ["allkeys-lru", "volatile-ttl"] {
        say(server.port(), &format!("CONFIG SET maxmemory-policy {policy}"));
        let refused = stores(folder.path(), server.url(), "tale", &clock).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Config);
        assert!(refused.to_string().contains("noeviction"), "{refused}");
    }
    say(server.port(), "CONFIG SET maxmemory-policy noeviction");
    stores(folder.path(), server.url(), "tale", &clock).await.unwrap();
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let shared = redis::open(&options(server.url()), &*clock).await.unwrap();
    let forgetful = memory::open(memory::MemoryOptions::default(), Arc::clone(&time));
    let refused = shared.with_event_log(forgetful, RunLimits::default(), time).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Config);
}
