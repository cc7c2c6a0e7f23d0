//! All of it together: carries a plan out, and collects the history.

use crate::line::{BEGAN, Broadcast, SimulatedClock, State};
use crate::node::{self, Running};
use crate::plan::{Fault, HEALED, Plan, Planned};
use crate::user;
use apex_core::auth::{Standing, User};
use apex_core::clock::Clock;
use apex_core::id::UserId;
use apex_core::principal::{Principal, Scopes};
use apex_core::run::{LocalWakeup, RunLimits, Wakeup};
use apex_core::store::Stores;
use apex_core::store::memory::{MemoryOptions, Replica, replicated};
use apex_core::testkit::Random;
use apex_core::testkit::history::{Applied, Counted, History, Log, Reader, Violation, Written};
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use turmoil::Sim;

/// How long a node may be silent before its runs are taken over.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// The connections that a user may have.
pub(crate) const PER_USER: usize = 16;

/// How much time passes between two looks at the network.
const TICK: Duration = Duration::from_millis(20);

/// How long users may take before something is stuck.
const LONGEST: Duration = Duration::from_secs(240);
/// How long nodes have to put away what a run took that has ended.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How long a log may stand still once nothing goes wrong any more: a lease that was just renewed, the look that finds
/// it has run out, and the next round of the run's.
const PATIENCE: Duration = Duration::from_secs(8);

/// A defect that is planted, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Defect {
    /// None.
    #[default]
    None,
    /// The store loses what it acknowledged, and does not say so by a new epoch.
    LosesUnnoticed,
    /// Writers go on that were fenced off.
    IgnoresFences,
}

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub history: History,
    /// The broken promises.
    pub violations: Vec<Violation>,
    /// Stands for the history.
    pub hash: u64,
    /// Logs of which something acknowledged is gone.
    pub lives_lost: usize,
    /// How long it took, in its own time.
    pub took: Duration,
}

impl Outcome {
    /// How often a reader was told where a run stands instead of getting the rest.
    #[must_use]
    pub fn resets(&self) -> usize {
        let applied = self.history.readers.iter().flat_map(|reader| &reader.applied);
        applied.filter(|applied| matches!(applied, Applied::Reset { .. })).count()
    }

    /// How often a node went on with a run that another had.
    #[must_use]
    pub fn taken_over(&self) -> usize {
        let events = self.history.acknowledged.iter();
        events.filter(|event| event.envelope.contains("\"run_resumed\"")).count()
    }
}

/// What everybody in the simulation shares.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) defect: Defect,
    pub(crate) stores: Stores,
    replica: Replica,
    /// Where the store works.
    pub(crate) store: OnceLock<Handle>,
    pub(crate) random: Mutex<Random>,
    pub(crate) lines: Mutex<Vec<State>>,
    pub(crate) wakeups: Mutex<Vec<Arc<LocalWakeup>>>,
    pub(crate) nodes: Mutex<Vec<Option<Running>>>,
    pub(crate) acknowledged: Mutex<Vec<Written>>,
    pub(crate) readers: Mutex<Vec<Reader>>,
    gone: Mutex<BTreeSet<String>>,
    /// The run of each question by which its user has left it.
    pub(crate) answered: Mutex<BTreeSet<String>>,
}

impl World {
    fn new(seed: u64, defect: Defect) -> Arc<Self> {
        let plan = Plan::of(seed);
        Arc::new_cyclic(|world| {
            let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(0));
            let options = MemoryOptions {
                runs: RunLimits { lease: LEASE, ..RunLimits::default() },
                ..MemoryOptions::default()
            };
            let wakeup: Arc<dyn Wakeup> = Arc::new(Broadcast(world.clone()));
            let (stores, replica) = replicated(options, clock, wakeup);
            Self {
                seed,
                defect,
                stores,
                replica,
                store: OnceLock::new(),
                random: Mutex::new(Random::seeded(!seed)),
                lines: Mutex::new(vec![State::default(); plan.nodes]),
                wakeups: Mutex::new((0..plan.nodes).map(|_| Arc::default()).collect()),
                nodes: Mutex::new((0..plan.nodes).map(|_| None).collect()),
                acknowledged: Mutex::default(),
                readers: Mutex::default(),
                gone: Mutex::default(),
                answered: Mutex::default(),
                plan,
            }
        })
    }

    /// Begins or ends a fault.
    fn turn(&self, sim: &mut Sim<'_>, fault: Fault, begins: bool) {
        let host = |node: usize| format!("node-{node}");
        let change = |node: usize, change: &dyn Fn(&mut State)| {
            change(&mut self.lines.lock().unwrap()[node]);
        };
        let count = |count: &mut usize| match begins {
            true => *count += 1,
            false => *count -= 1,
        };
        match (fault, begins) {
            (Fault::Cut { node, user }, true) => sim.partition(host(node), user::name(user)),
            (Fault::CutOneWay { node, user }, true) => {
                sim.partition_oneway(host(node), user::name(user));
            }
            (Fault::Cut { node, user } | Fault::CutOneWay { node, user }, false) => {
                sim.repair(host(node), user::name(user));
            }
            (Fault::Hold { node, user }, true) => sim.hold(host(node), user::name(user)),
            (Fault::Hold { node, user }, false) => sim.release(host(node), user::name(user)),
            (Fault::Slow { node, user, millis }, _) => {
                let millis = if begins { millis } else { 20 };
                let latency = Duration::from_millis(millis);
                sim.set_link_latency(host(node), user::name(user), latency);
            }
            (Fault::NoStore { node }, _) => change(node, &|line| count(&mut line.cut)),
            (Fault::Deaf { node }, _) => change(node, &|line| count(&mut line.deaf)),
            (Fault::LostAnswers { node, once_in }, _) => {
                change(node, &|line| line.lost_answers = if begins { once_in } else { 0 });
            }
            (Fault::SlowStore { node, millis }, _) => {
                change(node, &|line| line.slow = if begins { millis } else { 0 });
            }
            (Fault::Crash { node }, true) => sim.crash(host(node)),
            (Fault::Crash { node }, false) => {
                // Two faults may have killed it.
                if !sim.is_host_running(host(node)) {
                    sim.bounce(host(node));
                }
            }
            (Fault::Failover, true) => self.replica.catch_up(),
            (Fault::Failover, false) => self.fail_over(),
        }
    }

    fn fail_over(&self) {
        let lost = match self.defect {
            Defect::LosesUnnoticed => self.replica.promote_unnoticed(),
            _ => self.replica.promote(),
        };
        self.gone.lock().unwrap().extend(lost.iter().map(ToString::to_string));
        // Whoever lost the connection to the store looks again.
        for wakeup in self.wakeups.lock().unwrap().iter() {
            wakeup.wake_all();
        }
    }

    /// A user's account; made at the first call.
    fn account(&self, number: usize) -> Principal {
        let clock = SimulatedClock::new(0);
        let account = User {
            user: UserId::new(&clock),
            scopes: Scopes::USER,
            created_at: clock.now(),
            standing: Standing::Active,
        };
        let subject = format!("dev:{}", user::name(number));
        let user = at_once(self.stores.users.resolve(&subject, account)).user;
        Principal::vouched(user, Scopes::USER)
    }

    /// Every run of every user, as the store has it.
    fn logs(&self) -> BTreeMap<String, Log> {
        let mut logs = BTreeMap::new();
        for number in 0..self.plan.users.len() {
            let (name, owner) = (user::name(number), self.account(number));
            for entry in at_once(self.stores.runs.inbox(&owner, 0, 1_000)).entries {
                let page = at_once(self.stores.runs.read(&owner, entry.run, 0, 1_000));
                let events = page.events.iter().filter_map(|event| {
                    Written::read(&serde_json::from_slice(&event.json).unwrap())
                });
                let log = Log {
                    owner: name.clone(),
                    epoch: page.epoch.to_string(),
                    oldest: page.oldest,
                    events: events.collect(),
                    outcome_alone: false,
                };
                logs.insert(entry.run.to_string(), log);
            }
        }
        logs
    }

    /// Whether every run has ended.
    fn is_over(&self) -> bool {
        (0..self.plan.users.len()).all(|number| {
            let owner = self.account(number);
            let entries = at_once(self.stores.runs.inbox(&owner, 0, 1_000)).entries;
            let mut runs = entries.iter().map(|entry| entry.run);
            runs.all(|run| at_once(self.stores.runs.view(&owner, run)).state.is_terminal())
        })
    }

    /// What is left when everybody has gone.
    fn left(&self) -> Vec<Counted> {
        let mut counted = Vec::new();
        let mut none = |what: String, count: usize, most: u64| {
            counted.push(Counted { what, count: count as u64, most });
        };
        for (number, node) in self.nodes.lock().unwrap().iter().enumerate() {
            let Some(Running { apex, wakeup }) = node else {
                none(format!("nodes like {number} that are not there"), 1, 0);
                continue;
            };
            let hub = apex.service().hub().statistics();
            none(format!("connections left at node {number}"), hub.connections, 0);
            none(format!("users left at node {number}"), hub.users + hub.unknown, 0);
            // Work and revocations are listened to for as long as the node lives.
            none(format!("topics left at node {number}"), wakeup.topics(), 2);
        }
        counted
    }
}

/// What the store in memory answers without waiting.
fn at_once<T>(call: impl Future<Output = apex_core::error::Result<T>>) -> T {
    call.now_or_never().unwrap().unwrap()
}

/// Carries out what a seed says. To be called within [`crate::seeded`] of the same seed.
///
/// # Panics
/// When the simulation itself fails.
#[must_use]
pub fn simulate(seed: u64, defect: Defect) -> Outcome {
    let world = World::new(seed, defect);
    // Accounts are older than what a failover can lose: a name whose account is gone would come back as somebody else.
    for number in 0..world.plan.users.len() {
        world.account(number);
    }
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(2 * LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .tcp_capacity(1_024)
        .enable_random_order()
        .build();
    sim.host("store", {
        let world = Arc::clone(&world);
        move || {
            let world = Arc::clone(&world);
            async move {
                let _ = world.store.set(Handle::current());
                std::future::pending().await
            }
        }
    });
    for number in 0..world.plan.nodes {
        let world = Arc::clone(&world);
        sim.host(format!("node-{number}"), move || node::serve(Arc::clone(&world), number));
    }
    for number in 0..world.plan.users.len() {
        sim.client(user::name(number), user::live(Arc::clone(&world), number));
    }
    let (took, stuck) = run(&mut sim, &world);
    let mut history = History {
        acknowledged: world.acknowledged.lock().unwrap().clone(),
        logs: world.logs(),
        readers: world.readers.lock().unwrap().clone(),
        counted: world.left(),
        gone: world.gone.lock().unwrap().clone(),
        patience: PATIENCE,
        calm_from: Duration::from_millis(BEGAN as u64) + HEALED,
    };
    let asked: usize = world.plan.users.iter().sum();
    let answered = world.answered.lock().unwrap().clone();
    // A failover may take a run that was read to its end, and nobody asks again.
    let is_there = |run: &&String| history.logs.contains_key(*run) || history.gone.contains(*run);
    let unanswered = asked.abs_diff(answered.iter().filter(is_there).count());
    let unasked = history.logs.keys().filter(|run| !answered.contains(*run)).count();
    let count =
        |what: &str, count: usize| Counted { what: what.to_owned(), count: count as u64, most: 0 };
    history.counted.push(count("questions without exactly one run", unanswered + unasked));
    history.counted.push(count("users who are stuck", usize::from(stuck)));
    let mut hasher = DefaultHasher::new();
    format!("{history:?}").hash(&mut hasher);
    let kept = |written: &&Written| {
        !history.gone.contains(&written.run)
            && history.logs.get(&written.run).is_some_and(|log| log.epoch == written.epoch)
    };
    let lives: BTreeSet<_> = history
        .acknowledged
        .iter()
        .filter(|written| !kept(written))
        .map(|written| &written.epoch)
        .collect();
    Outcome {
        violations: history.judge(),
        hash: hasher.finish(),
        lives_lost: lives.len(),
        took,
        history,
    }
}

/// Lets the simulation go on until all users have left, while faults come and go; whether some never leave. Then a
/// failover may have taken ends that they had read, and the runs have some time to end again.
fn run(sim: &mut Sim<'_>, world: &World) -> (Duration, bool) {
    let mut turns: Vec<(Duration, bool, Fault)> = world
        .plan
        .faults
        .iter()
        .flat_map(|Planned { fault, from, until }| [(*from, true, *fault), (*until, false, *fault)])
        .collect();
    turns.sort_by_key(|(at, begins, _)| (*at, *begins));
    let mut turns = turns.into_iter().peekable();
    let (mut left, mut over) = (None, None);
    loop {
        while let Some((_, begins, fault)) = turns.next_if(|(at, ..)| *at <= sim.elapsed()) {
            world.turn(sim, fault, begins);
        }
        match sim.step() {
            Ok(false) if sim.elapsed() < LONGEST => {}
            Ok(false) => return (sim.elapsed(), true),
            Ok(true) => {
                let now = sim.elapsed();
                let until = *left.get_or_insert(now) + PATIENCE;
                if world.is_over() {
                    over.get_or_insert(now);
                }
                // Whoever had a run lets go of it right after its end.
                if over.is_some_and(|over| now >= over + AFTERWARDS) || now >= until {
                    return (now, false);
                }
            }
            Err(error) => panic!("the simulation broke off: {error}"),
        }
    }
}
